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

struct Placed {
  int64_t offset, end;
  int first, last;
};

// The lowest place for `bytes` among those already placed that live at the same time. `placed` is in the order of
// offsets: a program of very many operations is planned in a second too.
int64_t find_offset(const std::vector<Placed>& placed, const Users& life, int64_t bytes) {
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

namespace {

bool same_layout(const Layout& a, const Layout& b) {
  return a.kind == b.kind && a.height == b.height && a.width == b.width && a.channels == b.channels &&
         a.row_bytes == b.row_bytes && a.image_bytes == b.image_bytes && a.halo.top == b.halo.top &&
         a.halo.left == b.halo.left;
}

// Whether numbers in the order of memory have the same bytes, whatever their axes.
bool same_bytes(const Layout& a, const Layout& b) {
  return a.kind == b.kind && a.kind != Kind::kPlanes && !a.has_halo() && !b.has_halo() &&
         a.height * a.row_bytes == b.height * b.row_bytes && a.image_bytes == b.image_bytes;
}

// Tensors that have the same bytes, and from when to when.
struct Place {
  std::vector<Tensor*> tensors;
  Users life;
};

// A tensor whose memory this one may take over from then on; null: none.
const Tensor* overwritten(const Tensor& tensor, const std::unordered_map<const Tensor*, Users>& users) {
  const Users& life = users.at(&tensor);
  const Tensor* before = life.producer->overwrites(tensor);
  if (before == nullptr || before->whole != nullptr || tensor.whole != nullptr) return nullptr;
  const bool fits = same_layout(before->layout, tensor.layout) || same_bytes(before->layout, tensor.layout);
  return fits && users.at(before).last == life.first ? before : nullptr;
}

// One place for each tensor of the arena, which those within chains are not, except for parts, which are in the whole
// one's, and where an operation writes over the last use of what it reads.
//
//   conv a -> b; conv c + residual b -> d     b's last reader is the second: d takes its bytes, one read and one write
std::vector<Place> places_of(Graph& graph, const std::unordered_map<const Tensor*, Users>& users) {
  std::vector<Place> places;
  std::unordered_map<const Tensor*, size_t> place_of;
  for (Tensor& tensor : graph.tensors) {
    const auto user = users.find(&tensor);
    if (user == users.end()) continue;
    const Tensor* before = overwritten(tensor, users);
    const Tensor* owner = before != nullptr ? before : tensor.whole != nullptr ? tensor.whole : &tensor;
    const auto found = place_of.find(owner);
    const size_t place = found == place_of.end() ? places.size() : found->second;
    if (place == places.size()) places.push_back({{}, user->second});
    Place& mine = places[place];
    mine.tensors.push_back(&tensor);
    mine.life.first = std::min(mine.life.first, user->second.first);
    mine.life.last = std::max(mine.life.last, user->second.last);
    place_of[owner] = place_of[&tensor] = place;
  }
  return places;
}

}  // namespace

int64_t plan_arena(Graph& graph) {
  const auto users = find_users(graph);
  std::vector<Place> order = places_of(graph, users);
  const auto bytes_of = [](const Place& place) { return place.tensors.front()->layout.image_bytes; };
  std::stable_sort(order.begin(), order.end(),
                   [&](const Place& a, const Place& b) { return bytes_of(a) > bytes_of(b); });
  std::vector<Placed> placed;
  int64_t arena = 0;
  for (const Place& place : order) {
    // What a kernel reads beyond a tensor must not be another one, which another thread may be writing.
    const int64_t bytes = checked_add(bytes_of(place), kSlack, "the memory of a program");
    const int64_t offset = find_offset(placed, place.life, bytes);
    const int64_t end = checked_add(offset, bytes, "the memory of a program");
    for (Tensor* tensor : place.tensors) tensor->arena_offset = offset;
    const auto at = std::upper_bound(placed.begin(), placed.end(), offset,
                                     [](int64_t o, const Placed& other) { return o < other.offset; });
    placed.insert(at, {offset, end, place.life.first, place.life.last});
    arena = std::max(arena, end);
  }
  return arena;
}

}  // namespace bitorch
