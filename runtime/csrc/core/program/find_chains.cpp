#include "core/program/find_chains.h"

#include <memory>
#include <unordered_map>
#include <unordered_set>
#include <utility>
#include <vector>

#include "core/graph/by_rows.h"
#include "core/graph/chain.h"

namespace bitorch {

namespace {

using Readers = std::unordered_map<const Tensor*, std::vector<const Operation*>>;

Readers find_readers(const Graph& graph) {
  Readers readers;
  for (const Operation* operation : graph.run_order) {
    for (const Tensor* tensor : operation->inputs()) readers[tensor].push_back(operation);
  }
  return readers;
}

// The operation that may run in one with this one, row by row; null where there is none.
const Operation* follower(const Operation& operation, const Readers& readers) {
  if (operation.outputs().size() != 1 || operation.by_rows() == nullptr) return nullptr;
  const Tensor& tensor = *operation.outputs()[0];
  if (tensor.whole != nullptr) return nullptr;
  const auto found = readers.find(&tensor);
  if (found == readers.end() || found->second.size() != 1) return nullptr;
  const Operation* next = found->second[0];
  const Halo& halo = tensor.layout.halo;
  if (halo.top != 0 || halo.left != 0 || halo.bottom != 0 || halo.right != 0) return nullptr;
  // A convolution begins a chain; within one it would wait for few pixels at a time.
  if (next->by_rows() == nullptr || next->outputs().empty() || next->macs() != 0) return nullptr;
  // What all rows need would be made by every thread.
  return tensor.height > 1 || next->outputs()[0]->height == 1 ? next : nullptr;
}

// What takes the rows of this one's result while they are made; null where nothing does.
const Operation* onlooker_of(const Operation& last, const Readers& readers,
                             const std::unordered_set<const Operation*>& taken) {
  if (last.outputs().size() != 1 || last.by_rows() == nullptr) return nullptr;
  const Tensor& tensor = *last.outputs()[0];
  const auto found = readers.find(&tensor);
  if (tensor.whole != nullptr || found == readers.end()) return nullptr;
  for (const Operation* reader : found->second) {
    if (reader->takes_rows() != nullptr && taken.count(reader) == 0) return reader;
  }
  return nullptr;
}

}  // namespace

std::vector<std::unique_ptr<Chain>> find_chains(Graph& graph) {
  std::vector<std::unique_ptr<Chain>> chains;
  const Readers readers = find_readers(graph);
  std::unordered_set<const Operation*> taken;
  std::unordered_map<const Operation*, const Operation*> chain_of;  // by the last of its operations
  for (const Operation* first : graph.run_order) {
    if (taken.count(first) != 0) continue;
    std::vector<const Operation*> operations = {first};
    while (operations.size() < Chain::kMost) {
      const Operation* next = follower(*operations.back(), readers);
      if (next == nullptr || taken.count(next) != 0) break;
      operations.push_back(next);
    }
    const Operation* onlooker = onlooker_of(*operations.back(), readers, taken);
    if (operations.size() == 1 && onlooker == nullptr) continue;
    taken.insert(operations.begin(), operations.end());
    if (onlooker != nullptr) taken.insert(onlooker);
    chains.push_back(std::make_unique<Chain>(operations, onlooker));
    chains.back()->set_name(operations[0]->op(), operations[0]->where());
    chain_of[operations.back()] = chains.back().get();
  }
  std::vector<const Operation*> order;
  for (const Operation* operation : graph.run_order) {
    const auto chain = chain_of.find(operation);
    if (chain != chain_of.end()) {
      order.push_back(chain->second);
    } else if (taken.count(operation) == 0) {
      order.push_back(operation);
    }
  }
  graph.run_order = std::move(order);
  return chains;
}

}  // namespace bitorch
