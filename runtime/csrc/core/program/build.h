// From the description of a program to its operations, checked and planned.
#pragma once
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "core/base/shared_arrays.h"
#include "core/graph/chain.h"
#include "core/graph/graph.h"

namespace bitorch {

class Json;
struct Tuning;

struct BuiltProgram {
  Graph graph;
  std::vector<std::unique_ptr<Chain>> chains;  // of operations of the graph
  int64_t arena_bytes = 0;                     // per image
  int64_t kept_bytes = 0;                      // all that the operations keep
  std::vector<SharedUse> uses;                 // of kept_bytes, what others may keep as well
};

BuiltProgram build_program(const Json& json, const std::map<std::string, ArrayView>& arrays, const KernelTable& kernels,
                           int64_t memory_limit, Tuning* tuning, SharedArrays* shared);

}  // namespace bitorch
