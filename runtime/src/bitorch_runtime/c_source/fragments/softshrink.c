/* x - lambda above lambda, x + lambda below -lambda, 0 between them. */
static float net_softshrink(float x, float lambda)
{
    return x > lambda ? x - lambda : x < -lambda ? x + lambda : x * 0.0f;
}
