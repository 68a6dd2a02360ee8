#include "exponential.c"
#include "gelu_tanh_table.c"
#include "with_tail.c"
/* x/(1 + e^-z), z = sqrt(8/pi)*(x + 0.044715*x^3), with a low part of z. */
static float net_gelu_tanh_far(float x)
{
    const float one = 0x1.98846p+0f, three = 0x1.244p-4f;
    float limited = x < -11.0f ? -11.0f : x;
    float a = limited > 11.0f ? 11.0f : limited;
    float square = a * a, factor, lost, low, factor_low, z, z_low, t, k, power, total;
    factor = net_fused(square, three, one);
    lost = net_fused(square, three, one - factor);
    low = net_fused(net_fused(a, a, -square), three, -0x1.985794p-21f);
    factor_low = lost + net_fused(square, 0x1.3ca936p-18f, low);
    z = a * factor;
    z_low = net_fused(a, factor_low, net_fused(a, factor, -z));
    t = z > 30.0f ? 30.0f : z;
    k = net_whole_part(t);
    power = net_small_exponential(net_rest_of_minus(t, k) - z_low) + 1.0f;
    total = net_power(k) + power;
    return x == -INFINITY ? NAN : net_times_power(limited / total, k);
}

/* x*(1 + tanh(z/2))/2, z as above. */
static float net_gelu_tanh(float x)
{
    return net_absolute(x) <= 3.4375f ? net_with_tail(x, net_gelu_tanh_table) : net_gelu_tanh_far(x);
}
