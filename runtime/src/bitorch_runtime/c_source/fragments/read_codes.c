#include "axes.c"
#include "set_code.c"
/* Take codes from bytes; 1 where one is larger than `most`, else 0. */
static int net_read_codes(const net_axis *axes, uint32_t axis_count, uint32_t count, const uint8_t *x, uint32_t *y,
                          uint32_t field, uint32_t most)
{
    for (uint32_t i = 0; i < count; i++) {
        uint32_t from, to;
        net_find(axes, axis_count, i, &from, &to);
        if (x[from] > most) {
            return 1;
        }
        net_set_code(y, field, to, x[from]);
    }
    return 0;
}
