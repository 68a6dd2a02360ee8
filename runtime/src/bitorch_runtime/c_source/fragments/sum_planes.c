#include "as_signed.c"
#include "plane_layer.c"
/* The sums D of the channels of a group for the codes of a window, as planes: with P, the sum of m*q, and Q, the sum
 * of q, D = scale*(step*P + lowest*Q) - zero*total. */
static void net_sum_planes(const net_plane_layer *layer, uint32_t group, const uint32_t *planes, int32_t *sums)
{
    uint32_t words = layer->words, first = group * layer->channels, codes = 0;
    const uint32_t *weight = layer->weight + first * layer->weight_bits * words;
    for (uint32_t j = 0; j < layer->bits; j++) {
        codes += net_count_bits(planes + j * words, planes + j * words, words) << j;
    }
    for (uint32_t n = 0; n < layer->channels; n++) {
        uint32_t products = 0, d;
        for (uint32_t i = 0; i < layer->weight_bits; i++, weight += words) {
            for (uint32_t j = 0; j < layer->bits; j++) {
                products += net_count_bits(weight, planes + j * words, words) << (i + j);
            }
        }
        d = layer->scale * (layer->step * products + layer->lowest * codes);
        if (layer->totals != 0) {
            d -= layer->zero * (uint32_t)layer->totals[first + n];
        }
        sums[first + n] = net_as_signed(d);
    }
}
