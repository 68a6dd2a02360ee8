#include "as_signed.c"
#include "plane_layer.c"
/* Add what signs beside the image must not have taken away: codes 0 there stand for 0, not for -1. */
static void net_add_outside(const net_plane_layer *layer, uint32_t group, const uint32_t *outside, int32_t *sums)
{
    uint32_t words = layer->words, first = group * layer->channels;
    uint32_t count = net_count_bits(outside, outside, words);
    const uint32_t *weight = layer->weight + first * layer->weight_bits * words;
    for (uint32_t n = 0; n < layer->channels; n++) {
        uint32_t d = (uint32_t)sums[first + n] + layer->lowest * count;
        for (uint32_t i = 0; i < layer->weight_bits; i++, weight += words) {
            d += (layer->step * net_count_bits(weight, outside, words)) << i;
        }
        sums[first + n] = net_as_signed(d);
    }
}
