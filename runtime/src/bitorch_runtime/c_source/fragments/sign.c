/* -1, 0 or 1; 0 of NaN. */
static float net_sign(float x)
{
    return x > 0.0f ? 1.0f : x < 0.0f ? -1.0f : 0.0f;
}
