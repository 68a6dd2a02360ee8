/* Code `index` of a tensor: codes lie in words, the first in the lowest bits, in fields of 1, 2, 4 or 8 bits. */
static uint32_t net_code(const uint32_t *codes, uint32_t field, uint32_t index)
{
    uint32_t bit = index * field;
    return (codes[bit / 32] >> (bit % 32)) & (((uint32_t)1 << field) - 1);
}
