#include "code.c"
#include "window.c"
/* Gather what the codes of a window stand for, scale*q - zero, in the order of weights: of `count` channels from
 * `first` on. Beside the image are zeros. */
static void net_gather_values(const net_window *window, uint32_t pixel, const uint32_t *x, uint32_t field,
                              uint32_t channels, uint32_t first, uint32_t count, int32_t scale, int32_t zero,
                              int16_t *to)
{
    uint32_t taps = net_taps(window);
    for (uint32_t tap = 0; tap < taps; tap++, to += count) {
        uint32_t place = net_tap_place(window, pixel, tap);
        for (uint32_t c = 0; c < count; c++) {
            int32_t code = place == NET_OUTSIDE ? 0 : (int32_t)net_code(x, field, place * channels + first + c);
            to[c] = (int16_t)(place == NET_OUTSIDE ? 0 : scale * code - zero);
        }
    }
}
