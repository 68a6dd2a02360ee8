#include "code.c"
#include "set_code.c"
/* Other codes by a table of as many rows as channels, or of one. */
static void net_other_codes(const uint32_t *x, uint32_t field, uint32_t count, const uint8_t *table, uint32_t levels,
                            uint32_t rows, uint32_t *y, uint32_t new_field)
{
    for (uint32_t i = 0; i < count; i++) {
        net_set_code(y, new_field, i, table[i % rows * levels + net_code(x, field, i)]);
    }
}
