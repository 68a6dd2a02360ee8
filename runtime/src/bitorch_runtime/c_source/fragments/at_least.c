/* low where y < low; NaN stays. */
static void net_at_least(float *y, float low, uint32_t count)
{
    for (uint32_t i = 0; i < count; i++) {
        y[i] = y[i] < low ? low : y[i];
    }
}
