#include "norm_factor.c"
#include "total.c"
/* y = (x - m)*f of `count` numbers at each of `places` places, `channels` apart, all in float64: of each channel
 * place after place, in `sums`, then of the channels. */
static void net_normalize_places(const float *x, uint32_t places, uint32_t channels, uint32_t count, int center,
                                 int by_norm, float eps, double *sums, float *y)
{
    double mean = 0.0;
    float m, f;
    for (uint32_t c = 0; c < count && center; c++) {
        sums[c] = 0.0;
        for (uint32_t p = 0; p < places; p++) {
            sums[c] = sums[c] + (double)x[p * channels + c];
        }
    }
    if (center) {
        mean = net_total(sums, count) / (double)(places * count);
    }
    for (uint32_t c = 0; c < count; c++) {
        sums[c] = 0.0;
        for (uint32_t p = 0; p < places; p++) {
            double difference = (double)x[p * channels + c] - mean;
            difference = difference * difference;
            sums[c] = sums[c] + difference;
        }
    }
    m = (float)mean;
    f = net_norm_factor(by_norm, net_total(sums, count), places * count, eps);
    for (uint32_t p = 0; p < places; p++) {
        for (uint32_t c = 0; c < count; c++) {
            y[p * channels + c] = x[p * channels + c] - m;
            y[p * channels + c] = y[p * channels + c] * f;
        }
    }
}
