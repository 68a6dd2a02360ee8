#include "softplus_of_one.c"
/* x where x*beta is above the threshold, else ln(1 + e^(x*beta))/beta. */
static float net_softplus(float x, float beta, float threshold)
{
    float scaled = x * beta;
    return scaled > threshold ? x : net_softplus_of_one(scaled) / beta;
}
