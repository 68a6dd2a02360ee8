// Products of codes with stored codes in slots of words, and scales of groups: equal to the last bit.
#include <algorithm>

#include "checks.h"
#include "core/matrix_kernels.h"

namespace bitorch {

namespace {

// Random codes of both sides; of some cases all are the largest ones, where narrow sums would saturate.
struct Groups {
  int bits, slot_bits;
  int64_t groups, size, rows;
  int32_t step, lowest, factor, offset;
  bool has_columns;
  std::vector<uint8_t> m, q;  // [kSlotColumns][groups][size], [rows][groups][size]
  std::vector<float> scales;  // [groups][kSlotColumns]
  std::vector<int32_t> of_columns;

  explicit Groups(Random& random)
      : bits(random.from(1, 8)),
        slot_bits(bits <= 2   ? bits
                  : bits <= 4 ? 4
                              : 8),
        groups(random.from(1, 4)),
        size(random.one_in(4) ? random.from(1, 600) : random.from(1, 70)),
        rows(random.from(1, 17)),
        step(random.from(1, 2)),
        lowest(-random.from(1, 255)),
        factor(random.one_in(4) ? 2 : 1),
        offset(factor == 2 ? -1 : -random.from(0, 128)),
        has_columns(random.one_in(2)),
        m(static_cast<size_t>(kSlotColumns * groups * size)),
        q(static_cast<size_t>(rows * groups * size)),
        scales(static_cast<size_t>(groups * kSlotColumns)),
        of_columns(scales.size()) {
    const int most = (1 << bits) - 1, most_q = factor == 2 ? 1 : 127 - offset, kind = random.from(0, 3);
    for (uint8_t& code : m) code = static_cast<uint8_t>(kind == 0 ? most : random.from(0, most));
    for (uint8_t& code : q) code = static_cast<uint8_t>(kind == 0 ? most_q : kind == 1 ? 0 : random.from(0, most_q));
    for (float& scale : scales) scale = random.real();
    for (int32_t& sum : of_columns) sum = random.from(-65536, 65536);
  }
  int64_t group_words() const { return (size * slot_bits + 31) / 32; }
  int64_t depth() const { return groups * group_words() * (32 / slot_bits); }

  std::vector<uint32_t> words() const {
    std::vector<uint32_t> made(static_cast<size_t>(groups * group_words() * kSlotColumns));
    for (int64_t n = 0; n < kSlotColumns; ++n) {
      for (int64_t g = 0; g < groups; ++g) {
        for (int64_t k = 0; k < size; ++k) {
          const int64_t bit = k * slot_bits, word = g * group_words() + bit / 32;
          const uint32_t code = m[static_cast<size_t>((n * groups + g) * size + k)];
          made[static_cast<size_t>(word * kSlotColumns + n)] |= code << bit % 32;
        }
      }
    }
    return made;
  }

  float expected(int64_t row, int64_t n) const {
    float total = -0.0f;
    for (int64_t g = 0; g < groups; ++g) {
      const size_t column = static_cast<size_t>(g * kSlotColumns + n);
      uint32_t d = has_columns ? static_cast<uint32_t>(of_columns[column]) : 0;
      for (int64_t k = 0; k < size; ++k) {
        const int32_t a = factor * q[static_cast<size_t>((row * groups + g) * size + k)] + offset;
        const int32_t c = step * m[static_cast<size_t>((n * groups + g) * size + k)] + lowest;
        d += static_cast<uint32_t>(a * c);
      }
      const float product = static_cast<float>(static_cast<int32_t>(d)) * scales[column];
      total = total + product;
    }
    return total;
  }
};

// Codes of each row, in front of an inaccessible page, become bytes and their sums.
void arrange(const Groups& of, const MatrixKernels& kernels, std::vector<int8_t>* bytes, std::vector<int32_t>* sums) {
  const size_t inputs = static_cast<size_t>(of.groups * of.size), depth = static_cast<size_t>(of.depth());
  for (size_t row = 0; row < static_cast<size_t>(of.rows); ++row) {
    uint8_t* codes = input_memory().last(inputs);
    std::copy_n(of.q.data() + row * inputs, inputs, codes);
    int8_t* to = output_memory().last<int8_t>(depth);
    int32_t* of_row = sums->data() + row * static_cast<size_t>(of.groups);
    const GroupRow task = {codes, of.groups, of.size, of.slot_bits, of.factor, of.offset, to, of_row};
    kernels.arrange_groups(&task);
    std::copy_n(to, depth, bytes->data() + row * depth);
  }
}

}  // namespace

void check_groups(Random& random, const KernelTable& table) {
  const Groups of(random);
  describe("%s groups of %d bits, step=%d lowest=%d factor=%d offset=%d columns=%d rows=%lld groups=%lld size=%lld",
           table.name, of.bits, of.step, of.lowest, of.factor, of.offset, of.has_columns,
           static_cast<long long>(of.rows), static_cast<long long>(of.groups), static_cast<long long>(of.size));
  std::vector<int8_t> bytes(static_cast<size_t>(of.rows * of.depth()));
  std::vector<int32_t> sums(static_cast<size_t>(of.rows * of.groups));
  arrange(of, *table.matrices, &bytes, &sums);
  int8_t* left = input_memory().last<int8_t>(bytes.size());
  std::copy(bytes.begin(), bytes.end(), left);
  const std::vector<uint32_t> words = of.words();
  float* out = output_memory().last<float>(static_cast<size_t>(of.rows * kSlotColumns));
  const CodeSlots right = {words.data(), of.scales.data(), of.groups, of.group_words(), of.slot_bits, 0};
  const int32_t* of_columns = of.has_columns ? of.of_columns.data() : nullptr;
  const GroupProduct product = {right,      of_columns,  of.step, of.lowest,    of.bits == 8, left,
                                of.depth(), sums.data(), out,     kSlotColumns, of.rows};
  table.matrices->multiply_groups(&product);
  for (int64_t row = 0; row < of.rows; ++row) {
    for (int64_t n = 0; n < kSlotColumns; ++n) {
      const float got = out[row * kSlotColumns + n], expected = of.expected(row, n);
      if (memcmp(&got, &expected, 4) != 0) fail("float", row * kSlotColumns + n, got, expected);
    }
  }
}

}  // namespace bitorch
