#include "fused.c"
#include "shifted_exponential.c"
#include "softmax_sum.c"
/* e^x/sum of e^x, of each of `places` rows. */
static void net_softmax(const float *x, uint32_t places, uint32_t channels, float *y)
{
    for (uint32_t p = 0; p < places; p++, x += channels, y += channels) {
        float largest = net_largest(x, channels), factor, rest;
        double inverse;
        for (uint32_t c = 0; c < channels; c++) {
            y[c] = net_shifted_exponential(x[c], largest);
        }
        inverse = 1.0 / net_softmax_sum(y, channels);
        factor = (float)inverse;
        rest = (float)(inverse - (double)factor);
        for (uint32_t c = 0; c < channels; c++) {
            float low = y[c] * rest;
            y[c] = net_fused(y[c], factor, low);
        }
    }
}
