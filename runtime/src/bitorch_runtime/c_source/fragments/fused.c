#include "double_bits.c"
/* x*multiply + offset, rounded once: by an instruction where the machine has one. Else the product is exact in
 * float64; what its sum with the offset loses makes its last bit odd, and a second rounding does no harm. */
static float net_fused(float x, float multiply, float offset)
{
#if defined(__FP_FAST_FMAF)
    return __builtin_fmaf(x, multiply, offset);
#else
    double product = (double)x * (double)multiply, addend = (double)offset;
    double total = product + addend;
    double part = total - product;
    double lost = (product - (total - part)) + (addend - part);
    uint64_t bits = net_bits_of_double(total);
    if (lost != 0.0 && total - total == 0.0 && bits % 2 == 0) {
        /* One step towards what was lost: away from 0 where both have one sign. */
        bits += (lost > 0.0) == (total > 0.0) ? (uint64_t)1 : ~(uint64_t)0;
        total = net_double_of(bits);
    }
    return (float)total;
#endif
}
