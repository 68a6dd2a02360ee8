#include "axes.c"
/* Take indices; 1 where one is not from 0 to below - 1, else 0. */
static int net_read_indices(const net_axis *axes, uint32_t axis_count, uint32_t count, const int32_t *x, int32_t *y,
                            int32_t below)
{
    for (uint32_t i = 0; i < count; i++) {
        uint32_t from, to;
        net_find(axes, axis_count, i, &from, &to);
        if (x[from] < 0 || x[from] >= below) {
            return 1;
        }
        y[to] = x[from];
    }
    return 0;
}
