// Where every tensor of a program lies: layouts, halos, and offsets in one arena that tensors share when their lives
// allow.
#pragma once
#include <cstdint>

#include "core/graph/graph.h"

namespace bitorch {

// Decides the layout of every tensor: its kind and its halo.
//
// Codes lie in bit planes where a convolution that reads them prefers that, directly or behind pools and
// concatenations, and everything that touches them can; else in bytes. The halo is the widest padding among the
// consumers.
void plan_layouts(Graph& graph, const KernelTable& kernels);

// Gives every tensor its offset; operations run in the order of graph.run_order. Returns the bytes of the arena, for
// one image: both scale with the batch.
int64_t plan_arena(Graph& graph);

}  // namespace bitorch
