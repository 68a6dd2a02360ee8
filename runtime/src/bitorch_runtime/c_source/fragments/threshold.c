/* value where x is not above the threshold; NaN stays. */
static float net_threshold(float x, float threshold, float value)
{
    return x <= threshold ? value : x;
}
