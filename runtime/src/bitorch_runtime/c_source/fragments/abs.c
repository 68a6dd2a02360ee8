#include "with_sign_of.c"
/* |x| */
static float net_abs(float x)
{
    return net_absolute(x);
}
