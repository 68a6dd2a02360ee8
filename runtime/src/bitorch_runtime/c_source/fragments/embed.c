/* Rows of a table, by their index. */
static void net_embed(const int32_t *x, uint32_t count, const float *table, uint32_t channels, float *y)
{
    for (uint32_t i = 0; i < count; i++) {
        memcpy(y + i * channels, table + (uint32_t)x[i] * channels, 4 * channels);
    }
}
