#include "core/program/join_operations.h"

#include <algorithm>
#include <unordered_map>
#include <vector>

namespace bitorch {

namespace {

using Readers = std::unordered_map<const Tensor*, std::vector<const Operation*>>;

// The only reader of its only output; null where there are others.
const Operation* only_reader(const Operation& operation, const Readers& readers) {
  if (operation.outputs().size() != 1 || operation.outputs()[0]->whole != nullptr) return nullptr;
  const auto found = readers.find(operation.outputs()[0]);
  return found != readers.end() && found->second.size() == 1 ? found->second[0] : nullptr;
}

bool takes_over(Operation& operation, const Operation& next, const KernelTable& kernels, Preparation& preparation) {
  try {
    return operation.take_over(next, kernels, preparation);
  } catch (const Error& error) {
    throw OperationError(operation.where() + ": " + error.what());
  }
}

}  // namespace

void join_operations(Graph& graph, const KernelTable& kernels, Preparation& preparation) {
  Readers readers;
  for (const Operation* operation : graph.run_order) {
    for (const Tensor* tensor : operation->inputs()) readers[tensor].push_back(operation);
  }
  for (const auto& operation : graph.operations) {
    const Operation* next = only_reader(*operation, readers);
    if (next == nullptr) continue;
    const Tensor* between = operation->outputs()[0];
    if (!takes_over(*operation, *next, kernels, preparation)) continue;
    graph.taken_over[next] = {operation.get(), between};
    graph.run_order.erase(std::find(graph.run_order.begin(), graph.run_order.end(), next));
  }
}

}  // namespace bitorch
