#include "support.h"

#include <sys/mman.h>
#include <unistd.h>

#include <cmath>
#include <cstdarg>
#include <cstdio>
#include <limits>
#include <stdexcept>

namespace bitorch {

// ---- Differences ----

namespace {
char case_text[512] = "before the first case";
}  // namespace

void describe(const char* format, ...) {
  va_list values;
  va_start(values, format);
  std::vsnprintf(case_text, sizeof(case_text), format, values);
  va_end(values);
}

void describe_row(const KernelTable& table, const char* name, size_t n, int bits) {
  describe("%s rows.%s: n %zu, bits %d", table.name, name, n, bits);
}

void report_signal(int) {
  const char head[] = "memory outside a buffer was touched: ";
  (void)!write(2, head, sizeof(head) - 1);
  (void)!write(2, case_text, strlen(case_text));
  (void)!write(2, "\n", 1);
  _exit(1);
}

void fail(const char* what, long long position, double got, double expected) {
  std::printf("DIFFERENCE %s\n  %s at %lld: got %.17g, expected %.17g\n", case_text, what, position, got, expected);
  throw Difference();
}

// ---- Memory ----

Fenced::Fenced(size_t capacity) {
  const size_t page = static_cast<size_t>(sysconf(_SC_PAGESIZE));
  const size_t size = (capacity + page - 1) / page * page;
  void* memory = mmap(nullptr, size + page, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (memory == MAP_FAILED || mprotect(static_cast<char*>(memory) + size, page, PROT_NONE) != 0) {
    throw std::runtime_error("cannot map memory for the check");
  }
  begin_ = static_cast<uint8_t*>(memory);
  end_ = begin_ + size;
}

uint8_t* Fenced::last_bytes(size_t bytes) {
  if (bytes > static_cast<size_t>(end_ - begin_)) throw std::runtime_error("case larger than its memory");
  return end_ - bytes;
}

Fenced& input_memory() {
  static Fenced memory(size_t{16} << 20);
  return memory;
}

Fenced& output_memory() {
  static Fenced memory(size_t{4} << 20);
  return memory;
}

void Guarded::check(const char* what) const {
  for (size_t i = 0; i < bytes_; ++i) {
    if (data_[i] != expected_[i]) fail(what, static_cast<long long>(i), data_[i], expected_[i]);
  }
}

Tile::Tile(int pixels, int blocks) : pixels_(pixels * blocks), memory_(static_cast<size_t>(pixels_ + 2) * kBlock + 16) {
  const uintptr_t address = reinterpret_cast<uintptr_t>(memory_.data());
  rows_ = memory_.data() + ((address + 63) / 64 * 64 - address) / 4 + kBlock;
  for (int i = -kBlock; i < (pixels_ + 1) * kBlock; ++i) rows_[i] = kGuard;
}

void Tile::check_guards() const {
  for (int c = 0; c < kBlock; ++c) {
    if (rows_[c - kBlock] != kGuard) fail("before the tile", c, rows_[c - kBlock], kGuard);
  }
  for (int i = pixels_ * kBlock; i < (pixels_ + 1) * kBlock; ++i) {
    if (rows_[i] != kGuard) fail("after the last pixel of the tile", i, rows_[i], kGuard);
  }
}

// ---- Numbers ----

float any_float(Random& random) {
  const float infinity = std::numeric_limits<float>::infinity();
  const float special[] = {0.0f,     -0.0f,  infinity,   -infinity,     std::nanf(""), 3.4e38f,
                           -3.4e38f, 1e-42f, 8388609.0f, 2147483648.0f, -2147483648.0f};
  if (random.one_in(8)) return special[random.from(0, 10)];
  if (random.one_in(3)) return static_cast<float>(random.from(-6, 520)) * 0.5f;  // halves, to be rounded to even
  return random.real() * (random.one_in(2) ? 2.0f : 300.0f);
}

size_t any_length(Random& random) {
  return static_cast<size_t>(random.one_in(4) ? random.from(1, 1000) : random.from(1, 80));
}

int any_channels(Random& random) { return random.one_in(2) ? kBlock : random.from(1, kBlock); }

uint32_t any_accumulator(Random& random) {
  if (random.one_in(4)) return static_cast<uint32_t>(random.word());
  return static_cast<uint32_t>(random.from(-3000, 3000));
}

void near_tie(Random& random, float* x, float* multiply, float* offset) {
  const float k = std::ldexp(static_cast<float>(random.from(-15, 15)), -23);
  const int scale = random.from(-40, 40);
  *x = random.one_in(2) ? 1 + k : -1 - k;
  *multiply = std::ldexp(1 - k, scale);
  *offset =
      std::ldexp(static_cast<float>((1 << 24) + 2 * random.from(0, 1000)), scale) * (random.one_in(2) ? 1.0f : -1.0f);
}

bool same(float a, float b) { return a == b || (std::isnan(a) && std::isnan(b)); }

int popcount(uint32_t word) {
  int count = 0;
  for (; word; word &= word - 1) ++count;
  return count;
}

float multiply_add(float x, float multiply, float offset) {
  volatile float product = x * multiply;  // rounded here, whatever the compiler may fuse
  volatile float sum = product + offset;
  return sum;
}

int round_to_code(double y, int most) {
  if (std::isnan(y)) return 0;
  const double rounded = std::nearbyint(y);
  return rounded < 0 ? 0 : rounded > most ? most : static_cast<int>(rounded);
}

void expect_planes(uint8_t* out, int64_t plane_bytes, const std::vector<int>& codes, int bits) {
  for (int i = 0; i < bits; ++i) {
    for (size_t c = 0; c < codes.size(); c += 8) {
      int byte = 0;
      for (size_t k = c; k < codes.size() && k < c + 8; ++k) byte |= (codes[k] >> i & 1) << (k - c);
      out[i * plane_bytes + static_cast<int64_t>(c / 8)] = static_cast<uint8_t>(byte);
    }
  }
}

Fill any_fill(Random& random) { return static_cast<Fill>(random.from(0, 4)); }

void fill_input(Random& random, Fill fill, size_t size, int most) {
  uint8_t* input = input_memory().last(size);
  for (size_t i = 0; i < size; ++i) {
    const int any = random.from(0, most);
    if (fill == kLeastTimesZero) {
      input[i] = 0;
      continue;
    }
    input[i] = static_cast<uint8_t>(fill == kMost || fill == kLeast ? most
                                    : fill == kSparse               ? any & random.from(0, most) & random.from(0, most)
                                                                    : any);
  }
}

Corrections::Corrections(Random& random, int pixels) {
  for (int p = 0; p < pixels; ++p) {
    add.push_back(random.from(-1000000, 1000000));
    border.emplace_back(kBlock);
    for (int32_t& term : border.back()) term = random.from(-1000, 1000);
  }
  for (const std::vector<int32_t>& row : border) rows.push_back(row.data());
  correction = {random.one_in(2) ? add.data() : nullptr, random.one_in(2) ? rows.data() : nullptr, random.from(0, 2)};
}

int32_t Corrections::apply(uint32_t accumulator, int p, int c) const {
  uint32_t d = accumulator << correction.shift;
  if (correction.add) d += static_cast<uint32_t>(correction.add[p]);
  if (correction.border) d += static_cast<uint32_t>(correction.border[p][c]);
  return static_cast<int32_t>(d);
}

}  // namespace bitorch
