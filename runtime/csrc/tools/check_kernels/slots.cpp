// Products of floats with codes in slots of words, as they are and decoded to panels.
#include <algorithm>
#include <cmath>

#include "checks.h"
#include "core/matrix_kernels.h"

namespace bitorch {

namespace {

// Random codes of some blocks of columns, and what they stand for.
struct Slots {
  int64_t groups, group_words, blocks;
  int bits;
  bool odd;
  std::vector<uint32_t> words;
  std::vector<float> scales;

  explicit Slots(Random& random)
      : groups(random.from(1, 4)),
        group_words(random.from(1, 5)),
        blocks(random.from(1, 4)),
        bits(1 << random.from(0, 3)),
        odd(random.one_in(2)),
        words(static_cast<size_t>(blocks * groups * group_words * kSlotColumns)),
        scales(static_cast<size_t>(blocks * groups * kSlotColumns)) {
    for (uint32_t& word : words) word = static_cast<uint32_t>(random.from(0, 65535)) << 16 | random.from(0, 65535);
    for (float& scale : scales) scale = random.real();
  }
  int64_t in_word() const { return 32 / bits; }
  int64_t depth() const { return groups * group_words * in_word(); }
  int64_t columns() const { return blocks * kSlotColumns; }

  double weight(int64_t k, int64_t n) const {
    const int64_t word = k / in_word(), first = n / kSlotColumns * groups, column = n % kSlotColumns;
    const uint32_t slot =
        words[static_cast<size_t>((first * group_words + word) * kSlotColumns + column)] >> (k % in_word() * bits) &
        ((1u << bits) - 1);
    const int q = static_cast<int>(slot) - (slot < 1u << (bits - 1) ? 0 : 1 << bits);
    const float scale = scales[static_cast<size_t>((first + word / group_words) * kSlotColumns + column)];
    return static_cast<double>(scale) * (odd ? 2 * q + 1 : q);
  }
};

void compare(const Slots& slots, const std::vector<float>& left, const float* out, int64_t row, int64_t rows,
             int64_t first, int64_t columns, int64_t step) {
  for (int64_t m = 0; m < rows; ++m) {
    for (int64_t n = 0; n < columns; ++n) {
      double sum = 0, size = 0;
      for (int64_t k = 0; k < slots.depth(); ++k) {
        const double term = slots.weight(k, first + n) * left[static_cast<size_t>((row + m) * slots.depth() + k)];
        sum += term;
        size += std::fabs(term);
      }
      if (std::fabs(out[m * step + n] - sum) > 1e-5 * (size + 1e-3)) fail("float", n, out[m * step + n], sum);
    }
  }
}

}  // namespace

void check_slots(Random& random, const KernelTable& table) {
  const MatrixKernels& kernels = *table.matrices;
  const Slots slots(random);
  const int64_t rows = random.from(1, 9), depth = slots.depth(), columns = slots.columns();
  describe("%s slots of %d bits, odd=%d rows=%lld groups=%lld words=%lld blocks=%lld", table.name, slots.bits,
           slots.odd, static_cast<long long>(rows), static_cast<long long>(slots.groups),
           static_cast<long long>(slots.group_words), static_cast<long long>(slots.blocks));
  std::vector<float> left(static_cast<size_t>(rows * depth));
  for (float& x : left) x = random.real();
  const int64_t words = slots.groups * slots.group_words * kSlotColumns;
  const auto block = [&](int64_t i) {
    return CodeSlots{slots.words.data() + i * words,
                     slots.scales.data() + i * slots.groups * kSlotColumns,
                     slots.groups,
                     slots.group_words,
                     slots.bits,
                     slots.odd};
  };
  // The last rows of a few lie in front of an inaccessible page.
  const int64_t few = random.from(1, kMostSlotRows), last = rows - std::min(few, rows);
  float* x = input_memory().last<float>(static_cast<size_t>((rows - last) * depth));
  std::copy(left.begin() + last * depth, left.end(), x);
  for (int64_t i = 0; i < slots.blocks; ++i) {
    float* out = output_memory().last<float>(static_cast<size_t>((rows - last) * kSlotColumns));
    const SlotProduct product = {block(i), x, depth, out, kSlotColumns, rows - last};
    kernels.multiply_slots(&product);
    compare(slots, left, out, last, rows - last, i * kSlotColumns, kSlotColumns, kSlotColumns);
  }
  Aligned<float> panels(static_cast<size_t>(depth * columns));
  const SlotPanels unpacking = {block(0), slots.blocks, panels.data()};
  kernels.unpack_slots(&unpacking);
  float* out = output_memory().last<float>(static_cast<size_t>(rows * columns));
  const MatrixProduct product = {left.data(), depth, 1,     panels.data(), depth, columns, out,
                                 columns,     rows,  depth, columns,       1.0f,  nullptr};
  kernels.multiply(&product);
  compare(slots, left, out, 0, rows, 0, columns, columns);
}

}  // namespace bitorch
