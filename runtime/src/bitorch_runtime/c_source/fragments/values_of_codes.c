#include "code.c"
/* What codes stand for: row c of a table, of as many rows as channels or of one. */
static void net_values_of_codes(const uint32_t *x, uint32_t field, uint32_t count, const float *table,
                                uint32_t levels, uint32_t rows, float *y)
{
    for (uint32_t i = 0; i < count; i++) {
        y[i] = table[i % rows * levels + net_code(x, field, i)];
    }
}
