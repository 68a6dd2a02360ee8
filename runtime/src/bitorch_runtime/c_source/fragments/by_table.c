#include "fused.c"
/* The polynomial of the step in which x lies, from -3.4375 to 3.4375, of which `steps` lie between two whole numbers.
 * The table has a row for each power, the highest first, and a column for each of 8 steps. */
static float net_by_table(float x, float steps, const float *table, uint32_t powers)
{
    float step = x * steps, d, sum;
    int32_t column;
    step = step + 12582912.0f; /* 1.5*2^23: what is left are integers */
    step = step - 12582912.0f;
    column = (int32_t)step & 7;
    d = net_fused(step, -1.0f / steps, x);
    sum = table[column];
    for (uint32_t i = 1; i < powers; i++) {
        sum = net_fused(sum, d, table[8 * i + (uint32_t)column]);
    }
    return sum;
}
