/* y = function(x, a, b), number by number. */
static void net_apply_two(float (*function)(float, float, float), const float *x, uint32_t count, float a, float b,
                          float *y)
{
    for (uint32_t i = 0; i < count; i++) {
        y[i] = function(x[i], a, b);
    }
}
