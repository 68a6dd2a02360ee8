#include "core/program/build.h"

#include <algorithm>
#include <functional>
#include <set>

#include "core/base/float_mode.h"
#include "core/program/memory_plan.h"
#include "operations/operations.h"

namespace bitorch {

namespace {

struct NamedOperation {
  const char* op;
  MakeOperation make;
};

constexpr NamedOperation kOperations[] = {
    {"conv2d", make_conv2d},
    {"linear", make_linear},
    {"conv2d_float", make_conv2d_float},
    {"linear_float", make_linear_float},
    {"max_pool", make_max_pool},
    {"avg_pool", make_avg_pool},
    {"global_avg_pool", make_global_avg_pool},
    {"adaptive_avg_pool", make_adaptive_avg_pool},
    {"quantize", make_quantize},
    {"dequantize", make_dequantize},
    {"lookup", make_lookup},
    {"add", make_add},
    {"affine", make_affine},
    {"concat", make_concat},
    {"flatten", make_flatten},
    {"activation", make_activation},
    {"softmax", make_softmax},
    {"mul", make_mul},
    {"select", make_select},
    {"pad", make_pad},
    {"take", make_take},
    {"reshape", make_reshape},
    {"permute", make_permute},
};

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

std::unique_ptr<Operation> make_operation(const OperationReader& reader, BuiltProgram* program,
                                          std::set<std::string>* outputs) {
  if (reader.op() == "input") {
    program->inputs.emplace_back();
    return make_input(reader, program->inputs.size() - 1, &program->inputs.back());
  }
  if (reader.op() == "output") {
    program->outputs.emplace_back();
    auto operation = make_output(reader, program->outputs.size() - 1, &program->outputs.back());
    if (!outputs->insert(program->outputs.back().name).second) reader.fail("input", "this tensor is an output already");
    return operation;
  }
  for (const NamedOperation& known : kOperations) {
    if (reader.op() == known.op) return known.make(reader);
  }
  std::string names;
  for (const std::string& name : Program::operation_names()) names += (names.empty() ? "\"" : ", \"") + name + "\"";
  reader.fail("op", "must be one of " + names);
}

// Planning compares operations with one another; the largest networks in use have some hundreds.
constexpr size_t kMostOperations = 10000;

void read_operations(const std::string& text, ArrayTable& arrays, Preparation& preparation, BuiltProgram* program) {
  const Json json = Json::parse(text);
  if (!json.is(Json::Type::kArray)) {
    throw Error(std::string("a program must be a list of operations, not ") + Json::type_name(json.type()));
  }
  if (json.items().size() > kMostOperations) {
    throw Error("a program of " + std::to_string(json.items().size()) + " operations: at most " +
                std::to_string(kMostOperations) + " are allowed");
  }
  std::set<std::string> outputs;
  for (size_t i = 0; i < json.items().size(); ++i) {
    const OperationReader reader(json.items()[i], i, arrays, program->graph, preparation);
    about(reader.where(), [&] {
      preparation.budget().charge(Budget::kOperationBytes, "an operation");
      program->graph.operations.push_back(make_operation(reader, program, &outputs));
    });
  }
  if (program->inputs.empty()) throw Error("a program needs at least one \"input\" operation");
  if (program->outputs.empty()) throw Error("a program needs at least one \"output\" operation");
}

}  // namespace

std::vector<std::string> Program::operation_names() {
  std::vector<std::string> names = {"input", "output"};
  for (const NamedOperation& known : kOperations) names.push_back(known.op);
  return names;
}

BuiltProgram build_program(const std::string& json, const std::map<std::string, ArrayView>& arrays,
                           const KernelTable& kernels, int64_t memory_limit) {
  const IeeeFloats floats;
  int64_t array_bytes = 0;
  for (const auto& [name, array] : arrays) {
    const int64_t bytes = checked_mul(array.elements(), dtype_bytes(array.dtype), "an array");
    array_bytes = checked_add(array_bytes, bytes, "the arrays");
  }
  Preparation preparation(memory_limit, array_bytes);
  BuiltProgram program;
  {
    ArrayTable table(arrays, preparation.budget());  // until plan() is done, which reads arrays too
    read_operations(json, table, preparation, &program);
    table.check_all_used();
    std::vector<const Operation*>& order = program.graph.run_order;
    for (const auto& operation : program.graph.operations) order.push_back(operation.get());
    std::stable_partition(order.begin(), order.end(),
                          [](const Operation* operation) { return operation->op() == "input"; });
    plan_layouts(program.graph, kernels);
    for (const auto& operation : program.graph.operations) {
      about(operation->where(), [&] { operation->plan(kernels, preparation); });
    }
  }
  program.arena_bytes = plan_arena(program.graph);
  program.kept_bytes = preparation.budget().charged();
  return program;
}

}  // namespace bitorch
