/* y = float32(sums) */
static void net_store_sums(const double *sums, uint32_t count, float *y)
{
    for (uint32_t i = 0; i < count; i++) {
        y[i] = (float)sums[i];
    }
}
