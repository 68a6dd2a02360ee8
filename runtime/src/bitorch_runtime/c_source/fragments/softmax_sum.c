/* The sum of numbers in one order: blocks of 64, whose 16 lanes each add four; their lanes by Kahan's rule; these in
 * float64, by halves. */
static double net_softmax_sum(const float *x, uint32_t count)
{
    float total[16] = {0.0f}, excess[16] = {0.0f};
    double wide[16];
    for (uint32_t first = 0; first < count; first += 64) {
        for (uint32_t lane = 0; lane < 16; lane++) {
            float term = first + lane < count ? x[first + lane] : 0.0f, with_term;
            for (uint32_t i = first + lane + 16; i < first + 64; i += 16) {
                term = term + (i < count ? x[i] : 0.0f);
            }
            term = term - excess[lane];
            with_term = total[lane] + term;
            excess[lane] = (with_term - total[lane]) - term;
            total[lane] = with_term;
        }
    }
    for (uint32_t lane = 0; lane < 16; lane++) {
        wide[lane] = (double)total[lane] - (double)excess[lane];
    }
    for (uint32_t half = 8; half > 0; half /= 2) {
        for (uint32_t lane = 0; lane < half; lane++) {
            wide[lane] = wide[lane] + wide[lane + half];
        }
    }
    return wide[0];
}
