#include "lanes_total.c"
/* The sum of numbers in float64: number i in lane i mod 32, one after the other. */
static double net_total(const double *x, uint32_t count)
{
    double lanes[32] = {0.0};
    for (uint32_t i = 0; i < count; i++) {
        lanes[i % 32] = lanes[i % 32] + x[i];
    }
    return net_lanes_total(lanes);
}
