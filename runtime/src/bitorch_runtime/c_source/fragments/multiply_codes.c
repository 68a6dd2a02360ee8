#include "code.c"
#include "matrices.c"
/* A tensor of codes: its field, and what a code q stands for, scale*q - zero. */
typedef struct {
    const uint32_t *codes;
    uint32_t field;
    int32_t scale, zero;
} net_factor;

static int32_t net_factor_at(const net_factor *factor, uint32_t index)
{
    return factor->scale * (int32_t)net_code(factor->codes, factor->field, index) - factor->zero;
}

/* D = sum of products of what codes stand for, of matrices that begin at codes `first_a` and `first_b`. */
static void net_multiply_codes(const net_matrices *shape, const net_factor *a, uint32_t first_a, const net_factor *b,
                               uint32_t first_b, int32_t *d)
{
    for (uint32_t i = 0; i < shape->m; i++) {
        for (uint32_t j = 0; j < shape->n; j++) {
            int32_t sum = 0;
            for (uint32_t k = 0; k < shape->k; k++) {
                int32_t one = net_factor_at(a, first_a + i * shape->a_row + k * shape->a_column);
                sum += one * net_factor_at(b, first_b + k * shape->b_row + j * shape->b_column);
            }
            *d++ = sum;
        }
    }
}
