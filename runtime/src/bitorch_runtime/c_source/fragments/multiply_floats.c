#include "matrices.c"
/* y = scale*sum of a*b: products one after the other, from 0 on, each rounded, and each sum rounded. */
static void net_multiply_floats(const net_matrices *shape, const float *a, const float *b, float scale, float *y)
{
    for (uint32_t i = 0; i < shape->m; i++) {
        for (uint32_t j = 0; j < shape->n; j++) {
            float sum = 0.0f;
            for (uint32_t k = 0; k < shape->k; k++) {
                sum += a[i * shape->a_row + k * shape->a_column] * b[k * shape->b_row + j * shape->b_column];
            }
            *y++ = sum * scale;
        }
    }
}
