#include "set_code.c"
/* Codes from `first` on: round(levels*clip(y, 0, 1)), half to even; 0 of NaN. Behind 2^23 floats are integers, and
 * their sums are rounded so. */
static void net_unit_codes(const float *y, uint32_t levels, uint32_t count, uint32_t *codes, uint32_t field,
                           uint32_t first)
{
    for (uint32_t i = 0; i < count; i++) {
        float clipped = y[i] > 0.0f ? (y[i] < 1.0f ? y[i] : 1.0f) : 0.0f;
        float position = (float)levels * clipped;
        position = position + 8388608.0f;
        net_set_code(codes, field, first + i, (uint32_t)(position - 8388608.0f));
    }
}
