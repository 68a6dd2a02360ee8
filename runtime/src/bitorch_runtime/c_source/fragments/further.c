/* Of two numbers the larger, or the smaller; the first of equal ones, and NaN wins. */
static float net_further(float one, float other, int smallest)
{
    int wins = (smallest ? other < one : other > one) || (other != other && one == one);
    return wins ? other : one;
}
