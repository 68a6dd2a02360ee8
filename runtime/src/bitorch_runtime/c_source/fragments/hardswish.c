/* x*clip(x + 3, 0, 6)/6 */
static float net_hardswish(float x)
{
    float y = x + 3.0f;
    y = y < 0.0f ? 0.0f : y > 6.0f ? 6.0f : y;
    y = x * y;
    return y / 6.0f;
}
