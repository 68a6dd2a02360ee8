/* y = y + other */
static void net_add_row(float *y, const float *other, uint32_t count)
{
    for (uint32_t i = 0; i < count; i++) {
        y[i] = y[i] + other[i];
    }
}
