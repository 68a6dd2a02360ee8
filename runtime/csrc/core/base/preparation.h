// What is shared by the operations of a program while it is made: the budget, and what they make of arrays. A network
// may apply one layer many times; what it keeps is then kept once.
#pragma once
#include <algorithm>
#include <cstdint>
#include <map>
#include <memory>
#include <typeindex>
#include <utility>
#include <vector>

#include "core/base/aligned.h"
#include "core/base/budget.h"
#include "core/base/pages.h"
#include "core/base/shared_arrays.h"

namespace bitorch {

struct Tuning;

class Preparation {
 public:
  // tuning: what kernels were measured to take; null: they say themselves. shared: what other plans of the same file
  // keep; null: there are none.
  explicit Preparation(int64_t memory_limit, int64_t array_bytes, Tuning* tuning = nullptr,
                       SharedArrays* shared = nullptr)
      : budget_(memory_limit, array_bytes), tuning_(tuning), shared_(shared) {}
  Preparation(const Preparation&) = delete;
  Preparation& operator=(const Preparation&) = delete;

  Budget& budget() { return budget_; }
  Tuning* tuning() const { return tuning_; }

  // Uninitialised memory for one operation while it is planned; the next gets the same. `what` as of Budget::charge().
  uint8_t* room(int64_t bytes, const char* what) {
    if (bytes <= room_bytes_) return room_->data();
    budget_.charge(bytes - room_bytes_, what);
    const bool fits = room_ != nullptr && bytes <= kLeastRoom;
    room_bytes_ = bytes;
    if (fits) return room_->data();
    room_.reset();
    room_ = std::make_unique<Pages>(static_cast<size_t>(std::max(bytes, kLeastRoom)));
    return room_->data();
  }
  void free_room() {
    budget_.give_back(std::exchange(room_bytes_, 0));
    room_.reset();
  }

  // Numbers, and addresses of arrays, which stay what they are while the program is made.
  using Key = std::vector<int64_t>;
  static int64_t address(const void* memory) { return static_cast<int64_t>(reinterpret_cast<intptr_t>(memory)); }

  // What make() returned when this type and key were first asked for. The key must hold all that the result depends on.
  template <class T, class Make>
  std::shared_ptr<const T> share(Key key, const Make& make) {
    std::shared_ptr<const void>& made = made_[{std::type_index(typeid(T)), std::move(key)}];
    if (made == nullptr) made = std::make_shared<const T>(make());
    return std::static_pointer_cast<const T>(made);
  }

  // For operations to keep: the array, or an equal one that another plan keeps. It stays charged either way, as the
  // other plan may be dropped.
  template <class T>
  Kept<T> kept(AlignedArray<T> array) {
    const int64_t bytes = array.bytes_for(array.size(), "an array");
    if (shared_ == nullptr || bytes < kLeastShared) return std::make_shared<const AlignedArray<T>>(std::move(array));
    Kept<T> one = shared_->one_of(std::move(array));
    uses_.push_back({one.get(), bytes});
    return one;
  }
  // Of arrays that others may keep as well.
  std::vector<SharedUse> take_uses() { return std::move(uses_); }

 private:
  static constexpr int64_t kLeastShared = 1024;  // beneath, what is known of an array takes as much
  // Addresses; pages that are not touched are not there.
  static constexpr int64_t kLeastRoom = int64_t{16} << 20;

  Budget budget_;
  Tuning* tuning_;
  SharedArrays* shared_;
  std::vector<SharedUse> uses_;
  std::unique_ptr<Pages> room_;
  int64_t room_bytes_ = 0;
  std::map<std::pair<std::type_index, Key>, std::shared_ptr<const void>> made_;
};

// For an operation to keep: a copy of `count` values of an array, repeated until there are `period` of them.
template <class T>
Kept<T> keep(Preparation& preparation, const T* values, int64_t count, int64_t period) {
  const auto key = {Preparation::address(values), count, period};
  return *preparation.share<Kept<T>>(key, [&] {
    AlignedArray<T> copy(preparation.budget(), period, "copies of arrays");
    for (int64_t i = 0; i < period; i += count) std::copy_n(values, std::min(count, period - i), copy.data() + i);
    return preparation.kept(std::move(copy));
  });
}

template <class T>
Kept<T> keep(Preparation& preparation, const T* values, int64_t count) {
  return keep(preparation, values, count, count);
}

}  // namespace bitorch
