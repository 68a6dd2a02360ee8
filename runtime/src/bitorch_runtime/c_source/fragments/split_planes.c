/* The lowest bits of the fields of a word, side by side. */
static uint32_t net_lowest_bits(uint32_t word, uint32_t field)
{
    if (field == 2) {
        word &= UINT32_C(0x55555555);
        word = (word | (word >> 1)) & UINT32_C(0x33333333);
        word = (word | (word >> 2)) & UINT32_C(0x0f0f0f0f);
        word = (word | (word >> 4)) & UINT32_C(0x00ff00ff);
        return (word | (word >> 8)) & UINT32_C(0xffff);
    }
    if (field == 4) {
        word &= UINT32_C(0x11111111);
        word = (word | (word >> 3)) & UINT32_C(0x03030303);
        word = (word | (word >> 6)) & UINT32_C(0x000f000f);
        return (word | (word >> 12)) & UINT32_C(0xff);
    }
    if (field == 8) {
        word &= UINT32_C(0x01010101);
        word = (word | (word >> 7)) & UINT32_C(0x00030003);
        return (word | (word >> 14)) & UINT32_C(0xf);
    }
    return word;
}

/* Make planes of codes: plane j has bit j of each, 32 in a word, and zeros behind the last. */
static void net_split_planes(const uint32_t *codes, uint32_t count, uint32_t field, uint32_t bits, uint32_t *planes)
{
    uint32_t words = (count + 31) / 32, source = (count * field + 31) / 32;
    for (uint32_t j = 0; j < bits; j++, planes += words) {
        for (uint32_t i = 0; i < words; i++) {
            uint32_t plane = 0;
            for (uint32_t k = 0; k < field && i * field + k < source; k++) {
                plane |= net_lowest_bits(codes[i * field + k] >> j, field) << (k * (32 / field));
            }
            planes[i] = plane;
        }
        if (count % 32 != 0) {
            planes[words - 1] &= UINT32_MAX >> (32 - count % 32);
        }
    }
}
