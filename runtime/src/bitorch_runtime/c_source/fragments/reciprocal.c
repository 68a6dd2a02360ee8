/* 1/x */
static float net_reciprocal(float x)
{
    return 1.0f / x;
}
