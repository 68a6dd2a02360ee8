#include "core/program/program.h"

#include <nanobind/stl/map.h>
#include <nanobind/stl/optional.h>
#include <nanobind/stl/shared_ptr.h>
#include <nanobind/stl/string.h>
#include <nanobind/stl/vector.h>

#include <map>
#include <memory>
#include <optional>

#include "arrays.h"
#include "core/base/cpu.h"
#include "core/conv/tuning.h"
#include "core/program/model.h"
#include "program.h"

namespace nb = nanobind;
using namespace nb::literals;

namespace bitorch {
namespace {

void init(Plans* self, const std::string& json, const nb::dict& arrays, std::optional<int64_t> memory_limit) {
  std::vector<InputArray> owners;
  std::map<std::string, ArrayView> views;
  for (auto [key, value] : arrays) {
    std::string name;
    if (!nb::try_cast(key, name, false)) throw nb::type_error("arrays: the keys must be strings");
    owners.push_back(input_array(value, "array '" + name + "'"));
    views.emplace(name, owners.back().view);
  }
  new (self) Plans(json, views, kernels(), memory_limit.value_or(Program::kNoLimit));
}

std::vector<InputArray> program_inputs(const Program& program, const nb::list& inputs) {
  std::vector<InputArray> arrays;
  for (nb::handle input : inputs) {
    const size_t i = arrays.size();
    const std::string name = i < program.inputs().size() ? " '" + program.inputs()[i].name + "'" : "";
    arrays.push_back(input_array(input, "input " + std::to_string(i) + name));
  }
  return arrays;
}

nb::list run(const Program& program, const nb::list& inputs) {
  const std::vector<InputArray> arrays = program_inputs(program, inputs);
  const std::vector<ArrayView> views = views_of(arrays);
  const int64_t batch = program.batch(views);
  std::vector<ResultArray> results;
  std::vector<void*> outputs;
  for (const Program::Port& port : program.outputs()) {
    std::vector<int64_t> shape{batch};
    shape.insert(shape.end(), port.shape.begin(), port.shape.end());
    results.emplace_back(port.dtype, std::move(shape));
    outputs.push_back(results.back().data());
  }
  {
    const nb::gil_scoped_release release;
    program.run(views, outputs);
  }
  nb::list list;
  for (const ResultArray& result : results) list.append(result.numpy());
  return list;
}

std::vector<double> profile(const Program& program, const nb::list& inputs, int repeats) {
  const std::vector<InputArray> arrays = program_inputs(program, inputs);
  const std::vector<ArrayView> views = views_of(arrays);
  const nb::gil_scoped_release release;
  return program.profile(views, repeats);
}

// Python has shared_ptr<Program> only, and no method that changes one.
std::shared_ptr<Program> shared(const std::shared_ptr<const Program>& program) {
  return std::const_pointer_cast<Program>(program);
}

std::shared_ptr<Program> plan_at(const Plans& plans, const std::vector<std::vector<int64_t>>& shapes) {
  const nb::gil_scoped_release release;
  return shared(plans.at(shapes));
}

// Of each dimension of each input (the smallest, the step); the step is 0 of what no call chooses.
nb::list choices(const Plans& plans) {
  nb::list list;
  for (size_t i = 0; i < plans.inputs().size(); ++i) {
    nb::list dimensions;
    for (const OpenSizes::Choice& choice : plans.choices(i)) {
      dimensions.append(nb::make_tuple(choice.least, choice.step));
    }
    list.append(nb::tuple(dimensions));
  }
  return list;
}

nb::list ports(const std::vector<Program::Port>& ports) {
  nb::list list;
  for (const Program::Port& port : ports) {
    nb::dict entry;
    entry["name"] = port.name;
    entry["dtype"] = dtype_name(port.dtype);
    entry["shape"] = nb::tuple(nb::cast(port.shape));
    entry["order"] = port.order;
    entry["bits"] = port.bits;
    list.append(entry);
  }
  return list;
}

nb::dict tensor(const Program::TensorInfo& info) {
  nb::dict entry;
  entry["name"] = info.name;
  entry["dtype"] = info.dtype;
  entry["layout"] = info.layout;
  entry["shape"] = nb::tuple(nb::cast(info.shape));
  entry["bits"] = info.bits;
  entry["halo"] = nb::tuple(nb::cast(info.halo));
  return entry;
}

nb::list describe(const Program& program) {
  nb::list list;
  for (const Program::OperationInfo& info : program.describe()) {
    nb::list outputs;
    for (const Program::TensorInfo& output : info.outputs) outputs.append(tensor(output));
    nb::dict entry;
    entry["op"] = info.op;
    entry["kernel"] = info.kernel;
    entry["inputs"] = nb::cast(info.inputs);
    entry["outputs"] = outputs;
    entry["macs"] = info.macs;
    entry["weight_bytes"] = info.weight_bytes;
    nb::list choices;
    for (const KernelTime& choice : info.choices) {
      nb::dict time;
      time["kernel"] = choice.kernel;
      time["nanoseconds"] = choice.nanoseconds;
      time["measured"] = choice.measured;
      choices.append(time);
    }
    entry["choices"] = choices;
    list.append(entry);
  }
  return list;
}

// What Python's Model needs: its plans, and what the file says besides.
nb::tuple model_parts(Model model) {
  return nb::make_tuple(nb::cast(std::move(model.plans)), model.format_version, model.description, model.info,
                        model.sha256);
}

nb::tuple load_file(const nb::bytes& path, int64_t memory_limit) {
  return model_parts([&] {
    const std::string name(path.c_str(), path.size());
    const nb::gil_scoped_release release;
    return Model::load(name, kernels(), memory_limit);
  }());
}

// Besides, the times that it chose by: those given, and what was measured.
nb::tuple load_file_tuned(const nb::bytes& path, int64_t memory_limit, std::map<std::string, double> times) {
  Tuning tuning;
  tuning.nanoseconds = std::move(times);
  tuning.measure = true;
  nb::tuple parts = model_parts([&] {
    const std::string name(path.c_str(), path.size());
    const nb::gil_scoped_release release;
    return Model::load(name, kernels(), memory_limit, &tuning);
  }());
  return nb::make_tuple(std::move(parts), nb::cast(tuning.nanoseconds));
}

nb::tuple load_bytes(const nb::bytes& bytes, int64_t memory_limit) {
  return model_parts([&] {
    const nb::gil_scoped_release release;
    return Model::read(bytes.c_str(), bytes.size(), kernels(), memory_limit);
  }());
}

}  // namespace

void bind_program(nb::module_& module) {
  nb::class_<Plans>(module, "Plans")
      .def("__init__", &init, "json"_a, "arrays"_a, "memory_limit"_a.none() = nb::none())
      .def("is_open", &Plans::is_open)
      .def("at", &plan_at, "shapes"_a)
      .def("smallest", [](const Plans& plans) { return shared(plans.smallest()); })
      .def("choices", &choices)
      .def("inputs", [](const Plans& plans) { return ports(plans.inputs()); })
      .def("outputs", [](const Plans& plans) { return ports(plans.outputs()); })
      .def("count", &Plans::count)
      .def("kept_bytes", &Plans::kept_bytes);
  nb::class_<Program>(module, "Program")
      .def("run", &run, "inputs"_a)
      .def("profile", &profile, "inputs"_a, "repeats"_a)
      .def("describe", &describe)
      .def("workspace_bytes", &Program::workspace_bytes, "batch"_a)
      .def("kept_bytes", &Program::kept_bytes)
      .def("kernels_name", &Program::kernels_name);
  module.def("operations", &Program::operations);
  module.def("load_file", &load_file, "path"_a, "memory_limit"_a);
  module.def("load_file_tuned", &load_file_tuned, "path"_a, "memory_limit"_a, "times"_a);
  module.def("load_bytes", &load_bytes, "bytes"_a, "memory_limit"_a);
}

}  // namespace bitorch
