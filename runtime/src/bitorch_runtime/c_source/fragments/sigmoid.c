#include "limited.c"
#include "exponential.c"
/* 1/(1 + e^-x) = 2^k/(2^k + e^-r) */
static float net_sigmoid(float x)
{
    float t = net_limited(x, -200.0f, 30.0f);
    float k = net_whole_part(t);
    float power = net_small_exponential(net_rest_of_minus(t, k)) + 1.0f;
    float total = net_power(k) + power;
    return net_times_power(1.0f / total, k);
}
