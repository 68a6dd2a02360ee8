/* y = y*factor */
static void net_multiply_all(float *y, float factor, uint32_t count)
{
    for (uint32_t i = 0; i < count; i++) {
        y[i] = y[i] * factor;
    }
}
