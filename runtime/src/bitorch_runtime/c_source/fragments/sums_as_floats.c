/* y = float32(D) */
static void net_sums_as_floats(const int32_t *sums, float *y, uint32_t count)
{
    for (uint32_t i = 0; i < count; i++) {
        y[i] = (float)sums[i];
    }
}
