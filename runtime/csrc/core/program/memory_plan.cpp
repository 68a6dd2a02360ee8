#include "core/program/memory_plan.h"

#include <algorithm>
#include <unordered_map>

#include "core/base/checked.h"

namespace bitorch {

namespace {

struct Users {
  const Operation* producer = nullptr;
  std::vector<const Operation*> consumers;
  int first = 0, last = 0;  // positions in the order of running
};

std::unordered_map<const Tensor*, Users> find_users(const Graph& graph) {
  std::unordered_map<const Tensor*, Users> users;
  for (size_t i = 0; i < graph.run_order.size(); ++i) {
    const Operation* operation = graph.run_order[i];
    const int position = static_cast<int>(i);
    for (const Tensor* tensor : operation->outputs()) {
      Users& user = users[tensor];
      user.producer = operation;
      user.first = user.last = position;
    }
    for (const Tensor* tensor : operation->inputs()) {
      Users& user = users[tensor];
      user.consumers.push_back(operation);
      user.last = std::max(user.last, position);
    }
  }
  return users;
}

Kind choose_kind(const Tensor& tensor, const Users& users, const KernelTable& kernels) {
  if (tensor.values == Values::kFloat32) return Kind::kFloat;
  if (tensor.values == Values::kInt32) return Kind::kInt;
  bool preferred = false;
  bool possible = users.producer->writes_planes(tensor);
  for (const Operation* consumer : users.consumers) {
    preferred = preferred || consumer->prefers_planes(tensor, kernels);
    possible = possible && consumer->reads_planes(tensor, kernels);
  }
  return preferred && possible ? Kind::kPlanes : Kind::kBytes;
}

Halo widest_halo(const Tensor& tensor, const Users& users) {
  Halo halo;
  for (const Operation* consumer : users.consumers) {
    const Halo other = consumer->halo(tensor);
    halo.top = std::max(halo.top, other.top);
    halo.left = std::max(halo.left, other.left);
    halo.bottom = std::max(halo.bottom, other.bottom);
    halo.right = std::max(halo.right, other.right);
  }
  return halo;
}

// Positions in the order of running.
struct Life {
  int first, last;
};

// Of what is in the arena: not of tensors within chains. A tensor with parts lives as long as any of them.
std::unordered_map<const Tensor*, Life> find_lives(const std::unordered_map<const Tensor*, Users>& users) {
  std::unordered_map<const Tensor*, Life> lives;
  for (const auto& [tensor, user] : users) {
    const Tensor* whole = tensor->whole != nullptr ? tensor->whole : tensor;
    const auto life = lives.try_emplace(whole, Life{user.first, user.last}).first;
    life->second = {std::min(life->second.first, user.first), std::max(life->second.last, user.last)};
  }
  return lives;
}

struct Placed {
  int64_t offset, end;
  int first, last;
};

// The lowest place for `bytes` among those already placed that live at the same time. `placed` is in the order of
// offsets: a program of very many operations is planned in a second too.
int64_t find_offset(const std::vector<Placed>& placed, const Life& life, int64_t bytes) {
  int64_t offset = 0;
  for (const Placed& other : placed) {
    if (other.first > life.last || life.first > other.last) continue;
    if (checked_add(offset, bytes, "the memory of a program") <= other.offset) break;
    offset = std::max(offset, other.end);
  }
  return offset;
}

}  // namespace

void plan_layouts(Graph& graph, const KernelTable& kernels) {
  const auto users = find_users(graph);
  // Backwards: whether a pool prefers planes depends on what was chosen for its output.
  for (auto tensor = graph.tensors.rbegin(); tensor != graph.tensors.rend(); ++tensor) {
    const Users& user = users.at(&*tensor);
    const Kind kind = choose_kind(*tensor, user, kernels);
    try {
      tensor->layout =
          Layout::make(kind, tensor->height, tensor->width, tensor->channels, tensor->bits, widest_halo(*tensor, user));
    } catch (const OperationError&) {
      throw;
    } catch (const Error& error) {
      throw OperationError(user.producer->where() + ": " + error.what());
    }
  }
}

int64_t plan_arena(Graph& graph) {
  const auto users = find_users(graph);
  const auto lives = find_lives(users);
  std::vector<Tensor*> order;
  for (Tensor& tensor : graph.tensors) {
    if (lives.count(&tensor) != 0) order.push_back(&tensor);
  }
  std::stable_sort(order.begin(), order.end(),
                   [](const Tensor* a, const Tensor* b) { return a->layout.image_bytes > b->layout.image_bytes; });
  std::vector<Placed> placed;
  int64_t arena = 0;
  for (Tensor* tensor : order) {
    const Life& life = lives.at(tensor);
    // What a kernel reads beyond a tensor must not be another one, which another thread may be writing.
    const int64_t bytes = checked_add(tensor->layout.image_bytes, kSlack, "the memory of a program");
    tensor->arena_offset = find_offset(placed, life, bytes);
    const int64_t end = checked_add(tensor->arena_offset, bytes, "the memory of a program");
    const auto place = std::upper_bound(placed.begin(), placed.end(), tensor->arena_offset,
                                        [](int64_t offset, const Placed& other) { return offset < other.offset; });
    placed.insert(place, {tensor->arena_offset, end, life.first, life.last});
    arena = std::max(arena, end);
  }
  for (Tensor& tensor : graph.tensors) {
    if (tensor.whole != nullptr) tensor.arena_offset = tensor.whole->arena_offset;
  }
  return arena;
}

}  // namespace bitorch
