/* Many matrices: matrix i of the result, of `count`, and where its factors begin. Rows and columns of each are `step`
 * numbers apart. */
typedef struct {
    uint32_t m, n, k, a_row, a_column, b_row, b_column;
} net_matrices;
