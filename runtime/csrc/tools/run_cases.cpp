// Runs the cases of tests/dump_cases.py without Python and compares every result: for emulated CPUs and sanitizers.
//
//   run_cases [--kernel NAME] [--threads N] [--callers N] FILE|FOLDER ...
//
// Each case runs with every kernel table that this CPU has, or with the one named, twice in a row, on N threads of the
// pool, and with --callers from N threads at the same time. The dot products that ran must be those that were planned.
// Exits with 1 at the first difference and prints file and position, with 2 where a case cannot be read or run.
#include <algorithm>
#include <cmath>
#include <cstdio>
#include <exception>
#include <set>
#include <string>
#include <thread>
#include <vector>

#include "case_file.h"
#include "core/base/cpu.h"
#include "core/base/threads.h"
#include "core/program/plans.h"
#include "counted_kernels.h"
#include "tool.h"

namespace bitorch {
namespace {

constexpr double kRelativeTolerance = 1e-4;  // of dump_cases.py

struct Counts {
  int64_t cases = 0, equal_outputs = 0, close_outputs = 0, values = 0;
};

struct Difference : std::exception {
  explicit Difference(std::string text) : text(std::move(text)) {}
  const char* what() const noexcept override { return text.c_str(); }
  std::string text;
};

double value_at(const OwnedArray& array, int64_t i) {
  switch (array.view.dtype) {
    case Dtype::kUint8:
      return array.memory[i];
    case Dtype::kInt32: {
      int32_t value;
      std::memcpy(&value, array.memory.get() + i * 4, 4);
      return value;
    }
    case Dtype::kFloat32: {
      float value;
      std::memcpy(&value, array.memory.get() + i * 4, 4);
      return static_cast<double>(value);
    }
    default:
      throw Error("results are uint8, int32 or float32, not " + array.view.describe());
  }
}

bool right(double got, double expected, const double* tolerance) {
  if (got == expected || (std::isnan(got) && std::isnan(expected))) return true;
  if (tolerance == nullptr || !std::isfinite(expected)) return false;
  return std::abs(got - expected) <= *tolerance + kRelativeTolerance * std::abs(expected);  // false for NaN
}

std::string position_text(int64_t i, const std::vector<int64_t>& shape) {
  std::vector<int64_t> position(shape.size());
  for (size_t axis = shape.size(); axis-- > 0; i /= shape[axis]) position[axis] = i % shape[axis];
  return shape_text(position);
}

void compare(const std::string& name, const OwnedArray& got, const OwnedArray& expected, const double* tolerance) {
  if (got.view.dtype != expected.view.dtype || got.view.shape != expected.view.shape) {
    throw Difference(name + " is " + got.view.describe() + ", expected " + expected.view.describe());
  }
  int64_t wrong = 0, first = -1;
  for (int64_t i = 0; i < got.view.elements(); ++i) {
    if (right(value_at(got, i), value_at(expected, i), tolerance)) continue;
    if (wrong++ == 0) first = i;
  }
  if (wrong == 0) return;
  char values[96];
  std::snprintf(values, sizeof(values), "got %.9g, expected %.9g", value_at(got, first), value_at(expected, first));
  throw Difference(name + " " + got.view.describe() + ": " + std::to_string(wrong) + " values differ, first at " +
                   position_text(first, got.view.shape) + ": " + values);
}

std::vector<ArrayView> input_views(const Program& program, const CaseFile& c) {
  std::vector<ArrayView> views;
  for (const Program::Port& port : program.inputs()) {
    const auto input = c.inputs.find(port.name);
    if (input == c.inputs.end()) throw Error("the file has no \"input." + port.name + "\"");
    views.push_back(input->second.view);
  }
  return views;
}

// One call and the comparison of what it gave.
void run_once(const Program& program, const CaseFile& c, Counts* counts) {
  const std::vector<ArrayView> inputs = input_views(program, c);
  const std::vector<OwnedArray> outputs = make_outputs(program, program.batch(inputs));
  program.run(inputs, pointers(outputs));
  if (outputs.size() != c.expected.size()) {
    throw Difference(std::to_string(outputs.size()) + " outputs, expected " + std::to_string(c.expected.size()));
  }
  for (size_t i = 0; i < outputs.size(); ++i) {
    const std::string& name = program.outputs()[i].name;
    const auto expected = c.expected.find(name);
    if (expected == c.expected.end()) throw Difference("an output \"" + name + "\" that is not expected");
    const auto tolerance = c.tolerance.find(name);
    const bool exact = tolerance == c.tolerance.end();
    compare(name, outputs[i], expected->second, exact ? nullptr : &tolerance->second);
    ++(exact ? counts->equal_outputs : counts->close_outputs);
    counts->values += outputs[i].view.elements();
  }
}

void run_concurrently(const Program& program, const CaseFile& c, int callers) {
  std::vector<std::exception_ptr> errors(static_cast<size_t>(callers));
  std::vector<std::thread> threads;
  for (std::exception_ptr& error : errors) {
    threads.emplace_back([&] {
      try {
        Counts ignored;
        run_once(program, c, &ignored);
      } catch (...) {  // carried to the main thread
        error = std::current_exception();
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  for (const std::exception_ptr& error : errors) {
    if (error) std::rethrow_exception(error);
  }
}

struct Options {
  std::vector<std::string> kernels, paths;
  int threads = 1, callers = 0;
};

Options parse_options(int argc, char** argv) {
  const Arguments arguments(argc, argv, "run_cases [--kernel NAME] [--threads N] [--callers N] FILE|FOLDER ...",
                            {"--kernel", "--threads", "--callers"});
  Options options;
  options.kernels = arguments.texts("--kernel");
  options.paths = safetensors_files(arguments.paths());
  options.threads = static_cast<int>(arguments.number("--threads", 1, 1, 256));
  options.callers = static_cast<int>(arguments.number("--callers", 0, 1, 256));
  if (options.paths.empty()) arguments.fail("which cases?");
  if (options.kernels.empty()) options.kernels = available_kernels();
  return options;
}

std::string listed(const std::set<std::string>& names) {
  std::string text;
  for (const std::string& name : names) text += (text.empty() ? "" : ", ") + name;
  return text.empty() ? "none" : text;
}

void check_called(const Program& program, CountedKernels* kernels) {
  const KernelTable& table = kernels->table();
  const std::set<std::string> called = kernels->called();
  std::set<std::string> planned;
  for (const Program::OperationInfo& operation : program.describe()) {
    for (int method = 0; method < kMethods; ++method) {
      if (table.dot[method] != nullptr && operation.kernel == table.dot_name[method]) planned.insert(operation.kernel);
    }
  }
  if (called != planned) throw Difference("planned are " + listed(planned) + ", but called were " + listed(called));
}

// Of one image of each input.
std::vector<std::vector<int64_t>> shapes_of(const Plans& plans, const CaseFile& c) {
  std::vector<std::vector<int64_t>> shapes;
  for (const Port& port : plans.inputs()) {
    const auto input = c.inputs.find(port.name);
    if (input == c.inputs.end()) throw Error("the file has no \"input." + port.name + "\"");
    const std::vector<int64_t>& shape = input->second.view.shape;
    shapes.emplace_back(shape.begin() + (shape.empty() ? 0 : 1), shape.end());
  }
  return shapes;
}

void run_case(CountedKernels* kernels, const CaseFile& c, const Options& options, Counts* counts) {
  const Plans plans(c.program, c.array_views(), kernels->table());
  const std::shared_ptr<const Program> plan = plans.at(shapes_of(plans, c));
  const Program& program = *plan;
  kernels->called();  // those of the case before
  run_once(program, c, counts);
  if (program.batch(input_views(program, c)) > 0) check_called(program, kernels);
  Counts ignored;
  run_once(program, c, &ignored);  // in the memory of the first
  if (options.callers > 0) run_concurrently(program, c, options.callers);
  ++counts->cases;
}

int run(int argc, char** argv) {
  const Options options = parse_options(argc, argv);
  set_num_threads(options.threads);
  for (const std::string& name : options.kernels) {
    CountedKernels table(kernels(name));
    Counts counts;
    for (const std::string& file : options.paths) {
      try {
        run_case(&table, CaseFile::parse(read_file(file)), options, &counts);
      } catch (const Difference& difference) {
        std::printf("DIFFERENCE %s, kernels %s\n  %s\n", file.c_str(), name.c_str(), difference.what());
        return 1;
      } catch (const Error& error) {
        throw Error(file + ", kernels " + name + ": " + error.what());
      }
    }
    std::printf("%s: %lld cases, %lld outputs equal, %lld within tolerance, %lld values\n", name.c_str(),
                static_cast<long long>(counts.cases), static_cast<long long>(counts.equal_outputs),
                static_cast<long long>(counts.close_outputs), static_cast<long long>(counts.values));
  }
  return 0;
}

}  // namespace
}  // namespace bitorch

int main(int argc, char** argv) { return bitorch::run_tool("run_cases", bitorch::run, argc, argv); }
