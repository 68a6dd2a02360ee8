// Arrays that are charged to a budget before they are allocated: what a program keeps, and what is needed while it is
// made.
#pragma once
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <memory>
#include <new>
#include <type_traits>
#include <utility>

#include "core/base/budget.h"
#include "core/base/checked.h"

namespace bitorch {

// On a 64-byte boundary, zeroed. All that an operation keeps and that grows with the description or the arrays is in
// these.
template <class T>
class AlignedArray {
  static_assert(std::is_trivially_copyable_v<T> && std::is_trivially_destructible_v<T>,
                "the memory is zeroed, and freed as it is");

 public:
  AlignedArray() = default;
  // `what` is for the Error that says that it is more than the budget has left.
  AlignedArray(Budget& budget, int64_t count, const char* what) : size_(count) {
    const int64_t bytes = bytes_for(count, what);
    budget.charge(bytes, what);
    void* memory = ::operator new(static_cast<size_t>(bytes), std::align_val_t{kAlignment});
    std::memset(memory, 0, static_cast<size_t>(bytes));
    data_.reset(static_cast<T*>(memory));
  }
  T* data() { return data_.get(); }
  const T* data() const { return data_.get(); }
  int64_t size() const { return size_; }
  T& operator[](int64_t i) { return data_.get()[i]; }
  const T& operator[](int64_t i) const { return data_.get()[i]; }
  T* begin() { return data(); }
  T* end() { return data() + size_; }
  const T* begin() const { return data(); }
  const T* end() const { return data() + size_; }

  // That an array of this size is allocated in; readable beyond its last element.
  static int64_t bytes_for(int64_t count, const char* what) {
    return round_up(checked_add(checked_mul(count, static_cast<int64_t>(sizeof(T)), what), 127, what) - 63, 64);
  }

 private:
  static constexpr size_t kAlignment = 64;
  struct Free {
    void operator()(T* memory) const { ::operator delete(memory, std::align_val_t{kAlignment}); }
  };
  std::unique_ptr<T, Free> data_;
  int64_t size_ = 0;
};

// What several operations may share.
template <class T>
using Kept = std::shared_ptr<const AlignedArray<T>>;

// An array for the time of a scope: given back to the budget when it is destroyed, which must come first.
template <class T>
class TemporaryArray {
 public:
  TemporaryArray(Budget& budget, int64_t count, const char* what)
      : budget_(&budget), array_(budget, count, what), charged_(array_.bytes_for(count, what)) {}
  ~TemporaryArray() {
    if (budget_ != nullptr) budget_->give_back(charged_);
  }
  TemporaryArray(TemporaryArray&& other) noexcept
      : budget_(std::exchange(other.budget_, nullptr)), array_(std::move(other.array_)), charged_(other.charged_) {}
  TemporaryArray& operator=(TemporaryArray&&) = delete;

  T* data() { return array_.data(); }
  const T* data() const { return array_.data(); }
  int64_t size() const { return array_.size(); }
  T& operator[](int64_t i) { return array_[i]; }
  const T& operator[](int64_t i) const { return array_[i]; }
  T* begin() { return array_.begin(); }
  T* end() { return array_.end(); }
  const T* begin() const { return array_.begin(); }
  const T* end() const { return array_.end(); }

 private:
  Budget* budget_;
  AlignedArray<T> array_;
  int64_t charged_;
};

}  // namespace bitorch
