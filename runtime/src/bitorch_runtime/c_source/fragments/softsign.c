#include "with_sign_of.c"
/* x/(1 + |x|) */
static float net_softsign(float x)
{
    float total = net_absolute(x) + 1.0f;
    return x / total;
}
