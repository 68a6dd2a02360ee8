#include "code.c"
#include "window.c"
/* Gather what the codes of a window stand for, by a table with a row for each channel or with one, in the order of
 * weights: of `count` channels from `first` on. Beside the image are zeros. */
static void net_gather_table(const net_window *window, uint32_t pixel, const uint32_t *x, uint32_t field,
                             uint32_t channels, uint32_t first, uint32_t count, const float *table, uint32_t levels,
                             uint32_t rows, float *to)
{
    uint32_t taps = net_taps(window);
    for (uint32_t tap = 0; tap < taps; tap++, to += count) {
        uint32_t place = net_tap_place(window, pixel, tap);
        for (uint32_t c = first; c < first + count; c++) {
            to[c - first] =
                place == NET_OUTSIDE ? 0.0f : table[c % rows * levels + net_code(x, field, place * channels + c)];
        }
    }
}
