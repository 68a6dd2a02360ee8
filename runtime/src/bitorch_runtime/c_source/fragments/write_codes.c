#include "axes.c"
#include "code.c"
/* Give codes as bytes. */
static void net_write_codes(const net_axis *axes, uint32_t axis_count, uint32_t count, const uint32_t *x,
                            uint32_t field, uint8_t *y)
{
    for (uint32_t i = 0; i < count; i++) {
        uint32_t from, to;
        net_find(axes, axis_count, i, &from, &to);
        y[to] = (uint8_t)net_code(x, field, from);
    }
}
