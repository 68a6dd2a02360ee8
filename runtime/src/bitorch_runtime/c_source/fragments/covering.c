/* Windows that cover an axis evenly: where window i of `count` along `size` places begins, and where it ends. */
static inline uint32_t net_covering_first(uint32_t i, uint32_t size, uint32_t count)
{
    return i * size / count;
}

static inline uint32_t net_covering_end(uint32_t i, uint32_t size, uint32_t count)
{
    return ((i + 1) * size + count - 1) / count;
}
