/* sums = sums/divisor */
static void net_divide_sums(double *sums, uint32_t count, double divisor)
{
    for (uint32_t i = 0; i < count; i++) {
        sums[i] = sums[i] / divisor;
    }
}
