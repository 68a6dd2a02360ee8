// The C interface: include/bitorch_runtime.h says what each function does.
#include "bitorch_runtime.h"

#include <algorithm>
#include <cstring>
#include <exception>
#include <memory>
#include <new>
#include <string>
#include <utility>
#include <vector>

#include "core/base/checked.h"
#include "core/base/cpu.h"
#include "core/base/threads.h"
#include "core/program/model.h"

struct bitorch_model {
  std::shared_ptr<const bitorch::Model> model;      // which models for a size share
  std::shared_ptr<const bitorch::Program> program;  // null where sizes are open
  std::vector<bitorch_port> inputs, outputs;
};

namespace {

using bitorch::Error;
using bitorch::Model;
using bitorch::Program;

// Cut where a character begins, so that the text stays UTF-8.
void put_text(const char* text, char* error, size_t error_size) {
  if (error == nullptr || error_size == 0) return;
  size_t length = std::min(std::strlen(text), error_size - 1);
  if (text[length] != '\0') {
    while (length > 0 && (static_cast<unsigned char>(text[length]) & 0xC0) == 0x80) --length;
  }
  std::memcpy(error, text, length);
  error[length] = '\0';
}

// Nothing that the library throws is anything but a std::exception.
template <class F>
bitorch_status guarded(char* error, size_t error_size, const F& body) noexcept {
  try {
    body();
    put_text("", error, error_size);
    return BITORCH_OK;
  } catch (const std::bad_alloc&) {
    put_text("there is not enough memory", error, error_size);
    return BITORCH_NO_MEMORY;
  } catch (const std::exception& exception) {
    put_text(exception.what(), error, error_size);
    return BITORCH_ERROR;
  }
}

bitorch_dtype dtype_of(bitorch::Dtype dtype) {
  switch (dtype) {
    case bitorch::Dtype::kFloat32:
      return BITORCH_FLOAT32;
    case bitorch::Dtype::kInt32:
      return BITORCH_INT32;
    case bitorch::Dtype::kUint8:
      return BITORCH_UINT8;
    case bitorch::Dtype::kInt64:
      return BITORCH_INT64;
    default:
      throw Error(std::string("arrays of ") + bitorch::dtype_name(dtype) + " have no name in C");
  }
}

// The names stay where they are: in the program, which the model keeps.
std::vector<bitorch_port> ports_of(const std::vector<Program::Port>& ports) {
  std::vector<bitorch_port> list;
  for (const Program::Port& port : ports) {
    bitorch_port entry = {port.name.c_str(),
                          dtype_of(port.dtype),
                          BITORCH_NF,
                          port.bits,
                          static_cast<int>(port.shape.size()),
                          {1, 1, 1, 1, 1, 1, 1, 1},
                          0,
                          {1, 1, 1, 1, 1, 1, 1, 1},
                          {0, 0, 0, 0, 0, 0, 0, 0}};
    if (port.order != "nf") entry.order = port.order == "nchw" ? BITORCH_NCHW : BITORCH_NHWC;
    entry.bytes = bitorch::dtype_bytes(port.dtype);
    for (size_t i = 0; i < port.shape.size() && i < Program::kMaxArrayRank; ++i) {
      entry.shape[i] = entry.least[i] = port.shape[i];
      entry.bytes = bitorch::checked_mul(entry.bytes, std::max<int64_t>(port.shape[i], 0), "an image");
    }
    list.push_back(entry);
  }
  return list;
}

std::unique_ptr<bitorch_model> model_of(std::shared_ptr<const Model> loaded) {
  const bitorch::Plans& plans = loaded->plans;
  auto model = std::make_unique<bitorch_model>();
  model->inputs = ports_of(plans.inputs());
  model->outputs = ports_of(plans.outputs());
  for (size_t i = 0; plans.is_open() && i < model->inputs.size(); ++i) {
    const std::vector<bitorch::OpenSizes::Choice> choices = plans.choices(i);
    for (size_t d = 0; d < choices.size(); ++d) {
      model->inputs[i].least[d] = choices[d].least;
      model->inputs[i].step[d] = choices[d].step;
    }
  }
  if (!plans.is_open()) model->program = plans.smallest();
  model->model = std::move(loaded);
  return model;
}

template <class Load>
bitorch_status load(int64_t memory_limit, bitorch_model** model, char* error, size_t error_size,
                    const Load& body) noexcept {
  if (model != nullptr) *model = nullptr;
  return guarded(error, error_size, [&] {
    if (model == nullptr) throw Error("model: must not be null");
    if (memory_limit < 0) throw Error("memory_limit: " + std::to_string(memory_limit) + "; it must not be negative");
    const int64_t limit = memory_limit == 0 ? bitorch::kMemoryLimit : memory_limit;
    *model = model_of(std::make_shared<const Model>(body(limit))).release();
  });
}

template <class T>
const T* at(const std::vector<T>& list, int index) {
  return index >= 0 && static_cast<size_t>(index) < list.size() ? &list[static_cast<size_t>(index)] : nullptr;
}

void check_pointer(const void* pointer, const char* what, const Program::Port& port) {
  const auto alignment = static_cast<uintptr_t>(bitorch::dtype_bytes(port.dtype));
  if (pointer != nullptr && reinterpret_cast<uintptr_t>(pointer) % alignment == 0) return;
  throw Error(std::string(what) + " \"" + port.name + "\": the pointer is " +
              (pointer == nullptr ? "null" : "not aligned to its dtype"));
}

const Program& program_of(const bitorch_model* model) {
  if (model == nullptr) throw Error("model: must not be null");
  if (model->program == nullptr) {
    throw Error("model: its sizes are open (a shape has -1); run what bitorch_at_sizes makes of it");
  }
  return *model->program;
}

// A model of one plan. Its ports keep names of the plan.
std::unique_ptr<bitorch_model> at_sizes(const bitorch_model* model, const int64_t* const* shapes) {
  if (model == nullptr) throw Error("model: must not be null");
  if (shapes == nullptr) throw Error("shapes: must not be null");
  std::vector<std::vector<int64_t>> lists;
  for (size_t i = 0; i < model->inputs.size(); ++i) {
    if (shapes[i] == nullptr) throw Error("shapes[" + std::to_string(i) + "]: must not be null");
    lists.emplace_back(shapes[i], shapes[i] + model->inputs[i].dimensions);
  }
  auto sized = std::make_unique<bitorch_model>();
  sized->program = model->program != nullptr ? model->program : model->model->plans.at(lists);
  sized->model = model->model;
  sized->inputs = ports_of(sized->program->inputs());
  sized->outputs = ports_of(sized->program->outputs());
  for (size_t i = 0; i < lists.size(); ++i) {
    const bitorch_port& port = sized->inputs[i];
    if (std::equal(lists[i].begin(), lists[i].end(), port.shape, port.shape + port.dimensions)) continue;
    throw Error("shapes[" + std::to_string(i) + "]: the model has input \"" + port.name +
                "\" of one size: " + bitorch::shape_text({port.shape, port.shape + port.dimensions}));
  }
  return sized;
}

void run(const Program& program, int64_t batch, const void* const* inputs, void* const* outputs) {
  if (batch < 0) throw Error("batch: " + std::to_string(batch) + "; it must not be negative");
  if (inputs == nullptr || outputs == nullptr) throw Error("inputs and outputs must not be null");
  std::vector<bitorch::ArrayView> views;
  for (const Program::Port& port : program.inputs()) {
    std::vector<int64_t> shape = {batch};
    shape.insert(shape.end(), port.shape.begin(), port.shape.end());
    const void* data = inputs[views.size()];
    if (batch > 0) check_pointer(data, "input", port);
    views.push_back({port.dtype, std::move(shape), data});
  }
  std::vector<void*> results;
  for (const Program::Port& port : program.outputs()) {
    results.push_back(outputs[results.size()]);
    if (batch > 0) check_pointer(results.back(), "output", port);
  }
  program.run(views, results);
}

}  // namespace

