#include "core/program/build.h"

#include <algorithm>
#include <functional>
#include <memory>
#include <utility>
#include <vector>

#include "core/base/cpu.h"
#include "core/base/float_mode.h"
#include "core/base/tuning.h"
#include "core/format/json.h"
#include "core/program/find_chains.h"
#include "core/program/join_operations.h"
#include "core/program/memory_plan.h"
#include "core/program/place_parts.h"
#include "core/program/program.h"
#include "operations/operations.h"

namespace bitorch {

namespace {

// Errors from below say which operation they are about.
void about(const std::string& where, const std::function<void()>& step) {
  try {
    step();
  } catch (const OperationError&) {
    throw;
  } catch (const Error& error) {
    throw OperationError(where + ": " + error.what());
  }
}

const OperationDefinition& definition_of(const OperationReader& reader) {
  for (const OperationDefinition& known : all_operations()) {
    if (reader.op() == known.op) return known;
  }
  std::string names;
  for (const OperationDefinition& known : all_operations()) {
    names += (names.empty() ? "\"" : ", \"") + std::string(known.op) + "\"";
  }
  reader.fail("op", "must be one of " + names);
}

std::unique_ptr<Operation> make_operation(const OperationReader& reader) {
  const OperationDefinition& definition = definition_of(reader);
  reader.allow(definition.keys);
  std::unique_ptr<Operation> operation = definition.make(reader);
  operation->set_name(reader.op(), reader.where());
  return operation;
}

// Planning compares operations with one another; the largest networks in use have some hundreds.
constexpr size_t kMostOperations = 10000;

void read_operations(const Json& json, ArrayTable& arrays, Preparation& preparation, Graph* graph) {
  if (!json.is(Json::Type::kArray)) {
    throw Error(std::string("a program must be a list of operations, not ") + Json::type_name(json.type()));
  }
  if (json.items().size() > kMostOperations) {
    throw Error("a program of " + std::to_string(json.items().size()) + " operations: at most " +
                std::to_string(kMostOperations) + " are allowed");
  }
  for (size_t i = 0; i < json.items().size(); ++i) {
    const OperationReader reader(json.items()[i], i, arrays, *graph, preparation);
    about(reader.where(), [&] {
      preparation.budget().charge(Budget::kOperationBytes, "an operation");
      graph->operations.push_back(make_operation(reader));
    });
  }
  if (graph->inputs.empty()) throw Error("a program needs at least one \"input\" operation");
  if (graph->outputs.empty()) throw Error("a program needs at least one \"output\" operation");
}

}  // namespace

std::map<std::string, std::vector<std::string>> Program::operations() {
  std::map<std::string, std::vector<std::string>> operations;
  for (const OperationDefinition& known : all_operations()) {
    std::vector<std::string>& keys = operations[known.op];
    keys.assign(known.keys.begin(), known.keys.end());
    std::sort(keys.begin(), keys.end());
  }
  return operations;
}

BuiltProgram build_program(const Json& json, const std::map<std::string, ArrayView>& arrays, const KernelTable& kernels,
                           int64_t memory_limit, Tuning* tuning, SharedArrays* shared) {
  const IeeeFloats floats;
  int64_t array_bytes = 0;
  for (const auto& [name, array] : arrays) {
    const int64_t bytes = checked_mul(array.elements(), dtype_bytes(array.dtype), "an array");
    array_bytes = checked_add(array_bytes, bytes, "the arrays");
  }
  if (tuning != nullptr) tuning->kernels = &kernels;
  Preparation preparation(memory_limit, array_bytes, tuning, shared);
  BuiltProgram program;
  {
    ArrayTable table(arrays, preparation.budget());  // until plan() is done, which reads arrays too
    read_operations(json, table, preparation, &program.graph);
    table.check_all_used();
    std::vector<const Operation*>& order = program.graph.run_order;
    for (const auto& operation : program.graph.operations) order.push_back(operation.get());
    std::stable_partition(order.begin(), order.end(),
                          [](const Operation* operation) { return operation->op() == "input"; });
    plan_layouts(program.graph, kernels);
    if (fused_allowed()) place_parts(program.graph);
    if (fused_allowed()) join_operations(program.graph, kernels, preparation);
    for (const auto& operation : program.graph.operations) {
      if (program.graph.taken_over.count(operation.get()) != 0) continue;
      about(operation->where(), [&] { operation->plan(kernels, preparation); });
    }
    if (fused_allowed()) program.chains = find_chains(program.graph);
    for (const auto& chain : program.chains) {
      about(chain->where(), [&] { chain->plan(kernels, preparation); });
    }
    preparation.free_room();
  }
  program.arena_bytes = plan_arena(program.graph);
  program.kept_bytes = preparation.budget().charged();
  program.uses = preparation.take_uses();
  return program;
}

}  // namespace bitorch
