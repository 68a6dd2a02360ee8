#include "code.c"
#include "set_code.c"
#include "window.c"
/* The largest codes that a window sees, of each channel; 0 where it sees none. */
static void net_max_of_codes(const net_window *window, uint32_t pixel, const uint32_t *x, uint32_t field,
                             uint32_t channels, uint32_t *y)
{
    uint32_t taps = net_taps(window);
    for (uint32_t c = 0; c < channels; c++) {
        net_set_code(y, field, pixel * channels + c, 0);
    }
    for (uint32_t tap = 0; tap < taps; tap++) {
        uint32_t place = net_tap_place(window, pixel, tap);
        for (uint32_t c = 0; c < channels && place != NET_OUTSIDE; c++) {
            uint32_t code = net_code(x, field, place * channels + c);
            if (code > net_code(y, field, pixel * channels + c)) {
                net_set_code(y, field, pixel * channels + c, code);
            }
        }
    }
}
