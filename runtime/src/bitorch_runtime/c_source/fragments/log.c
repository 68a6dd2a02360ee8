#include "float_bits.c"
#include "horner.c"
/* k*ln 2 + ln m, x = m*2^k with m between the roots of a half and of two. */
static float net_log(float x)
{
    static const float c[9] = {
        -0x1.38c2a6p-4f, 0x1.055ce8p-3f,  -0x1.0d82a4p-3f, 0x1.22d96ep-3f, -0x1.547288p-3f,
        0x1.99a01ap-3f,  -0x1.000226p-2f, 0x1.555554p-2f,  -0x1p-1f,
    };
    const uint32_t first = UINT32_C(0x3f3504f3);
    uint32_t bits;
    int32_t exponent;
    float k, f, square, low, p;
    if (!(x > 0.0f && x < INFINITY)) {
        return x == 0.0f ? -INFINITY : x == INFINITY ? INFINITY : NAN;
    }
    bits = net_bits_of(x < 0x1p-126f ? x * 16777216.0f : x) - first;
    exponent = (int32_t)(bits >> 23);
    exponent = exponent > 255 ? exponent - 512 : exponent;
    k = (float)exponent - (x < 0x1p-126f ? 24.0f : 0.0f);
    f = net_float_of((bits & UINT32_C(0x7fffff)) + first) - 1.0f;
    p = net_horner(f, c, 9);
    square = f * f;
    low = k * 0x1.7f7d1cp-20f;
    p = net_fused(p, square, low);
    return net_fused(k, 0x1.62e4p-1f, f + p);
}
