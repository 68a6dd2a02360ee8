// Feeds damaged programs, arrays, files and inputs to everything that reads them. A result, an Error and std::bad_alloc
// are the only outcomes allowed; two kernel tables must give the same result; an Error's text must be UTF-8. Sanitizers
// find the rest, so build with them.
//
//   fuzz_program [--seconds N | --count N] [--seed S] [--memory MB] --save FOLDER FILE|FOLDER ...   (of
//   tests/dump_cases.py) fuzz_program --replay FILE ...
//
// The case being tried is always in FOLDER/current.safetensors: what is there after a crash is what caused it. How a
// case is run (kernels, batch, inputs, failing allocations) follows from its bytes alone, so that --replay does the
// same again.
#include <algorithm>
#include <cmath>
#include <cstdio>
#include <string>
#include <vector>

#include "core/base/cpu.h"
#include "core/base/threads.h"
#include "fuzz_mutations.h"
#include "fuzz_support.h"

namespace bitorch {
namespace {

// ---- Writing a case ----

std::vector<uint8_t> write_case(const CaseFile& c) {
  std::string header = "{\"__metadata__\": {\"program\": " + Json::quoted(c.program) + "}";
  std::vector<uint8_t> data;
  const auto add = [&](const std::string& kind, const std::map<std::string, OwnedArray>& arrays) {
    for (const auto& [name, array] : arrays) {
      header += ", " + Json::quoted(kind + name) + ": {\"dtype\": \"" + safetensors_name(array.view.dtype) +
                "\", \"shape\": " + shape_text(array.view.shape) + ", \"data_offsets\": [" +
                std::to_string(data.size()) + ", " + std::to_string(data.size() + static_cast<size_t>(array.bytes)) +
                "]}";
      data.insert(data.end(), array.memory.get(), array.memory.get() + array.bytes);
    }
  };
  add("array.", c.arrays);
  add("input.", c.inputs);
  header += "}";
  return safetensors_bytes(header, data);
}

std::vector<uint8_t> mutate(Random& random, const std::vector<std::vector<uint8_t>>& seeds) {
  const std::vector<uint8_t>& seed = random.of(seeds);
  if (random.one_in(8)) {
    std::vector<uint8_t> bytes = seed;
    damage_bytes(random, &bytes);
    return bytes;
  }
  CaseFile c = CaseFile::parse(seed);
  if (random.one_in(8)) {
    std::vector<uint8_t> text(c.program.begin(), c.program.end());
    damage_bytes(random, &text);
    c.program.assign(text.begin(), text.end());
    return write_case(c);
  }
  if (!random.one_in(4)) c.program = mutate_json(random, c.program);
  if (random.one_in(3)) mutate_arrays(random, &c.arrays);
  if (random.one_in(8)) mutate_arrays(random, &c.inputs);
  return write_case(c);
}

// ---- Trying a case ----

struct Counts {
  void check() const {}
  int64_t tried = 0, refused = 0, out_of_memory = 0, loaded = 0, ran = 0, compared = 0, too_large = 0;
  void print() const {
    std::printf(
        "%lld tried: %lld refused, %lld out of memory, %lld loaded, %lld run, %lld compared between kernels, %lld too "
        "large to run\n",
        static_cast<long long>(tried), static_cast<long long>(refused), static_cast<long long>(out_of_memory),
        static_cast<long long>(loaded), static_cast<long long>(ran), static_cast<long long>(compared),
        static_cast<long long>(too_large));
  }
};

// What a run may cost here. Work that no description bounds (pools with vast windows) is caught by the alarm.
constexpr int64_t kMaxBytes = 128 << 20;
constexpr int64_t kMaxMacs = 300000000;

int64_t macs_of(const Program& program) {
  int64_t macs = 0;
  for (const Program::OperationInfo& operation : program.describe()) macs += operation.macs;
  return macs;
}

std::vector<OwnedArray> make_inputs(Random& random, const Program& program, const CaseFile& c, int64_t* batch) {
  std::vector<OwnedArray> inputs;
  const bool as_given = random.one_in(3);
  for (const Program::Port& port : program.inputs()) {
    const auto given = c.inputs.find(port.name);
    if (as_given && given != c.inputs.end()) {
      inputs.emplace_back(given->second.view);
      continue;
    }
    std::vector<int64_t> shape = {*batch};
    shape.insert(shape.end(), port.shape.begin(), port.shape.end());
    ArrayView size{port.dtype, shape, nullptr};
    if (size.elements() > kMaxBytes / 4) throw Error("an input too large to try");
    inputs.emplace_back(port.dtype, shape);
    OwnedArray& input = inputs.back();
    for (int64_t i = 0; i < input.view.elements(); ++i) {
      if (port.dtype == Dtype::kUint8) {
        input.memory[i] = static_cast<uint8_t>(random.below(size_t{1} << port.bits));
      } else if (port.dtype != Dtype::kFloat32) {
        put_index(random, port, input.memory.get(), i);
      } else {
        const float value = static_cast<float>(static_cast<int>(random.below(97)) - 32) / 32.0f;
        std::memcpy(input.memory.get() + i * 4, &value, 4);
      }
    }
    if (random.one_in(8)) put_extremes(random, &input);
    if (random.one_in(32)) reshape(random, &input);
  }
  return inputs;
}

bool same_numbers(const OwnedArray& a, const OwnedArray& b) {
  if (a.view.dtype != Dtype::kFloat32)
    return std::memcmp(a.memory.get(), b.memory.get(), static_cast<size_t>(a.bytes)) == 0;
  for (int64_t i = 0; i < a.bytes; i += 4) {
    float x, y;
    std::memcpy(&x, a.memory.get() + i, 4);
    std::memcpy(&y, b.memory.get() + i, 4);
    if (!(x == y || (std::isnan(x) && std::isnan(y)))) return false;
  }
  return true;
}

// A call that fails must leave the program as it was.
void run_short_of_memory(Random& random, const Program& program, const std::vector<ArrayView>& inputs,
                         const std::vector<void*>& outputs) {
  allocations_until_failure = static_cast<int64_t>(random.below(8));
  try {
    program.run(inputs, outputs);
  } catch (const std::bad_alloc&) {  // expected; the same call follows
  }
  allocations_until_failure = -1;
}

// Whether a program has sums of floats whose order depends on the kernels.
bool adds_floats(const std::string& program) {
  for (const char* name : {"_float\"", "\"matmul\"", "\"attention\""}) {
    if (program.find(name) != std::string::npos) return true;
  }
  return false;
}

void run_program(Random& random, const Program& program, const Program* other, const CaseFile& c, Counts* counts) {
  int64_t batch = static_cast<int64_t>(random.below(4));
  const std::vector<OwnedArray> inputs = make_inputs(random, program, c, &batch);
  std::vector<ArrayView> views;
  for (const OwnedArray& input : inputs) views.push_back(input.view);
  if (random.one_in(64) && !views.empty()) views.pop_back();
  batch = program.batch(views);
  int64_t bytes = program.workspace_bytes(batch);
  for (const Program::Port& port : program.outputs())
    bytes += ArrayView{port.dtype, port.shape, nullptr}.elements() * 4 * batch;
  if (bytes > kMaxBytes || macs_of(program) * std::max<int64_t>(batch, 1) > kMaxMacs) {
    ++counts->too_large;
    return;
  }
  const std::vector<OwnedArray> outputs = make_outputs(program, batch);
  if (random.one_in(4)) run_short_of_memory(random, program, views, pointers(outputs));
  program.run(views, pointers(outputs));
  ++counts->ran;
  if (random.one_in(16)) program.profile(views, 1);
  if (other == nullptr) return;
  const std::vector<OwnedArray> others = make_outputs(*other, batch);
  other->run(views, pointers(others));
  for (size_t i = 0; i < outputs.size(); ++i) {
    if (!same_numbers(outputs[i], others[i])) {
      throw Crash("output \"" + program.outputs()[i].name + "\" differs between kernels " + program.kernels_name() +
                  " and " + other->kernels_name());
    }
  }
  ++counts->compared;
}

// Load, describe, run. Sums of floats may differ from one kernel table to the next, so programs with them are not
// compared.
void try_case(const std::vector<uint8_t>& bytes, Counts* counts) {
  Random random(hash(bytes));
  ++counts->tried;
  const std::vector<std::string> names = available_kernels();
  try {
    const CaseFile c = CaseFile::parse(bytes);
    const KernelTable& table = kernels(random.of(names));
    const KernelTable& other_table = kernels(random.of(names));
    const bool has_float_sums = adds_floats(c.program);
    set_num_threads(1 + static_cast<int>(random.below(2)));
    if (random.one_in(8)) allocations_until_failure = static_cast<int64_t>(random.below(random.one_in(2) ? 100 : 2000));
    const Plans plans(c.program, c.array_views(), table);
    ++counts->loaded;
    const std::vector<std::vector<int64_t>> shapes = random_shapes(random, plans);
    const std::shared_ptr<const Program> program = plans.at(shapes);
    if (has_float_sums || &table == &other_table) {
      run_program(random, *program, nullptr, c, counts);
    } else {
      const Plans other(c.program, c.array_views(), other_table);
      run_program(random, *program, other.at(shapes).get(), c, counts);
    }
  } catch (const Error& error) {
    allocations_until_failure = -1;
    ++counts->refused;
    check_message(error.what());
  } catch (const std::bad_alloc&) {
    ++counts->out_of_memory;
  }
  allocations_until_failure = -1;
}

}  // namespace
}  // namespace bitorch

int main(int argc, char** argv) {
  using namespace bitorch;
  return fuzz_main<Counts>("fuzz_program", 128 << 10, argc, argv, mutate, try_case);
}
