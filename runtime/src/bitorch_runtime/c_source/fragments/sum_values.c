#include "as_signed.c"
/* The sums D of some channels for the numbers of a window, by multiplications. A channel's `count` weights begin at a
 * word, in fields of `field` bits; the stored m is the weight step*m + lowest. */
static void net_sum_values(const uint32_t *weight, uint32_t field, uint32_t step, uint32_t lowest,
                           const int16_t *values, uint32_t count, uint32_t channels, int32_t *sums)
{
    uint32_t mask = ((uint32_t)1 << field) - 1, total = 0;
    for (uint32_t k = 0; k < count; k++) {
        total += (uint32_t)(int32_t)values[k];
    }
    for (uint32_t n = 0; n < channels; n++) {
        uint32_t products = 0;
        for (uint32_t k = 0; k < count;) {
            uint32_t word = *weight++;
            for (uint32_t bit = 0; bit < 32 && k < count; bit += field, k++, word >>= field) {
                products += (word & mask) * (uint32_t)(int32_t)values[k];
            }
        }
        sums[n] = net_as_signed(step * products + lowest * total);
    }
}
