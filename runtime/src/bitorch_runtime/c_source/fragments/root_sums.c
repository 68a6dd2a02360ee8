/* sums = sqrt(sums) */
static void net_root_sums(double *sums, uint32_t count)
{
    for (uint32_t i = 0; i < count; i++) {
        sums[i] = sqrt(sums[i]);
    }
}
