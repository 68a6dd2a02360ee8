/* y = function(x), number by number. */
static void net_apply(float (*function)(float), const float *x, uint32_t count, float *y)
{
    for (uint32_t i = 0; i < count; i++) {
        y[i] = function(x[i]);
    }
}
