#include "further.c"
#include "number.c"
#include "read_at.c"
/* The largest number of each channel over `places` places from number `first` on, or the smallest. */
static void net_place_extremes(const net_axis *axes, uint32_t axis_count, uint32_t places, const void *x,
                               uint32_t field, uint32_t first, uint32_t channels, int smallest, float *y)
{
    for (uint32_t p = 0; p < places; p++) {
        uint32_t at = first + net_read_at(axes, axis_count, p);
        for (uint32_t c = 0; c < channels; c++) {
            float value = net_number(x, field, at + c);
            y[c] = p == 0 ? value : net_further(y[c], value, smallest);
        }
    }
}
