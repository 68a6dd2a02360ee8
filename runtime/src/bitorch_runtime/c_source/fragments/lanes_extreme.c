#include "further.c"
/* The largest of some numbers, or the smallest: number i in lane i mod 32, then lane l with l + 16, 8, 4, 2, 1. */
static float net_lanes_extreme(const float *x, uint32_t count, int smallest)
{
    float lanes[32];
    for (uint32_t l = 0; l < 32; l++) {
        lanes[l] = l < count ? x[l] : smallest ? INFINITY : -INFINITY;
    }
    for (uint32_t i = 32; i < count; i++) {
        lanes[i % 32] = net_further(lanes[i % 32], x[i], smallest);
    }
    for (uint32_t half = 16; half > 0; half /= 2) {
        for (uint32_t l = 0; l < half; l++) {
            lanes[l] = net_further(lanes[l], lanes[l + half], smallest);
        }
    }
    return lanes[0];
}
