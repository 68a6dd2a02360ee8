// What check_kernels.cpp draws and guards its cases with: memory that ends at an inaccessible page,
// outputs among guard bytes.
#pragma once
#include <signal.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cmath>
#include <cstdint>
#include <cstdio>
#include <cstring>
#include <exception>
#include <limits>
#include <stdexcept>
#include <vector>

#include "core/kernels.h"
#include "tool.h"

namespace bitorch {

inline char case_text[512] = "before the first case";

inline void report_signal(int) {
  const char head[] = "memory outside a buffer was touched: ";
  (void)!write(2, head, sizeof(head) - 1);
  (void)!write(2, case_text, strlen(case_text));
  (void)!write(2, "\n", 1);
  _exit(1);
}

struct Difference : std::exception {};

inline void fail(const char* what, long long position, double got, double expected) {
  std::printf("DIFFERENCE %s\n  %s at %lld: got %.17g, expected %.17g\n", case_text, what, position, got, expected);
  throw Difference();
}

// Memory that ends at an inaccessible page.
class Fenced {
 public:
  explicit Fenced(size_t capacity) {
    const size_t page = static_cast<size_t>(sysconf(_SC_PAGESIZE));
    const size_t size = (capacity + page - 1) / page * page;
    void* memory = mmap(nullptr, size + page, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (memory == MAP_FAILED || mprotect(static_cast<char*>(memory) + size, page, PROT_NONE) != 0) {
      throw std::runtime_error("cannot map memory for the check");
    }
    begin_ = static_cast<uint8_t*>(memory);
    end_ = begin_ + size;
  }
  // The last `bytes` bytes, the capacity at most.
  template <typename T = uint8_t>
  T* last(size_t count) {
    if (count * sizeof(T) > static_cast<size_t>(end_ - begin_)) throw std::runtime_error("case larger than its memory");
    return reinterpret_cast<T*>(end_ - count * sizeof(T));
  }

 private:
  uint8_t* begin_;
  uint8_t* end_;
};

// An output region in guard bytes, and what it should become.
class Guarded {
 public:
  Guarded(Fenced& memory, size_t bytes) : bytes_(bytes), data_(memory.last(bytes)), expected_(bytes, kGuard) {
    memset(data_, kGuard, bytes);
  }
  uint8_t* data() { return data_; }
  uint8_t* expected() { return expected_.data(); }
  template <typename T>
  void expect(size_t offset, T value) {
    memcpy(&expected_[offset], &value, sizeof(T));
  }
  void check(const char* what) const {
    for (size_t i = 0; i < bytes_; ++i) {
      if (data_[i] != expected_[i]) fail(what, static_cast<long long>(i), data_[i], expected_[i]);
    }
  }

 private:
  static constexpr uint8_t kGuard = 0xa5;
  size_t bytes_;
  uint8_t* data_;
  std::vector<uint8_t> expected_;
};

// A tile with a guarded row before and after it; kTables: the tiles of several blocks.
class Tile {
 public:
  explicit Tile(int pixels, int blocks = 1)
      : pixels_(pixels * blocks), memory_(static_cast<size_t>(pixels_ + 2) * kBlock + 16) {
    const uintptr_t address = reinterpret_cast<uintptr_t>(memory_.data());
    rows_ = memory_.data() + ((address + 63) / 64 * 64 - address) / 4 + kBlock;
    for (int i = -kBlock; i < (pixels_ + 1) * kBlock; ++i) rows_[i] = kGuard;
  }
  void* data() { return rows_; }
  uint32_t& at(int p, int c) { return rows_[p * kBlock + c]; }
  float real(int p, int c) const {
    float value;
    memcpy(&value, &rows_[p * kBlock + c], 4);
    return value;
  }
  void set_real(int p, int c, float value) { memcpy(&rows_[p * kBlock + c], &value, 4); }
  void check_guards() const {
    for (int c = 0; c < kBlock; ++c) {
      if (rows_[c - kBlock] != kGuard) fail("before the tile", c, rows_[c - kBlock], kGuard);
    }
    for (int i = pixels_ * kBlock; i < (pixels_ + 1) * kBlock; ++i) {
      if (rows_[i] != kGuard) fail("after the last pixel of the tile", i, rows_[i], kGuard);
    }
  }

 private:
  static constexpr uint32_t kGuard = 0xa5a5a5a5;
  int pixels_;
  std::vector<uint32_t> memory_;
  uint32_t* rows_;
};

// An array aligned as weights and thresholds are.
template <typename T>
class Aligned {
 public:
  explicit Aligned(size_t count) : memory_(count * sizeof(T) + 64) {
    const uintptr_t address = reinterpret_cast<uintptr_t>(memory_.data());
    data_ = reinterpret_cast<T*>(memory_.data() + ((address + 63) / 64 * 64 - address));
  }
  Aligned(const Aligned&) = delete;
  T& operator[](size_t i) { return data_[i]; }
  T* data() { return data_; }

 private:
  std::vector<uint8_t> memory_;
  T* data_;
};

inline Fenced& input_memory() {
  static Fenced memory(size_t{16} << 20);
  return memory;
}
inline Fenced& output_memory() {
  static Fenced memory(size_t{4} << 20);
  return memory;
}

inline float any_float(Random& random) {
  const float infinity = std::numeric_limits<float>::infinity();
  const float special[] = {0.0f,     -0.0f,  infinity,   -infinity,     std::nanf(""), 3.4e38f,
                           -3.4e38f, 1e-42f, 8388609.0f, 2147483648.0f, -2147483648.0f};
  if (random.one_in(8)) return special[random.from(0, 10)];
  if (random.one_in(3)) return static_cast<float>(random.from(-6, 520)) * 0.5f;  // halves, to be rounded to even
  return random.real() * (random.one_in(2) ? 2.0f : 300.0f);
}

inline bool same(float a, float b) { return a == b || (std::isnan(a) && std::isnan(b)); }

}  // namespace bitorch
