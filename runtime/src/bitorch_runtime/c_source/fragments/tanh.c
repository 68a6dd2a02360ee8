#include "exp_minus_one.c"
#include "with_sign_of.c"
/* E/(2 + E) with the sign of x, E = e^(-2|x|) - 1 */
static float net_tanh(float x)
{
    float less = net_exp_minus_one(net_absolute(x) * -2.0f);
    float total = less + 2.0f;
    return net_with_sign_of(less / total, x);
}
