#include "axes.c"
/* y = function(a, b), number by number; an axis where one of them has one place repeats it. The axes say where a and
 * b are read. */
static void net_pairs(float (*function)(float, float), const net_axis *axes, uint32_t axis_count, uint32_t count,
                      const float *a, const float *b, float *y)
{
    for (uint32_t i = 0; i < count; i++) {
        uint32_t one, other;
        net_find(axes, axis_count, i, &one, &other);
        y[i] = function(a[one], b[other]);
    }
}
