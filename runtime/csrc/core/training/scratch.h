// Memory for the time of one call, on a 64-byte boundary. Not zeroed: its pages are written once, by who uses them.
#pragma once
#include <cstddef>
#include <cstdint>
#include <memory>
#include <new>
#include <type_traits>

#include "core/base/checked.h"

namespace bitorch {

template <class T>
class Scratch {
  static_assert(std::is_trivially_copyable_v<T> && std::is_trivially_destructible_v<T>, "nothing is constructed");

 public:
  Scratch() = default;
  // Readable for 64 bytes beyond the last element.
  explicit Scratch(int64_t count) {
    const int64_t bytes =
        checked_add(checked_mul(count, static_cast<int64_t>(sizeof(T)), "a workspace"), 64, "a workspace");
    data_.reset(static_cast<T*>(::operator new(static_cast<size_t>(bytes), std::align_val_t{64})));
  }
  T* data() const { return data_.get(); }
  T& operator[](int64_t i) const { return data_.get()[i]; }

 private:
  struct Free {
    void operator()(T* memory) const { ::operator delete(memory, std::align_val_t{64}); }
  };
  std::unique_ptr<T, Free> data_;
};

}  // namespace bitorch
