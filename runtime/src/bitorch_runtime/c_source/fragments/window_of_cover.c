#include "covering.c"
#include "window.c"
/* Make the window of output `pixel`, one of those that cover an image of three axes evenly. */
static void net_window_of_cover(const uint32_t *size, const uint32_t *result, uint32_t pixel, net_window *window)
{
    uint32_t at[3];
    at[0] = pixel / result[2] / result[1];
    at[1] = pixel / result[2] % result[1];
    at[2] = pixel % result[2];
    for (int a = 0; a < 3; a++) {
        uint32_t first = net_covering_first(at[a], size[a], result[a]);
        window->size[a] = size[a];
        window->result[a] = result[a];
        window->kernel[a] = net_covering_end(at[a], size[a], result[a]) - first;
        window->stride[a] = 0;
        window->step[a] = 1;
        window->before[a] = -(int32_t)first;
        window->up[a] = 1;
    }
}
