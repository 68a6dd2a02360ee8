/* A window over an image of up to three axes, the outermost first; those that there are not have size 1.
 * Tap k of output o reads o*stride + k*step - before; where windows are transposed, that number must be a multiple of
 * `up`, and is divided by it. */
typedef struct {
    uint32_t size[3];
    uint32_t result[3];
    uint32_t kernel[3];
    int32_t stride[3];
    int32_t step[3];
    int32_t before[3];
    int32_t up[3];
} net_window;

#define NET_OUTSIDE UINT32_MAX

/* Where tap k of output o reads along one axis: a place, or NET_OUTSIDE. */
static uint32_t net_along(const net_window *window, int axis, uint32_t o, uint32_t k)
{
    int32_t at = (int32_t)o * window->stride[axis] + (int32_t)k * window->step[axis] - window->before[axis];
    if (at < 0 || at % window->up[axis] != 0) {
        return NET_OUTSIDE;
    }
    at /= window->up[axis];
    return (uint32_t)at < window->size[axis] ? (uint32_t)at : NET_OUTSIDE;
}

/* Where tap (a, b, c) of output `pixel` reads: a place of the image, or NET_OUTSIDE. */
static uint32_t net_place(const net_window *window, uint32_t pixel, uint32_t a, uint32_t b, uint32_t c)
{
    uint32_t columns = window->result[2], rows = window->result[1];
    uint32_t i = net_along(window, 0, pixel / columns / rows, a);
    uint32_t j = net_along(window, 1, pixel / columns % rows, b);
    uint32_t k = net_along(window, 2, pixel % columns, c);
    if (i == NET_OUTSIDE || j == NET_OUTSIDE || k == NET_OUTSIDE) {
        return NET_OUTSIDE;
    }
    return (i * window->size[1] + j) * window->size[2] + k;
}

static uint32_t net_taps(const net_window *window)
{
    return window->kernel[0] * window->kernel[1] * window->kernel[2];
}

/* `net_place` of tap number `tap`, in the order of weights: the last axis is the fastest. */
static uint32_t net_tap_place(const net_window *window, uint32_t pixel, uint32_t tap)
{
    uint32_t columns = window->kernel[2], rows = window->kernel[1];
    return net_place(window, pixel, tap / columns / rows, tap / columns % rows, tap % columns);
}
