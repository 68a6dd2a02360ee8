/* y = y*multiply + offset, two roundings. */
static void net_scale_row(float *y, const float *multiply, const float *offset, uint32_t count)
{
    for (uint32_t i = 0; i < count; i++) {
        y[i] = y[i] * multiply[i];
        y[i] = y[i] + offset[i];
    }
}
