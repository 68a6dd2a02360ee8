/* y = y / divisor */
static void net_divide_row(float *y, const float *divisor, uint32_t count)
{
    for (uint32_t i = 0; i < count; i++) {
        y[i] = y[i] / divisor[i];
    }
}
