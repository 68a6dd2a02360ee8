#include "double_bits.c"
#include "shifted_exponential.c"
#include "softmax_sum.c"
/* ln(1 + u) in float64, rounded to float32; u is 0 or above. */
static float net_wide_log_of_one_plus(double u)
{
    double f, square, sum = 0.0, whole = 0.0;
    if (!(u < (double)INFINITY)) {
        return NAN;
    }
    if (u <= 0.4142135623730951) {
        f = u / (u + 2.0);
    } else {
        uint64_t bits = net_bits_of_double(1.0 + u);
        int32_t k = (int32_t)(bits >> 52) - 1023;
        double m = net_double_of((bits & ((UINT64_C(1) << 52) - 1)) | (UINT64_C(1023) << 52));
        if (m > 1.4142135623730951) {
            m = m / 2.0;
            k++;
        }
        f = (m - 1.0) / (m + 1.0);
        whole = (double)k * 0x1.62e42fefa39efp-1;
    }
    square = f * f;
    for (int j = 21; j > 0; j -= 2) {
        sum = sum * square;
        sum = sum + 1.0 / j;
    }
    sum = 2.0 * f * sum;
    return (float)(whole + sum);
}

/* x - ln(sum of e^x), of each of `places` rows. The first of the largest is left out of the sum: what the others make
 * might be lost beside its 1. */
static void net_log_softmax(const float *x, uint32_t places, uint32_t channels, float *y)
{
    for (uint32_t p = 0; p < places; p++, x += channels, y += channels) {
        float largest = net_largest(x, channels), less;
        uint32_t first = 0;
        while (first < channels && x[first] != largest) {
            first++;
        }
        for (uint32_t c = 0; c < channels; c++) {
            y[c] = net_shifted_exponential(x[c], largest);
        }
        if (first < channels) {
            y[first] = y[first] - 1.0f;
        }
        less = net_wide_log_of_one_plus(net_softmax_sum(y, channels));
        for (uint32_t c = 0; c < channels; c++) {
            float difference = x[c] - largest;
            y[c] = difference - less;
        }
    }
}
