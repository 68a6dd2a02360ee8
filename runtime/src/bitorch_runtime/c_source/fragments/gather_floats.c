#include "window.c"
/* Gather the numbers that a window sees, in the order of weights: `count` of each place, from number `first` of its
 * `channels` on. Beside the image are zeros. */
static void net_gather_floats(const net_window *window, uint32_t pixel, const float *x, uint32_t channels,
                              uint32_t first, uint32_t count, float *to)
{
    uint32_t taps = net_taps(window);
    for (uint32_t tap = 0; tap < taps; tap++, to += count) {
        uint32_t place = net_tap_place(window, pixel, tap);
        for (uint32_t c = 0; c < count; c++) {
            to[c] = place == NET_OUTSIDE ? 0.0f : x[place * channels + first + c];
        }
    }
}
