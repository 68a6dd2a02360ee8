#include "axes.c"
/* y = a where the condition is not 0, else as it is. The axes say where a and the condition are read. */
static void net_first_where(const net_axis *axes, uint32_t axis_count, uint32_t count, const float *a,
                            const float *condition, float *y)
{
    for (uint32_t i = 0; i < count; i++) {
        uint32_t one, other;
        net_find(axes, axis_count, i, &one, &other);
        if (condition[other] != 0.0f) {
            y[i] = a[one];
        }
    }
}
