#include "by_table.c"
#include "exponential.c"
#include "mish_table.c"
#include "with_sign_of.c"
/* x*tanh(ln(1 + e^x)), far from 0 x*e^x*(1 - e^x*(e^x + 1)/n) or x - x*2/n, n = e^x*(e^x + 2) + 2. */
static float net_mish(float x)
{
    float limited = x < -200.0f ? -200.0f : x, ended = limited > 30.0f ? 30.0f : limited;
    float k, tail, scale, power, n, part;
    if (net_absolute(x) <= 3.4375f) {
        return x * net_by_table(x, 1.0f, net_mish_table, 8);
    }
    if (x == -INFINITY) {
        return NAN;
    }
    k = net_whole_part(ended);
    tail = net_small_exponential(net_rest(ended, k));
    scale = net_power(k);
    power = net_fused(scale, tail, scale);
    n = net_fused(power, power + 2.0f, 2.0f);
    if (x > 0.0f) {
        return net_fused(-(2.0f / n), ended, x);
    }
    part = power * (power + 1.0f);
    part = part / n;
    tail = tail - net_fused(part, tail, part);
    return net_times_power(net_fused(limited, tail, limited), k);
}
