#include "window.c"
/* The largest numbers that a window sees, of each channel; NaN wins. */
static void net_max_of_floats(const net_window *window, uint32_t pixel, const float *x, uint32_t channels, float *y)
{
    uint32_t taps = net_taps(window);
    y += pixel * channels;
    for (uint32_t c = 0; c < channels; c++) {
        y[c] = -INFINITY;
    }
    for (uint32_t tap = 0; tap < taps; tap++) {
        uint32_t place = net_tap_place(window, pixel, tap);
        for (uint32_t c = 0; c < channels && place != NET_OUTSIDE; c++) {
            float value = x[place * channels + c];
            if (value > y[c] || value != value) {
                y[c] = value;
            }
        }
    }
}