extern "C" {

const char* bitorch_version(void) { return BITORCH_RUNTIME_VERSION; }

bitorch_status bitorch_load(const char* path, int64_t memory_limit, bitorch_model** model, char* error,
                            size_t error_size) {
  return load(memory_limit, model, error, error_size, [&](int64_t limit) {
    if (path == nullptr) throw Error("path: must not be null");
    return Model::load(path, bitorch::kernels(), limit);
  });
}

bitorch_status bitorch_load_memory(const void* data, size_t size, int64_t memory_limit, bitorch_model** model,
                                   char* error, size_t error_size) {
  return load(memory_limit, model, error, error_size, [&](int64_t limit) {
    if (data == nullptr) throw Error("data: must not be null");
    return Model::read(data, size, bitorch::kernels(), limit);
  });
}

void bitorch_free(bitorch_model* model) { delete model; }

int bitorch_input_count(const bitorch_model* model) {
  return model == nullptr ? 0 : static_cast<int>(model->inputs.size());
}
int bitorch_output_count(const bitorch_model* model) {
  return model == nullptr ? 0 : static_cast<int>(model->outputs.size());
}
const bitorch_port* bitorch_input(const bitorch_model* model, int index) {
  return model == nullptr ? nullptr : at(model->inputs, index);
}
const bitorch_port* bitorch_output(const bitorch_model* model, int index) {
  return model == nullptr ? nullptr : at(model->outputs, index);
}

int bitorch_class_count(const bitorch_model* model) {
  return model == nullptr ? 0 : static_cast<int>(model->model->class_names.size());
}
const char* bitorch_class_name(const bitorch_model* model, int index) {
  const std::string* name = model == nullptr ? nullptr : at(model->model->class_names, index);
  return name == nullptr ? nullptr : name->c_str();
}
const char* bitorch_info(const bitorch_model* model) { return model == nullptr ? nullptr : model->model->info.c_str(); }

bitorch_status bitorch_run(const bitorch_model* model, int64_t batch, const void* const* inputs, void* const* outputs,
                           char* error, size_t error_size) {
  return guarded(error, error_size, [&] { run(program_of(model), batch, inputs, outputs); });
}

bitorch_status bitorch_at_sizes(const bitorch_model* model, const int64_t* const* shapes, bitorch_model** sized,
                                char* error, size_t error_size) {
  if (sized != nullptr) *sized = nullptr;
  return guarded(error, error_size, [&] {
    if (sized == nullptr) throw Error("sized: must not be null");
    *sized = at_sizes(model, shapes).release();
  });
}

bitorch_status bitorch_set_threads(int threads, char* error, size_t error_size) {
  return guarded(error, error_size, [&] { bitorch::set_num_threads(threads); });
}
int bitorch_get_threads(void) {
  int threads = 0;
  guarded(nullptr, 0, [&] { threads = bitorch::get_num_threads(); });
  return threads;
}

}  // extern "C"
