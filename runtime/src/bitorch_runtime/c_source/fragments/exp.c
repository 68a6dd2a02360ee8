#include "limited.c"
#include "exponential.c"
/* e^x */
static float net_exp(float x)
{
    float t = net_limited(x, -200.0f, 200.0f);
    float k = net_whole_part(t);
    float power = net_small_exponential(net_rest(t, k)) + 1.0f;
    return net_times_power(power, k);
}
