/* Put a code where `net_code` finds it. */
static void net_set_code(uint32_t *codes, uint32_t field, uint32_t index, uint32_t code)
{
    uint32_t bit = index * field;
    uint32_t mask = (((uint32_t)1 << field) - 1) << (bit % 32);
    codes[bit / 32] = (codes[bit / 32] & ~mask) | (code << (bit % 32));
}
