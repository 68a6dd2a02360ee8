/* 0 from -lambda to lambda, else x. */
static float net_hardshrink(float x, float lambda)
{
    return x >= -lambda && x <= lambda ? 0.0f : x;
}
