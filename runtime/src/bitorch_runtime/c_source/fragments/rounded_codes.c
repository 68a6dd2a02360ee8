#include "set_code.c"
/* clip(round(y) + zero, 0, levels), half to even; 0 of NaN. Behind 1.5*2^23 floats are integers, and sums are rounded
 * so. */
static void net_rounded_codes(const float *y, uint32_t zero, uint32_t levels, uint32_t count, uint32_t *codes,
                              uint32_t field)
{
    float low = -(float)zero, high = (float)levels - (float)zero;
    for (uint32_t i = 0; i < count; i++) {
        float position = y[i] > low ? (y[i] < high ? y[i] : high) : low;
        position = position + 12582912.0f;
        position = position - 12582912.0f;
        net_set_code(codes, field, i, (uint32_t)(position + (float)zero));
    }
}
