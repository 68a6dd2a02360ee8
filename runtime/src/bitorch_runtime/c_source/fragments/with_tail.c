#include "by_table.c"
#include "with_sign_of.c"
/* max(x, 0) - a*tail(a), a = |x|, the tail by a table. */
static float net_with_tail(float x, const float *table)
{
    float a = net_absolute(x);
    float tail = a * net_by_table(a, 2.0f, table, 9);
    return (x > 0.0f ? x : 0.0f) - tail;
}
