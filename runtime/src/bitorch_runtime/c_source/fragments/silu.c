#include "exponential.c"
/* x/(1 + e^-x) */
static float net_silu(float x)
{
    float t = x > 30.0f ? 30.0f : x;
    float k = net_whole_part(t < -1e30f ? -1e30f : t);
    float power = net_small_exponential(net_rest_of_minus(t, k)) + 1.0f;
    float total = net_power(k) + power;
    return net_times_power(x / total, k);
}
