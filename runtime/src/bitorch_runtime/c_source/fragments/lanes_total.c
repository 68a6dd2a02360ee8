/* The sum of 32 lanes: lane l takes lane l + 16, 8, 4, 2, 1. */
static double net_lanes_total(double *lanes)
{
    for (uint32_t half = 16; half > 0; half /= 2) {
        for (uint32_t l = 0; l < half; l++) {
            lanes[l] = lanes[l] + lanes[l + half];
        }
    }
    return lanes[0];
}
