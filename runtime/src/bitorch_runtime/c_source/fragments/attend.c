#include "shifted_exponential.c"
/* y = softmax(scale*q*k + bias)*v of one head: `queries` rows of `depth` numbers, `keys` rows of `depth` and of
 * `width` numbers. Sums are made one after the other. A query that sees nothing gets zeros. */
static void net_attend(const float *q, uint32_t queries, const float *k, const float *v, uint32_t keys,
                       uint32_t depth, uint32_t width, const float *bias, uint32_t bias_step, float scale, int causal,
                       float *scores, float *y)
{
    for (uint32_t t = 0; t < queries; t++, q += depth, y += width) {
        float largest, total = 0.0f;
        for (uint32_t s = 0; s < keys; s++) {
            float sum = 0.0f;
            for (uint32_t d = 0; d < depth; d++) {
                sum += q[d] * k[s * depth + d];
            }
            sum = sum * scale;
            sum = bias != 0 ? sum + bias[t * bias_step + s] : sum;
            scores[s] = causal && s > t ? -INFINITY : sum;
        }
        largest = net_largest(scores, keys);
        largest = largest == -INFINITY ? 0.0f : largest;
        for (uint32_t s = 0; s < keys; s++) {
            scores[s] = net_shifted_exponential(scores[s], largest);
            total += scores[s];
        }
        total = total == 0.0f ? 1.0f : total;
        for (uint32_t e = 0; e < width; e++) {
            float sum = 0.0f;
            for (uint32_t s = 0; s < keys; s++) {
                sum += scores[s] * v[s * width + e];
            }
            y[e] = sum / total;
        }
    }
}
