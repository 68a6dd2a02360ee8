#include "code.c"
/* The sums of some channels for the numbers of a place, whose weights are codes: what they are worth is in `levels`.
 * Each of `groups` groups of `size` numbers is summed, one product after the other, and times its scale added. A
 * channel takes `row_words` words. */
static void net_sum_groups(const uint32_t *weight, uint32_t row_words, uint32_t field, const float *levels,
                           const float *scales, uint32_t groups, uint32_t size, const float *x, uint32_t channels,
                           float *sums)
{
    for (uint32_t n = 0; n < channels; n++, weight += row_words) {
        float total = 0.0f;
        for (uint32_t g = 0; g < groups; g++) {
            float sum = 0.0f;
            for (uint32_t k = g * size; k < (g + 1) * size; k++) {
                sum += levels[net_code(weight, field, k)] * x[k];
            }
            total += sum * *scales++;
        }
        sums[n] = total;
    }
}
