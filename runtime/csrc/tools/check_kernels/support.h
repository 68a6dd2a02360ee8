// What the checks draw and guard their cases with: memory that ends at an inaccessible page, outputs among guard bytes.
#pragma once
#include <cstdint>
#include <cstring>
#include <exception>
#include <vector>

#include "core/kernels.h"
#include "tools/tool.h"

namespace bitorch {

constexpr int kSlackBytes = 64;  // readable bytes behind every tensor (layout.h)

// ---- Differences ----

// The case that is checked now, as printf writes it; said when it fails, by a signal too.
[[gnu::format(printf, 1, 2)]] void describe(const char* format, ...);
void describe_row(const KernelTable& table, const char* name, size_t n, int bits);
void report_signal(int);

struct Difference : std::exception {};

// Prints the case and throws Difference.
[[noreturn]] void fail(const char* what, long long position, double got, double expected);

// ---- Memory ----

// Memory that ends at an inaccessible page.
class Fenced {
 public:
  explicit Fenced(size_t capacity);
  // The last `count` numbers; as many as the capacity has at most.
  template <typename T = uint8_t>
  T* last(size_t count) {
    return reinterpret_cast<T*>(last_bytes(count * sizeof(T)));
  }

 private:
  uint8_t* last_bytes(size_t bytes);

  uint8_t* begin_;
  uint8_t* end_;
};

Fenced& input_memory();
Fenced& output_memory();

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
  void check(const char* what) const;

 private:
  static constexpr uint8_t kGuard = 0xa5;
  size_t bytes_;
  uint8_t* data_;
  std::vector<uint8_t> expected_;
};

// A tile with a guarded row before and after it; kTables: the tiles of several blocks.
class Tile {
 public:
  explicit Tile(int pixels, int blocks = 1);
  void* data() { return rows_; }
  uint32_t& at(int p, int c) { return rows_[p * kBlock + c]; }
  float real(int p, int c) const {
    float value;
    memcpy(&value, &rows_[p * kBlock + c], 4);
    return value;
  }
  void set_real(int p, int c, float value) { memcpy(&rows_[p * kBlock + c], &value, 4); }
  void check_guards() const;

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

// ---- Numbers ----

float any_float(Random& random);  // NaN, infinities, subnormals and ties among them
size_t any_length(Random& random);
int any_channels(Random& random);
uint32_t any_accumulator(Random& random);

// Numbers whose x * multiply + offset lies beside the middle of two floats, nearer than double can tell: the product is
// a half of offset's last bit, times 1 - k * k * 2^-46.
void near_tie(Random& random, float* x, float* multiply, float* offset);

bool same(float a, float b);  // NaN equals NaN
int popcount(uint32_t word);
float multiply_add(float x, float multiply, float offset);  // two roundings
int round_to_code(double y, int most);                      // halves to even; NaN gives 0

// Bit planes of one pixel as they should be; `codes` are its codes.
void expect_planes(uint8_t* out, int64_t plane_bytes, const std::vector<int>& codes, int bits);

// How the values of a case are drawn.
enum Fill { kRandom, kSparse, kMost, kLeast, kLeastTimesZero };
Fill any_fill(Random& random);

// The last `size` bytes of input_memory(), each from 0 to `most`.
void fill_input(Random& random, Fill fill, size_t size, int most);

// Corrections of one case, of which `add` or `border` may be absent.
struct Corrections {
  std::vector<int32_t> add;
  std::vector<std::vector<int32_t>> border;
  std::vector<const int32_t*> rows;
  Correction correction;

  Corrections(Random& random, int pixels);
  int32_t apply(uint32_t accumulator, int p, int c) const;
};

}  // namespace bitorch
