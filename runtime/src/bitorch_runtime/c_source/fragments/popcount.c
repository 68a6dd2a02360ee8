/* How many bits are set: by an instruction where the machine has one, else by sums of neighbours. */
static uint32_t net_popcount(uint32_t word)
{
#if defined(__GNUC__) && (defined(__POPCNT__) || defined(__aarch64__))
    return (uint32_t)__builtin_popcount(word);
#else
    word -= (word >> 1) & UINT32_C(0x55555555);
    word = (word & UINT32_C(0x33333333)) + ((word >> 2) & UINT32_C(0x33333333));
    word = (word + (word >> 4)) & UINT32_C(0x0f0f0f0f);
    return (word * UINT32_C(0x01010101)) >> 24;
#endif
}
