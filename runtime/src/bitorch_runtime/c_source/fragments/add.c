/* a + b */
static float net_add(float a, float b)
{
    return a + b;
}
