#include "set_code.c"
/* Put codes that floats hold at code `first` and behind it. */
static void net_store_codes(const float *x, uint32_t count, uint32_t *y, uint32_t field, uint32_t first)
{
    for (uint32_t i = 0; i < count; i++) {
        net_set_code(y, field, first + i, (uint32_t)x[i]);
    }
}
