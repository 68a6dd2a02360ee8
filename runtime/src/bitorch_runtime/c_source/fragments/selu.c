#include "exp_minus_one.c"
/* 1.0507*x, or 1.7581*(e^x - 1) of what is not above 0, by the constants of the paper. */
static float net_selu(float x)
{
    return x > 0.0f ? x * 0x1.0cfabep+0f : net_exp_minus_one(net_negative_part(x)) * 0x1.c212ccp+0f;
}
