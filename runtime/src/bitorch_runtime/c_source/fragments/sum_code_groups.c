#include "as_signed.c"
#include "code.c"
/* The sums of some channels for what the codes of a place stand for: of each of `groups` groups of `size` inputs the
 * exact sum of products, times its scale, one after the other. A channel takes `row_words` words, in fields of `field`
 * bits; the stored m is the weight step*m + lowest. */
static void net_sum_code_groups(const uint32_t *weight, uint32_t row_words, uint32_t field, uint32_t step,
                                uint32_t lowest, const float *scales, uint32_t groups, uint32_t size,
                                const int16_t *values, uint32_t channels, float *sums)
{
    for (uint32_t n = 0; n < channels; n++, weight += row_words) {
        for (uint32_t g = 0; g < groups; g++) {
            uint32_t sum = 0;
            float part;
            for (uint32_t k = g * size; k < (g + 1) * size; k++) {
                sum += (step * net_code(weight, field, k) + lowest) * (uint32_t)(int32_t)values[k];
            }
            part = (float)net_as_signed(sum) * *scales++;
            sums[n] = g == 0 ? part : sums[n] + part;
        }
    }
}
