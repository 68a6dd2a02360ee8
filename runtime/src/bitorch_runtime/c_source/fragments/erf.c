#include "exp_minus_one.c"
#include "with_sign_of.c"
/* 1 - e^(-a*g(a)), a = |x|, with the sign of x. */
static float net_erf(float x)
{
    static const float c[8] = {
        0x1.5cf44ep-15f, -0x1.968174p-12f, 0x1.4d3386p-10f, 0x1.75f1aep-13f,
        -0x1.3c3d74p-6f, 0x1.a51948p-4f,   0x1.45f2bcp-1f,  0x1.20dd76p+0f,
    };
    float a = net_absolute(x), g, low;
    a = a > 4.0f ? 4.0f : a;
    g = net_horner(a, c, 8);
    low = a * 0x1.f7ac92p-25f;
    return net_with_sign_of(net_exp_minus_one(net_fused(-a, g, low)), x);
}
