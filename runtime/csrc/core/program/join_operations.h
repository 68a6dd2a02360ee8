// Operations that one of them does together with the next, which alone reads what it gives: the next one then never
// runs, and the tensor between them is nowhere.
#pragma once
#include "core/graph/graph.h"

namespace bitorch {

// When layouts are final and nothing is planned yet.
void join_operations(Graph& graph, const KernelTable& kernels, Preparation& preparation);

}  // namespace bitorch
