#include "window.c"
/* The sums of the numbers that a window sees, of each channel, one after the other. */
static void net_total_of_floats(const net_window *window, uint32_t pixel, const float *x, uint32_t channels, float *y)
{
    uint32_t taps = net_taps(window);
    for (uint32_t c = 0; c < channels; c++) {
        y[c] = 0.0f;
    }
    for (uint32_t tap = 0; tap < taps; tap++) {
        uint32_t place = net_tap_place(window, pixel, tap);
        for (uint32_t c = 0; c < channels && place != NET_OUTSIDE; c++) {
            y[c] += x[place * channels + c];
        }
    }
}
