#include "program_build.h"

#include <algorithm>
#include <functional>

#include "float_mode.h"
#include "memory_plan.h"
#include "ops.h"

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

std::unique_ptr<Operation> make_operation(const OperationReader& reader, BuiltProgram* program) {
  if (reader.op() == "input") {
    program->inputs.emplace_back();
    return make_input(reader, program->inputs.size() - 1, &program->inputs.back());
  }
  if (reader.op() == "output") {
    program->outputs.emplace_back();
    auto operation = make_output(reader, program->outputs.size() - 1, &program->outputs.back());
    for (size_t i = 0; i + 1 < program->outputs.size(); ++i) {
      if (program->outputs[i].name == program->outputs.back().name)
        reader.fail("input", "this tensor is an output already");
    }
    return operation;
  }
  std::string names = "\"input\", \"output\"";
  for (const NamedOperation& known : kOperations) {
    if (reader.op() == known.op) return known.make(reader);
    names += std::string(", \"") + known.op + "\"";
  }
  reader.fail("op", "must be one of " + names);
}

// Planning compares operations with one another; the largest networks in use have some hundreds.
constexpr size_t kMostOperations = 10000;

void read_operations(const std::string& text, ArrayTable& arrays, BuiltProgram* program) {
  const Json json = Json::parse(text);
  if (!json.is(Json::Type::kArray)) {
    throw Error(std::string("a program must be a list of operations, not ") + Json::type_name(json.type()));
  }
  if (json.items().size() > kMostOperations) {
    throw Error("a program of " + std::to_string(json.items().size()) + " operations: at most " +
                std::to_string(kMostOperations) + " are allowed");
  }
  for (size_t i = 0; i < json.items().size(); ++i) {
    const OperationReader reader(json.items()[i], i, arrays, program->graph);
    about(reader.where(), [&] { program->graph.operations.push_back(make_operation(reader, program)); });
  }
  if (program->inputs.empty()) throw Error("a program needs at least one \"input\" operation");
  if (program->outputs.empty()) throw Error("a program needs at least one \"output\" operation");
}

}  // namespace

BuiltProgram build_program(const std::string& json, const std::map<std::string, ArrayView>& arrays,
                           const KernelTable& kernels, int64_t memory_limit) {
  const IeeeFloats floats;
  ArrayTable table(arrays);
  BuiltProgram program;
  program.graph.weight_bytes_left = memory_limit;
  read_operations(json, table, &program);
  table.check_all_used();
  const auto& operations = program.graph.operations;
  std::vector<const Operation*>& order = program.graph.run_order;
  for (const auto& operation : operations) order.push_back(operation.get());
  std::stable_partition(order.begin(), order.end(),
                        [](const Operation* operation) { return operation->op() == "input"; });
  plan_layouts(program.graph, kernels);
  for (const auto& operation : operations) about(operation->where(), [&] { operation->plan(kernels); });
  program.arena_bytes = plan_arena(program.graph);
  return program;
}

}  // namespace bitorch
