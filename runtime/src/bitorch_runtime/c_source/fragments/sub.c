/* a - b */
static float net_sub(float a, float b)
{
    return a - b;
}
