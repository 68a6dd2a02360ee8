#include "copy_bits.c"
#include "window.c"
/* Gather the codes that a window sees, in the order of weights: `bits` bits of each place, from bit `first` of its
 * `place_bits` on. Beside the image stays what `to` holds. */
static void net_gather_codes(const net_window *window, uint32_t pixel, const uint32_t *x, uint32_t place_bits,
                             uint32_t first, uint32_t bits, uint32_t *to)
{
    uint32_t taps = net_taps(window);
    for (uint32_t tap = 0; tap < taps; tap++) {
        uint32_t place = net_tap_place(window, pixel, tap);
        if (place != NET_OUTSIDE) {
            net_copy_bits(to, tap * bits, x, place * place_bits + first, bits);
        }
    }
}
