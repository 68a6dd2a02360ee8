#include "exp_minus_one.c"
/* x, or alpha*(e^(x*inverse) - 1) of what is not above 0. */
static float net_celu(float x, float alpha, float inverse)
{
    float scaled = x * inverse;
    return x > 0.0f ? x : net_exp_minus_one(net_negative_part(scaled)) * alpha;
}
