/* y = y*factors */
static void net_multiply_row(float *y, const float *factors, uint32_t count)
{
    for (uint32_t i = 0; i < count; i++) {
        y[i] = y[i] * factors[i];
    }
}
