#include "code.c"
/* Rows of a table of codes, by their index: what a code is worth, times the scale of its row, or of all. A row takes
 * `row_words` words. */
static void net_embed_codes(const int32_t *x, uint32_t count, const uint32_t *table, uint32_t row_words,
                            uint32_t field, const float *levels, const float *scales, uint32_t scale_count,
                            uint32_t channels, float *y)
{
    for (uint32_t i = 0; i < count; i++, y += channels) {
        uint32_t row = (uint32_t)x[i];
        for (uint32_t c = 0; c < channels; c++) {
            y[c] = levels[net_code(table + row * row_words, field, c)] * scales[scale_count > 1 ? row : 0];
        }
    }
}
