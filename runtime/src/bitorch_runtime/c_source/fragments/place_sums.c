#include "number.c"
#include "read_at.c"
/* Sums in float64 of each channel over `places` places from number `first` on, one after the other: of x, or of the
 * squares of x - mean; mean 0 is none, and `mean_step` 0 says that all channels have one. */
static void net_place_sums(const net_axis *axes, uint32_t axis_count, uint32_t places, const void *x, uint32_t field,
                           uint32_t first, uint32_t channels, const double *mean, uint32_t mean_step, int square,
                           double *sums)
{
    for (uint32_t c = 0; c < channels; c++) {
        sums[c] = 0.0;
    }
    for (uint32_t p = 0; p < places; p++) {
        uint32_t at = first + net_read_at(axes, axis_count, p);
        for (uint32_t c = 0; c < channels; c++) {
            double value = (double)net_number(x, field, at + c);
            value = mean != 0 ? value - mean[c * mean_step] : value;
            value = square ? value * value : value;
            sums[c] = sums[c] + value;
        }
    }
}
