#include "number.c"
/* Where along an axis of `size` places the largest number stands, or the smallest: the first of equal ones, and the
 * first NaN. Places are `inner` numbers apart. */
static void net_place_of(const void *x, uint32_t field, uint32_t outer, uint32_t size, uint32_t inner, int smallest,
                         int32_t *y)
{
    for (uint32_t o = 0; o < outer; o++) {
        for (uint32_t i = 0; i < inner; i++) {
            uint32_t first = o * size * inner + i, place = 0;
            float best = net_number(x, field, first);
            for (uint32_t s = 1; s < size && best == best; s++) {
                float value = net_number(x, field, first + s * inner);
                if ((smallest ? value < best : value > best) || value != value) {
                    best = value;
                    place = s;
                }
            }
            *y++ = (int32_t)place;
        }
    }
}
