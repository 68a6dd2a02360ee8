#include "core/program/program.h"

#include <algorithm>
#include <chrono>
#include <cstring>
#include <limits>
#include <map>

#include "core/base/aligned.h"
#include "core/base/checked.h"
#include "core/base/float_mode.h"
#include "core/base/layout.h"
#include "core/base/threads.h"
#include "core/format/json.h"
#include "core/program/build.h"
#include "core/program/workspace.h"

namespace bitorch {

namespace {

// A large batch runs in pieces whose tensors stay in the cache: for all of ResNet-18, the tensors of eight images are
// read from memory, those of one are not. Each piece reads the weights anew, so its tensors may take as much as they
// do, but no more than a second-level cache holds.
constexpr int64_t kCachedBytes = 1 << 20, kMostCachedBytes = 2 << 20;

// Images first .. first + count - 1.
struct Piece {
  int64_t first, count;
};

struct Pieces {
  int64_t batch, count;
  Piece operator[](int64_t i) const {
    const int64_t share = batch / count, more = batch % count;
    return {i * share + std::min(i, more), share + (i < more ? 1 : 0)};
  }
};

}  // namespace

struct Program::State {
  BuiltProgram program;
  const KernelTable* kernels;
  WorkspaceList workspaces;
  int64_t images_at_once = 1;

  State(BuiltProgram built, const KernelTable* table) : program(std::move(built)), kernels(table) {
    int64_t weights = 0;
    for (const auto& operation : operations()) weights = checked_add(weights, operation->weight_bytes(), "the weights");
    weights = std::min(weights, program.kept_bytes);  // operations may share them
    const int64_t bytes = std::clamp(weights, kCachedBytes, kMostCachedBytes);
    images_at_once = std::max<int64_t>(1, bytes / std::max<int64_t>(1, program.arena_bytes));
  }

  Pieces pieces(int64_t batch) const { return {batch, ceil_div(batch, images_at_once)}; }

  const std::vector<std::unique_ptr<Operation>>& operations() const { return program.graph.operations; }

  // The arena, readable kSlack bytes further, then scratch.
  int64_t arena_bytes(int64_t batch) const {
    const char* what = "the memory of a run";
    return round_up(checked_add(checked_mul(program.arena_bytes, batch, what), 2 * kSlack, what) - kSlack, 64);
  }

  int64_t piece_bytes(int64_t images, int threads) const {
    const int64_t arena = arena_bytes(images);  // first: it refuses batches whose sizes overflow
    int64_t scratch = 0;
    for (const Operation* operation : program.graph.run_order) {
      scratch = std::max(scratch, operation->scratch_bytes(images, threads));
    }
    return checked_add(arena, checked_add(scratch, kSlack, "the memory of a run"), "the memory of a run");
  }

  int64_t workspace_bytes(int64_t batch, int threads) const {
    if (batch == 0) return checked_add(arena_bytes(0), kSlack, "the memory of a run");  // nothing is run
    const Pieces pieces = this->pieces(batch);
    const int64_t largest = pieces[0].count, smallest = pieces[pieces.count - 1].count;
    const int64_t bytes = piece_bytes(largest, threads);
    return largest == smallest ? bytes : std::max(bytes, piece_bytes(smallest, threads));
  }

  // Of the first image; run_piece fills in the rest.
  RunContext context(Workspace& workspace, const std::vector<ArrayView>& inputs, const std::vector<void*>& outputs,
                     int64_t batch) const {
    const int threads = get_num_threads();
    if (workspace.batch != batch || workspace.threads != threads) {
      workspace.bytes = workspace_bytes(batch, threads);
      workspace.batch = batch;
      workspace.threads = threads;
    }
    return {kernels, workspace.reserve(workspace.bytes), nullptr, 0, 0, threads, inputs.data(), outputs.data()};
  }

