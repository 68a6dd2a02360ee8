/* high where y > high; NaN stays. */
static void net_at_most(float *y, float high, uint32_t count)
{
    for (uint32_t i = 0; i < count; i++) {
        y[i] = y[i] > high ? high : y[i];
    }
}
