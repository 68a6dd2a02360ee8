// Memory on 64-byte boundaries, zeroed.
#pragma once
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <new>

#include "checked.h"

namespace bitorch {

template <class T>
class AlignedArray {
 public:
  AlignedArray() = default;
  explicit AlignedArray(int64_t count) : size_(count) {
    const int64_t bytes = round_up(checked_add(checked_mul(count, static_cast<int64_t>(sizeof(T)), "an array"), 64, "an array"), 64);
    void* memory = std::aligned_alloc(64, static_cast<size_t>(bytes));
    if (memory == nullptr) throw std::bad_alloc();
    std::memset(memory, 0, static_cast<size_t>(bytes));
    data_.reset(static_cast<T*>(memory));
  }
  T* data() { return data_.get(); }
  const T* data() const { return data_.get(); }
  int64_t size() const { return size_; }
  T& operator[](int64_t i) { return data_.get()[i]; }
  const T& operator[](int64_t i) const { return data_.get()[i]; }

 private:
  struct Free {
    void operator()(T* p) const { std::free(p); }
  };
  std::unique_ptr<T, Free> data_;
  int64_t size_ = 0;
};

}  // namespace bitorch
