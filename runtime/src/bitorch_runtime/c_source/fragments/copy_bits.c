/* Copy bits from one place to another, as many at a time as lie in one word of both. */
static void net_copy_bits(uint32_t *to, uint32_t to_bit, const uint32_t *from, uint32_t from_bit, uint32_t bits)
{
    while (bits > 0) {
        uint32_t at = to_bit % 32, source = from_bit % 32;
        uint32_t count = 32 - (at > source ? at : source);
        uint32_t mask;
        if (count > bits) {
            count = bits;
        }
        mask = (UINT32_MAX >> (32 - count)) << at;
        to[to_bit / 32] = (to[to_bit / 32] & ~mask) | (((from[from_bit / 32] >> source) << at) & mask);
        to_bit += count;
        from_bit += count;
        bits -= count;
    }
}
