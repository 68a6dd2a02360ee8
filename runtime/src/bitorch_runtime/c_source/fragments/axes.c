/* An axis of numbers that are put elsewhere: number i of it is read at place[i]*from, or at i*from where there are no
 * places, and written at i*to. */
typedef struct {
    uint32_t size, from, to;
    const uint32_t *place;
} net_axis;

/* Where number i, of all axes, is read and written. */
static void net_find(const net_axis *axes, uint32_t count, uint32_t i, uint32_t *from, uint32_t *to)
{
    *from = 0;
    *to = 0;
    for (uint32_t a = count; a-- > 0;) {
        uint32_t at = i % axes[a].size;
        i /= axes[a].size;
        *from += (axes[a].place != 0 ? axes[a].place[at] : at) * axes[a].from;
        *to += at * axes[a].to;
    }
}
