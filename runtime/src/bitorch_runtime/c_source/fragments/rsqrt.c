/* 1/sqrt(x), two roundings. */
static float net_rsqrt(float x)
{
    float root = sqrtf(x);
    return 1.0f / root;
}
