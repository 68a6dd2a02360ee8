#include "exponential.c"
/* e^(x - largest), of the difference before it is rounded. */
static float net_shifted_exponential(float x, float largest)
{
    float t = x - largest;
    float back = t - x;
    float low = (x - (t - back)) - (largest + back);
    float k = net_whole_part(t);
    float power = net_small_exponential(net_rest(t, k) + low) + 1.0f;
    return t < -104.0f ? 0.0f : net_times_power(power, k);
}

/* The largest of some numbers; NaN is none. */
static float net_largest(const float *x, uint32_t count)
{
    float largest = -INFINITY;
    for (uint32_t i = 0; i < count; i++) {
        largest = x[i] > largest ? x[i] : largest;
    }
    return largest;
}
