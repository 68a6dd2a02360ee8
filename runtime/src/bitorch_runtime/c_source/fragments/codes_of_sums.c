#include "code.c"
#include "set_code.c"
/* Codes from `first` on: of how many of its channel's thresholds D reaches. `falls` has a bit for each channel in
 * which those count that D does not exceed; 0 where there are none. */
static void net_codes_of_sums(const int32_t *sums, const int32_t *thresholds, const uint32_t *falls, uint32_t levels,
                              uint32_t count, uint32_t *codes, uint32_t field, uint32_t first)
{
    for (uint32_t i = 0; i < count; i++, thresholds += levels) {
        int falling = falls != 0 && net_code(falls, 1, i) != 0;
        uint32_t code = 0;
        for (uint32_t j = 0; j < levels; j++) {
            code += falling ? sums[i] <= thresholds[j] : sums[i] >= thresholds[j];
        }
        net_set_code(codes, field, first + i, code);
    }
}
