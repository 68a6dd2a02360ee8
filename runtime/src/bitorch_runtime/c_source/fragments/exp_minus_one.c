#include "exponential.c"
/* e^t - 1 for t of 0 and below. */
static float net_exp_minus_one(float t)
{
    float k, scale, less;
    t = t < -40.0f ? -40.0f : t;
    k = net_whole_part(t);
    scale = net_power(k);
    less = scale - 1.0f;
    return net_fused(scale, net_small_exponential(net_rest(t, k)), less);
}

static inline float net_negative_part(float x)
{
    return x > 0.0f ? 0.0f : x;
}
