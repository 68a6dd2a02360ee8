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
//
//   offset
//     ^  | c c c c c                      a tensor lives from the operation that defines it to the last that reads it;
//     |  | b b b . . . e e e e e          where two lives do not meet, the tensors may have the same bytes: b and e.
//     |  | a a a a a d d d d d d          Largest first, each at the lowest place that is free for its whole life.
//     +--+-----------------------> operations
//
// A smaller arena also lets more images of a batch be worked on in the cache at a time (program.cpp).
int64_t plan_arena(Graph& graph);

}  // namespace bitorch
