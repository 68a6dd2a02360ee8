#include "fused.c"
/* A polynomial, each step rounded once; the coefficient of the highest power comes first. */
static float net_horner(float x, const float *coefficients, uint32_t count)
{
    float sum = coefficients[0];
    for (uint32_t i = 1; i < count; i++) {
        sum = net_fused(sum, x, coefficients[i]);
    }
    return sum;
}
