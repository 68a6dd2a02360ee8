#include "softplus_of_one.c"
/* -ln(1 + e^-x) */
static float net_logsigmoid(float x)
{
    return -net_softplus_of_one(-x);
}
