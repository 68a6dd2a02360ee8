#include "popcount.c"
/* Weights, bit by bit: [groups*channels][weight_bits][words], `channels` of them for a group. The stored m is the
 * weight step*m + lowest, and the code q stands for scale*q - zero. `totals` has the sum of each channel's weights,
 * where zero is not 0. */
typedef struct {
    const uint32_t *weight;
    const int32_t *totals;
    uint32_t channels, words, weight_bits, bits;
    uint32_t step, lowest, scale, zero;
} net_plane_layer;

static uint32_t net_count_bits(const uint32_t *a, const uint32_t *b, uint32_t words)
{
    uint32_t count = 0;
    for (uint32_t i = 0; i < words; i++) {
        count += net_popcount(a[i] & b[i]);
    }
    return count;
}
