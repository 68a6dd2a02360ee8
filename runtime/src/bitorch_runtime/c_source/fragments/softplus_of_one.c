#include "by_table.c"
#include "exponential.c"
#include "log_of_one_plus.c"
#include "softplus_table.c"
#include "with_sign_of.c"
/* ln(1 + e^x), far from 0 as max(x, 0) + ln(1 + e^-|x|). */
static float net_softplus_of_one(float x)
{
    float t = -net_absolute(x), k, power;
    if (t >= -3.4375f) {
        return net_by_table(x, 1.0f, net_softplus_table, 8);
    }
    t = t < -200.0f ? -200.0f : t;
    k = net_whole_part(t);
    power = net_small_exponential(net_rest(t, k)) + 1.0f;
    power = net_times_power(power, k);
    return (x > 0.0f ? x : 0.0f) + net_log_of_one_plus(power);
}
