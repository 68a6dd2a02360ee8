#include "horner.c"
#include "times_power.c"
/* k, the integer next to t/ln 2: added to a large number, t/ln 2 leaves its nearest integer. */
static inline float net_whole_part(float t)
{
    const float round = 12583039.0f; /* 1.5*2^23 + 127 */
    float sum = net_fused(t, 0x1.715476p+0f, round);
    return sum - round;
}

/* r = t - k*ln 2 */
static inline float net_rest(float t, float k)
{
    return net_fused(k, -0x1.7f7d1cp-20f, net_fused(k, -0x1.62e4p-1f, t));
}

/* r of -t, k being that of t. */
static inline float net_rest_of_minus(float t, float k)
{
    return net_fused(k, 0x1.7f7d1cp-20f, net_fused(k, 0x1.62e4p-1f, -t));
}

/* e^r - 1 for |r| up to 0.3468. */
static inline float net_small_exponential(float r)
{
    static const float c[5] = {0x1.6d6dbap-10f, 0x1.123ac2p-7f, 0x1.5554ccp-5f, 0x1.555490p-3f, 0x1p-1f};
    float square = r * r;
    return net_fused(net_horner(r, c, 5), square, r);
}

/* 2^k, but not less than 2^-126. */
static inline float net_power(float k)
{
    return net_times_power(1.0f, k < -126.0f ? -126.0f : k);
}
