#include "exponential.c"
#include "gelu_table.c"
#include "with_tail.c"
/* max(x, 0) - h(|x|), h(a) = e^(-a^2/2)*(1 - s(a))/sqrt(2*pi), s = n/d, the square with its low part. */
static float net_gelu_far(float x)
{
    static const float numerator[4] = {0x1.95c664p-6f, 0x1.6230f8p-3f, 0x1.31fbb6p-1f, 0x1.000cf8p+0f};
    static const float denominator[6] = {
        0x1.95cddap-6f, 0x1.61f7b8p-3f, 0x1.594074p-1f, 0x1.7d9708p+0f, 0x1.da2a14p+0f, 0x1p+0f,
    };
    const float scale = 0x1.988454p-2f;
    float a = net_absolute(x), square, t, low, k, tail, s, h;
    a = a > 14.5f ? 14.5f : a;
    square = a * a;
    t = square * -0.5f;
    low = net_fused(a, a, -square) * -0.5f;
    k = net_whole_part(t);
    tail = net_small_exponential(net_rest(t, k) + low);
    s = net_horner(a, numerator, 4) / net_horner(a, denominator, 6);
    h = net_times_power(net_fused(tail - net_fused(s, tail, s), scale, scale), k);
    return (x > 0.0f ? x : x * 0.0f) - h;
}

/* x*Phi(x) = max(x, 0) - h(|x|), h(a) = a*(1 - Phi(a)). */
static float net_gelu(float x)
{
    return net_absolute(x) <= 3.4375f ? net_with_tail(x, net_gelu_table) : net_gelu_far(x);
}
