#include "lanes_total.c"
#include "norm_factor.c"
/* y = (x - m)*f of `count` numbers at one place. Squares are float32, and so are sums of 16 of a lane; what the
 * rounding of the mean adds to them is taken away again. */
static void net_normalize_place(const float *x, uint32_t count, int center, int by_norm, float eps, float *y)
{
    double lanes[32] = {0.0}, squares[32] = {0.0}, mean = 0.0, rounded, total;
    float m, f;
    for (uint32_t i = 0; i < count && center; i++) {
        lanes[i % 32] = lanes[i % 32] + (double)x[i];
    }
    if (center) {
        mean = net_lanes_total(lanes) / (double)count;
    }
    m = (float)mean;
    rounded = mean - (double)m;
    for (uint32_t first = 0; first < count; first += 512) {
        for (uint32_t l = 0; l < 32; l++) {
            float run = 0.0f;
            for (uint32_t i = first + l; i < first + 512 && i < count; i += 32) {
                float difference = x[i] - m;
                difference = difference * difference;
                run = run + difference;
            }
            squares[l] = squares[l] + (double)run;
        }
    }
    rounded = rounded * rounded;
    rounded = (double)count * rounded;
    total = net_lanes_total(squares) - rounded;
    f = net_norm_factor(by_norm, total < 0.0 ? 0.0 : total, count, eps);
    for (uint32_t i = 0; i < count; i++) {
        y[i] = x[i] - m;
        y[i] = y[i] * f;
    }
}
