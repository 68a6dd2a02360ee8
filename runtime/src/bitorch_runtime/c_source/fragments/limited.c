/* x, but not below low or above high; NaN stays. */
static float net_limited(float x, float low, float high)
{
    x = x < low ? low : x;
    return x > high ? high : x;
}
