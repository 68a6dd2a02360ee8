#include "double_bits.c"
/* x*2^k, rounded once; a k without a number is 0. The product is exact in float64. */
static float net_times_power(float x, float k)
{
    int32_t whole = k != k ? 0 : k > 600.0f ? 600 : k < -600.0f ? -600 : (int32_t)k;
    return (float)((double)x * net_double_of((uint64_t)(1023 + whole) << 52));
}
