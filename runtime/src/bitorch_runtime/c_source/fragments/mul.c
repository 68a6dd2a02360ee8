/* a*b */
static float net_mul(float a, float b)
{
    return a * b;
}
