#include "fill_words.c"
#include "set_code.c"
#include "window.c"
/* Set the bits of weights whose taps lie beside the image, `channels` for each tap; say whether there are any. */
static int net_gather_outside(const net_window *window, uint32_t pixel, uint32_t channels, uint32_t *to)
{
    uint32_t taps = net_taps(window);
    int found = 0;
    net_fill_words(to, (taps * channels + 31) / 32, 0);
    for (uint32_t tap = 0; tap < taps; tap++) {
        if (net_tap_place(window, pixel, tap) == NET_OUTSIDE) {
            found = 1;
            for (uint32_t c = 0; c < channels; c++) {
                net_set_code(to, 1, tap * channels + c, 1);
            }
        }
    }
    return found;
}
