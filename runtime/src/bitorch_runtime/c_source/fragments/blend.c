/* Pixels between those of an axis: `taps` of them make each of `count`, by places and weights of their own, from the
 * first to the last. Before the axis are `outer` rows, behind it `inner` numbers. */
static void net_blend(const float *x, uint32_t outer, uint32_t size, uint32_t inner, uint32_t count, uint32_t taps,
                      const uint32_t *places, const float *weights, float *y)
{
    for (uint32_t o = 0; o < outer; o++, x += size * inner) {
        for (uint32_t i = 0; i < count; i++, y += inner) {
            for (uint32_t c = 0; c < inner; c++) {
                float sum = x[places[i * taps] * inner + c] * weights[i * taps];
                for (uint32_t k = 1; k < taps; k++) {
                    float product = x[places[i * taps + k] * inner + c] * weights[i * taps + k];
                    sum = sum + product;
                }
                y[c] = sum;
            }
        }
    }
}
