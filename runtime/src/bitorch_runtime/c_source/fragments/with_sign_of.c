#include "float_bits.c"
/* |y| with the sign of x. */
static inline float net_with_sign_of(float y, float x)
{
    uint32_t sign = UINT32_C(0x80000000);
    return net_float_of((net_bits_of(y) & ~sign) | (net_bits_of(x) & sign));
}

static inline float net_absolute(float x)
{
    return net_float_of(net_bits_of(x) & UINT32_C(0x7fffffff));
}
