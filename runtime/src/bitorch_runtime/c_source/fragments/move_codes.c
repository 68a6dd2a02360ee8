#include "axes.c"
#include "code.c"
#include "set_code.c"
/* Put `count` codes elsewhere, the first at code `first`. */
static void net_move_codes(const net_axis *axes, uint32_t axis_count, uint32_t count, const uint32_t *x, uint32_t *y,
                           uint32_t field, uint32_t first)
{
    for (uint32_t i = 0; i < count; i++) {
        uint32_t from, to;
        net_find(axes, axis_count, i, &from, &to);
        net_set_code(y, field, first + to, net_code(x, field, from));
    }
}
