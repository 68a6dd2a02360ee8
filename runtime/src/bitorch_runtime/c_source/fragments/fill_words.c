/* Fill words with one value. */
static void net_fill_words(uint32_t *to, uint32_t count, uint32_t value)
{
    for (uint32_t i = 0; i < count; i++) {
        to[i] = value;
    }
}
