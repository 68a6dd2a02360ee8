#include "fused.c"
/* y = y*multiply + offset, one rounding. */
static void net_norm_row(float *y, const float *multiply, const float *offset, uint32_t count)
{
    for (uint32_t i = 0; i < count; i++) {
        y[i] = net_fused(y[i], multiply[i], offset[i]);
    }
}
