/* a where it is below b or NaN, else b. */
static float net_minimum(float a, float b)
{
    return a < b || a != a ? a : b;
}
