#include "axes.c"
/* Where number i, of all axes, is read. */
static uint32_t net_read_at(const net_axis *axes, uint32_t count, uint32_t i)
{
    uint32_t from, to;
    net_find(axes, count, i, &from, &to);
    return from;
}
