#include "axes.c"
/* Put `count` numbers of four bytes elsewhere. */
static void net_move_words(const net_axis *axes, uint32_t axis_count, uint32_t count, const void *x, void *y)
{
    for (uint32_t i = 0; i < count; i++) {
        uint32_t from, to;
        net_find(axes, axis_count, i, &from, &to);
        memcpy((char *)y + 4 * to, (const char *)x + 4 * from, 4);
    }
}
