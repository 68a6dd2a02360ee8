/* y = function(x, slope of its channel), number by number. */
static void net_apply_slopes(float (*function)(float, float), const float *x, uint32_t count, const float *slopes,
                             uint32_t channels, float *y)
{
    for (uint32_t i = 0; i < count; i++) {
        y[i] = function(x[i], slopes[i % channels]);
    }
}
