/* a/b */
static float net_div(float a, float b)
{
    return a / b;
}
