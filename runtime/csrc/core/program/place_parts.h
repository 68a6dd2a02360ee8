// Tensors that a concat puts side by side lie side by side from the start, where all who touch them can.
#pragma once
#include "core/graph/graph.h"

namespace bitorch {

// Makes inputs of concats, and concats that others begin with, parts (core/base/layout.h) of the largest:
//
//   a -> |                concat(a, b)     the first 2 parts of concat(a, b, c): there before c is
//   b -> | one tensor     concat(a, b, c)
//   c -> |                                 whoever makes a, b or c writes it there, and nothing is copied
//
// Layouts are chosen, and are changed here; the operations are not yet planned. No number depends on it.
void place_parts(Graph& graph);

}  // namespace bitorch
