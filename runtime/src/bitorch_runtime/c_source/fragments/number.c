#include "code.c"
/* Number `index` of floats, or, where there is a field, of codes. */
static float net_number(const void *x, uint32_t field, uint32_t index)
{
    return field != 0 ? (float)net_code((const uint32_t *)x, field, index) : ((const float *)x)[index];
}