  // each(operation, context), in the order of running.
  template <class F>
  void run_piece(RunContext context, const Piece& piece, const F& each) const {
    context.scratch = context.arena + arena_bytes(piece.count);
    context.first = piece.first;
    context.batch = piece.count;
    for (const Operation* operation : program.graph.run_order) each(*operation, context);
  }
};

namespace {

int64_t port_bytes(const Program::Port& port, int64_t batch) {
  int64_t bytes = checked_mul(dtype_bytes(port.dtype), batch, "an output");
  for (int64_t extent : port.shape) bytes = checked_mul(bytes, extent, "an output");
  return bytes;
}

}  // namespace

Program::Program(const std::string& json, const std::map<std::string, ArrayView>& arrays, const KernelTable& kernels,
                 int64_t memory_limit, Tuning* tuning, SharedArrays* shared)
    : Program(Json::parse(json), arrays, kernels, memory_limit, tuning, shared) {}

Program::Program(const Json& json, const std::map<std::string, ArrayView>& arrays, const KernelTable& kernels,
                 int64_t memory_limit, Tuning* tuning, SharedArrays* shared)
    : state_(new State(build_program(json, arrays, kernels, memory_limit, tuning, shared), &kernels)) {
  if (memory_limit == kNoLimit) return;
  int64_t bytes = workspace_bytes(1);
  for (const Port& port : outputs()) bytes = checked_add(bytes, port_bytes(port, 1), "the results");
  if (bytes > memory_limit - kept_bytes()) {
    throw Error("one image is worked on in " + std::to_string(bytes) +
                " bytes, results included, and the operations keep " + std::to_string(kept_bytes()) +
                ": together more than the limit of " + std::to_string(memory_limit) +
                "; raise the limit if you trust where the program comes from");
  }
}

Program::~Program() = default;
Program::Program(Program&&) noexcept = default;
Program& Program::operator=(Program&&) noexcept = default;

const std::vector<Program::Port>& Program::inputs() const { return state_->program.graph.inputs; }
const std::vector<Program::Port>& Program::outputs() const { return state_->program.graph.outputs; }

namespace {

// Error unless the array is what the port takes, after a batch.
void check_input(const Program::Port& port, const ArrayView& array) {
  std::vector<int64_t> shape = array.shape;
  const bool fits = !shape.empty() && std::equal(shape.begin() + 1, shape.end(), port.shape.begin(), port.shape.end());
  if (array.dtype != port.dtype || !fits) {
    std::string expected;
    for (int64_t extent : port.shape) expected += ", " + std::to_string(extent);
    throw Error("input \"" + port.name + "\": the array is " + array.describe() + ", but must be " +
                dtype_name(port.dtype) + " [batch" + expected + "]");
  }
  const auto alignment = static_cast<uintptr_t>(dtype_bytes(array.dtype));
  if (array.elements() > 0 && (array.data == nullptr || reinterpret_cast<uintptr_t>(array.data) % alignment != 0)) {
    throw Error("input \"" + port.name + "\": the array must be C-contiguous and aligned to its dtype");
  }
}

}  // namespace

int64_t Program::batch(const std::vector<ArrayView>& inputs) const {
  const std::vector<Port>& ports = state_->program.graph.inputs;
  if (inputs.size() != ports.size()) {
    throw Error("the program takes " + std::to_string(ports.size()) + " inputs, but got " +
                std::to_string(inputs.size()));
  }
  for (size_t i = 0; i < ports.size(); ++i) check_input(ports[i], inputs[i]);
  const int64_t batch = inputs[0].shape[0];
  for (size_t i = 1; i < ports.size(); ++i) {
    if (inputs[i].shape[0] == batch) continue;
    throw Error("input \"" + ports[i].name + "\" has a batch of " + std::to_string(inputs[i].shape[0]) + ", but \"" +
                ports[0].name + "\" has " + std::to_string(batch) + "; they must be equal");
  }
  return batch;
}

void Program::run(const std::vector<ArrayView>& inputs, const std::vector<void*>& outputs) const {
  const int64_t batch = this->batch(inputs);
  if (outputs.size() != state_->program.graph.outputs.size()) throw Error("the number of output arrays is wrong");
  if (batch == 0) return;
  const IeeeFloats floats;
  const WorkspaceList::Lease workspace(state_->workspaces);
  const RunContext context = state_->context(*workspace, inputs, outputs, batch);
  const KeepAwake awake;
  const Pieces pieces = state_->pieces(batch);
  for (int64_t i = 0; i < pieces.count; ++i) {
    state_->run_piece(context, pieces[i],
                      [](const Operation& operation, const RunContext& piece) { operation.run(piece); });
  }
}

void Program::reserve(int64_t batch) const {
  const WorkspaceList::Lease workspace(state_->workspaces);
  const RunContext context = state_->context(*workspace, {}, {}, batch);
  std::memset(context.arena, 0, static_cast<size_t>(workspace->bytes));
}

namespace {

Program::TensorInfo describe_tensor(const Tensor& tensor) {
  static const char* const kLayouts[] = {"float32", "int32", "bytes", "planes"};
  const Halo& halo = tensor.layout.halo;
  return {tensor.name,
          values_name(tensor.values),
          kLayouts[static_cast<int>(tensor.layout.kind)],
          tensor.shape(),
          tensor.bits,
          {halo.top, halo.left, halo.bottom, halo.right}};
}

}  // namespace

std::vector<Program::OperationInfo> Program::describe() const {
  std::map<const Operation*, const Operation*> first_of;  // of those behind the first of a chain
  for (const auto& chain : state_->program.chains) {
    for (const Operation* operation : chain->operations()) first_of[operation] = chain->operations()[0];
  }
  std::map<const Operation*, const Tensor*> between;  // what those give alone that do the next one, too
  for (const auto& [next, taken] : state_->program.graph.taken_over) {
    first_of[next] = taken.by;
    between[taken.by] = taken.between;
  }
  std::vector<OperationInfo> list;
  for (const auto& operation : state_->operations()) {
    OperationInfo info;
    info.op = operation->op();
    info.kernel = operation->kernel(*state_->kernels);
    const auto first = first_of.find(operation.get());
    if (first != first_of.end() && first->second != operation.get()) info.kernel = "in " + first->second->where();
    for (const Tensor* tensor : operation->inputs()) info.inputs.push_back(tensor->name);
    const auto found = between.find(operation.get());
    for (const Tensor* tensor : operation->outputs()) {
      info.outputs.push_back(describe_tensor(found == between.end() ? *tensor : *found->second));
    }
    info.macs = operation->macs();
    info.weight_bytes = operation->weight_bytes();
    info.choices = operation->choices();
    list.push_back(std::move(info));
  }
  return list;
}

std::vector<double> Program::profile(const std::vector<ArrayView>& inputs, int repeats) const {
  if (repeats < 1 || repeats > 1000000)
    throw Error("repeats: " + std::to_string(repeats) + " — must be from 1 to 1000000");
  const int64_t batch = this->batch(inputs);
  const auto& operations = state_->operations();
  if (batch == 0) return std::vector<double>(operations.size(), 0.0);
  Budget no_limit;
  std::vector<AlignedArray<uint8_t>> results;
  std::vector<void*> outputs;
  for (const Port& port : state_->program.graph.outputs) {
    results.emplace_back(no_limit, port_bytes(port, batch), "an output");
    outputs.push_back(results.back().data());
  }
  const WorkspaceList::Lease workspace(state_->workspaces);
  const RunContext context = state_->context(*workspace, inputs, outputs, batch);
  const IeeeFloats floats;
  const KeepAwake awake;
  std::map<const Operation*, size_t> index;
  for (size_t i = 0; i < operations.size(); ++i) index[operations[i].get()] = i;
  for (const auto& chain : state_->program.chains) index[chain.get()] = index.at(chain->operations()[0]);
  const Pieces pieces = state_->pieces(batch);
  std::vector<double> seconds(operations.size(), std::numeric_limits<double>::infinity()), sums(operations.size());
  for (int repeat = 0; repeat <= repeats; ++repeat) {
    std::fill(sums.begin(), sums.end(), 0.0);
    for (int64_t i = 0; i < pieces.count; ++i) {
      state_->run_piece(context, pieces[i], [&](const Operation& operation, const RunContext& piece) {
        const auto start = std::chrono::steady_clock::now();
        operation.run(piece);
        const std::chrono::duration<double> taken = std::chrono::steady_clock::now() - start;
        sums[index.at(&operation)] += taken.count();
      });
    }
    if (repeat == 0) continue;
    for (size_t i = 0; i < sums.size(); ++i) seconds[i] = std::min(seconds[i], sums[i]);
  }
  return seconds;
}

int64_t Program::workspace_bytes(int64_t batch) const {
  if (batch < 0) throw Error("batch: " + std::to_string(batch) + " — must not be negative");
  return state_->workspace_bytes(batch, get_num_threads());
}

int64_t Program::kept_bytes() const { return state_->program.kept_bytes; }
const std::vector<SharedUse>& Program::uses() const { return state_->program.uses; }

const char* Program::kernels_name() const { return state_->kernels->name; }

}  // namespace bitorch
