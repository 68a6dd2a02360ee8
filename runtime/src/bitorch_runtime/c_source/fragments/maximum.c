/* a where it is above b or NaN, else b. */
static float net_maximum(float a, float b)
{
    return a > b || a != a ? a : b;
}
