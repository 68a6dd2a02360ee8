#include "code.c"
#include "window.c"
/* The sums of the codes that a window sees, of each channel, as floats. */
static void net_total_of_codes(const net_window *window, uint32_t pixel, const uint32_t *x, uint32_t field,
                               uint32_t channels, float *y)
{
    uint32_t taps = net_taps(window);
    for (uint32_t c = 0; c < channels; c++) {
        int32_t total = 0;
        for (uint32_t tap = 0; tap < taps; tap++) {
            uint32_t place = net_tap_place(window, pixel, tap);
            total += place == NET_OUTSIDE ? 0 : (int32_t)net_code(x, field, place * channels + c);
        }
        y[c] = (float)total;
    }
}
