/* The sums of some channels for the numbers of a window: one product after the other, from 0 on, each rounded, and
 * each sum rounded. */
static void net_sum_floats(const float *weight, const float *x, uint32_t count, uint32_t channels, float *sums)
{
    for (uint32_t n = 0; n < channels; n++) {
        float sum = 0.0f;
        for (uint32_t k = 0; k < count; k++) {
            sum += *weight++ * x[k];
        }
        sums[n] = sum;
    }
}
