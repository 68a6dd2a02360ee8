/* x, or x*slope of what is not above 0. */
static float net_leaky_relu(float x, float slope)
{
    return x > 0.0f ? x : x * slope;
}
