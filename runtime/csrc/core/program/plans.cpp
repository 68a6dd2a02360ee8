#include "core/program/plans.h"

#include <algorithm>
#include <cstring>
#include <set>
#include <utility>

#include "core/base/checked.h"
#include "core/program/memory_limit.h"

namespace bitorch {

namespace {

// What plans keep together, one after the other: an array that several keep counts once.
class KeptTogether {
 public:
  // What this one adds to it.
  int64_t add(const Program& program) {
    int64_t bytes = program.kept_bytes();
    for (const SharedUse& use : program.uses()) {
      if (!counted_.insert(use.array).second) bytes -= use.bytes;
    }
    return bytes;
  }

 private:
  std::set<const void*> counted_;
};

}  // namespace

struct Plans::State {
  std::shared_ptr<const Program> only;  // where no size is open; else null, and all below is there
  std::vector<Port> inputs, outputs;

  OpenSizes sizes;
  const KernelTable* kernels;
  int64_t memory_limit;
  std::optional<Tuning> tuning;
  int64_t array_bytes = 0;
  std::vector<AlignedArray<uint8_t>> memory;
  std::map<std::string, ArrayView> arrays;
  std::vector<std::string> names;  // of the arrays, in order

  struct Plan {
    SizeSteps steps;
    std::shared_ptr<const Program> program;
  };
  std::mutex planning;  // held while a plan is made, so that one size is planned once
  SharedArrays shared;  // by all plans; used while one is made
  std::mutex looking;   // held while the list is read or changed
  std::list<Plan> plans;

  State(const KernelTable* table, int64_t limit) : kernels(table), memory_limit(limit) {}

  void keep(const std::map<std::string, ArrayView>& given) {
    Budget budget(memory_limit);
    for (const auto& [name, array] : given) {
      const int64_t bytes = checked_mul(array.elements(), dtype_bytes(array.dtype), "an array");
      memory.emplace_back(budget, bytes, "the arrays of a program whose sizes are open");
      if (bytes > 0 && array.data == nullptr) throw Error("array " + Json::quoted(name) + ": no data");
      if (bytes > 0) std::memcpy(memory.back().data(), array.data, static_cast<size_t>(bytes));
      arrays.emplace(name, ArrayView{array.dtype, array.shape, memory.back().data()});
      names.push_back(name);
    }
    array_bytes = budget.charged();
  }

  int64_t limit_of_plans() const {
    return memory_limit == Program::kNoLimit ? Program::kNoLimit : memory_limit - array_bytes;
  }

  std::shared_ptr<const Program> make(const SizeSteps& steps) {
    const SizedDescription description = sizes.at(steps, names, limit_of_plans());
    std::map<std::string, ArrayView> all = arrays;
    for (const auto& [name, indices] : description.arrays) {
      all.emplace(name, ArrayView{Dtype::kInt32, {static_cast<int64_t>(indices.size())}, indices.data()});
    }
    Tuning* measured = tuning.has_value() ? &*tuning : nullptr;
    shared.forget();
    return std::make_shared<const Program>(description.json, all, *kernels, limit_of_plans(), measured, &shared);
  }

  std::shared_ptr<const Program> find(const SizeSteps& steps) {
    const std::lock_guard<std::mutex> lock(looking);
    const auto found = std::find_if(plans.begin(), plans.end(), [&](const Plan& plan) { return plan.steps == steps; });
    if (found == plans.end()) return nullptr;
    plans.splice(plans.begin(), plans, found);
    return plans.front().program;
  }

  void remember(const SizeSteps& steps, const std::shared_ptr<const Program>& program) {
    std::list<Plan> dropped;  // destroyed when nobody waits for the lock
    const int64_t most = memory_limit == Program::kNoLimit ? kMemoryLimit : limit_of_plans();
    const std::lock_guard<std::mutex> lock(looking);
    plans.push_front({steps, program});
    KeptTogether together;
    int64_t bytes = 0;
    size_t kept = 0;
    for (auto plan = plans.begin(); plan != plans.end(); ++kept) {
      const int64_t workspace = plan->program->workspace_bytes(1);
      bytes = checked_add(bytes, checked_add(together.add(*plan->program), workspace, "a plan"), "plans");
      const auto next = std::next(plan);
      if (kept >= kMost || (kept > 0 && bytes > most)) dropped.splice(dropped.end(), plans, plan);
      plan = next;
    }
  }

  std::shared_ptr<const Program> at(const SizeSteps& steps) {
    if (std::shared_ptr<const Program> found = find(steps)) return found;
    const std::lock_guard<std::mutex> lock(planning);
    if (std::shared_ptr<const Program> found = find(steps)) return found;
    std::shared_ptr<const Program> made = make(steps);
    remember(steps, made);
    return made;
  }

  // What calls see: the ports of the smallest sizes, with what is open as -1.
  void take_ports(const Program& program) {
    inputs = program.inputs();
    outputs = program.outputs();
    for (size_t i = 0; i < inputs.size(); ++i) inputs[i].shape = sizes.shape_of("input", i);
    for (size_t i = 0; i < outputs.size(); ++i) outputs[i].shape = sizes.shape_of("output", i);
  }
};

Plans::Plans(const std::string& json, const std::map<std::string, ArrayView>& arrays, const KernelTable& kernels,
             int64_t memory_limit, Tuning* tuning) {
  state_ = std::make_unique<State>(&kernels, memory_limit);
  OpenSizes sizes(Json::parse(json));
  if (!sizes.any()) {
    state_->only = std::make_shared<const Program>(sizes.program(), arrays, kernels, memory_limit, tuning);
    state_->inputs = state_->only->inputs();
    state_->outputs = state_->only->outputs();
    return;
  }
  state_->sizes = std::move(sizes);
  state_->keep(arrays);
  if (tuning != nullptr) state_->tuning = *tuning;
  const std::shared_ptr<const Program> smallest = this->smallest();
  if (tuning != nullptr) *tuning = *state_->tuning;
  state_->take_ports(*smallest);
}

Plans::~Plans() = default;
Plans::Plans(Plans&&) noexcept = default;
Plans& Plans::operator=(Plans&&) noexcept = default;

const std::vector<Port>& Plans::inputs() const { return state_->inputs; }
const std::vector<Port>& Plans::outputs() const { return state_->outputs; }

std::vector<OpenSizes::Choice> Plans::choices(size_t input) const {
  return is_open() ? state_->sizes.choices(input) : std::vector<OpenSizes::Choice>();
}

bool Plans::is_open() const { return state_->only == nullptr; }

std::shared_ptr<const Program> Plans::at(const std::vector<std::vector<int64_t>>& shapes) const {
  return is_open() ? state_->at(state_->sizes.steps_of(shapes)) : state_->only;
}

std::shared_ptr<const Program> Plans::smallest() const {
  return is_open() ? state_->at(state_->sizes.smallest()) : state_->only;
}

int64_t Plans::kept_bytes() const {
  if (!is_open()) return state_->only->kept_bytes();
  const std::lock_guard<std::mutex> lock(state_->looking);
  KeptTogether together;
  int64_t bytes = state_->array_bytes;
  for (const State::Plan& plan : state_->plans) bytes = checked_add(bytes, together.add(*plan.program), "plans");
  return bytes;
}

size_t Plans::count() const {
  if (!is_open()) return 1;
  const std::lock_guard<std::mutex> lock(state_->looking);
  return state_->plans.size();
}

}  // namespace bitorch
