// One check per family of functions: each draws one case of every function of its family, or as many as `cases` asks
// for, and fails at the first difference.
#pragma once
#include "support.h"

namespace bitorch {

// Dot products, by method. Those of codes must be equal, those of floats close.
void check_dots(Random& random, const KernelTable& table, int cases);
void check_tables(Random& random, const KernelTable& table, int cases);  // kTables and what stages its input

// What follows the dot products.
void check_finish_int(Random& random, const KernelTable& table);
void check_to_float(Random& random, const KernelTable& table, bool from_int);
void check_to_codes(Random& random, const KernelTable& table, bool from_int);

// Whole layers: every fused kernel of the table on `cases` of those that it serves, and the staged path.
void check_fused(Random& random, const KernelTable& table, int cases);

// Rows.
void check_pixel_sums(Random& random, const KernelTable& table);
void check_look_up(Random& random, const KernelTable& table);
void check_byte_rows(Random& random, const KernelTable& table);
void check_max_of_floats(Random& random, const KernelTable& table);
void check_pixels(Random& random, const KernelTable& table);
void check_add_ints(Random& random, const KernelTable& table);
void check_float_rows(Random& random, const KernelTable& table);
void check_affine(Random& random, const KernelTable& table);
void check_compare_row(Random& random, const KernelTable& table);
void check_take(Random& random, const KernelTable& table);
void check_pairs(Random& random, const KernelTable& table);
void check_plane_rows(Random& random, const KernelTable& table);
void check_activations(Random& random, const KernelTable& table);
void check_softmax(Random& random, const KernelTable& table);
void check_matrices(Random& random, const KernelTable& table);
void check_slots(Random& random, const KernelTable& table);
void check_groups(Random& random, const KernelTable& table);

// Images of another size.
void check_resize_columns(Random& random, const KernelTable& table);
void check_resize_rows(Random& random, const KernelTable& table);

// Normalisations and reductions.
void check_sums(Random& random, const KernelTable& table);
void check_columns(Random& random, const KernelTable& table);
void check_extremes(Random& random, const KernelTable& table);
void check_normalize(Random& random, const KernelTable& table);
void check_standardize(Random& random, const KernelTable& table);

}  // namespace bitorch
