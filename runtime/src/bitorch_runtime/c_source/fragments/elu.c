#include "exp_minus_one.c"
/* x, or slope*(e^x - 1) of what is not above 0. */
static float net_elu(float x, float slope)
{
    return x > 0.0f ? x : net_exp_minus_one(net_negative_part(x)) * slope;
}
