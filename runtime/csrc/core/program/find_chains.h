// Which operations of a program run as one.
#pragma once
#include <memory>
#include <vector>

#include "core/graph/chain.h"
#include "core/graph/graph.h"

namespace bitorch {

// Chains of operations (core/graph/chain.h), which take their places in graph.run_order: where a tensor has one reader,
// and that follows its maker row by row. The operations are planned. No number depends on it.
std::vector<std::unique_ptr<Chain>> find_chains(Graph& graph);

}  // namespace bitorch
