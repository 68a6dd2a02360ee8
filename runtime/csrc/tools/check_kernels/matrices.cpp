// Products of two matrices, of floats and of codes, and the exponentials of attention.
#include <algorithm>
#include <cmath>

#include "checks.h"
#include "core/matrix_kernels.h"

namespace bitorch {

namespace {

// A product of [rows x depth] by [depth x columns], whose left rows may lie as columns, and so may the right one's.
struct Sizes {
  int64_t rows, depth, columns;
  bool left_turned, right_turned;

  explicit Sizes(Random& random)
      : rows(random.from(1, 20)),
        depth(random.from(1, 70)),
        columns(random.from(1, 120)),
        left_turned(random.one_in(4)),
        right_turned(random.one_in(2)) {}
  void name(const KernelTable& table, const char* what) const {
    describe("%s %s rows=%lld depth=%lld columns=%lld turned=%d,%d", table.name, what, static_cast<long long>(rows),
             static_cast<long long>(depth), static_cast<long long>(columns), left_turned, right_turned);
  }
  size_t left_count() const { return static_cast<size_t>(rows * depth); }
  size_t right_count() const { return static_cast<size_t>(depth * columns); }
  size_t left_at(int64_t m, int64_t k) const { return static_cast<size_t>(left_turned ? k * rows + m : m * depth + k); }
  size_t right_at(int64_t k, int64_t n) const {
    return static_cast<size_t>(right_turned ? n * depth + k : k * columns + n);
  }
};

void near(float found, double expected, double size, int64_t i) {
  if (std::fabs(found - expected) > 1e-5 * (size + 1e-3)) fail("float", i, found, expected);
}

// The numbers in front of an inaccessible page.
template <typename T>
T* fenced(const std::vector<T>& numbers) {
  T* copy = input_memory().last<T>(numbers.size());
  std::copy(numbers.begin(), numbers.end(), copy);
  return copy;
}

uint8_t code(Random& random, Fill fill, int bits) {
  const int most = (1 << bits) - 1;
  return static_cast<uint8_t>(fill == kMost ? most : fill == kLeast ? 0 : random.from(0, most));
}

void check_floats(Random& random, const KernelTable& table) {
  const MatrixKernels& kernels = *table.matrices;
  const Sizes s(random);
  s.name(table, "multiply");
  std::vector<float> left(s.left_count()), right(s.right_count()), scales(static_cast<size_t>(s.rows));
  for (std::vector<float>* numbers : {&left, &right, &scales}) {
    for (float& x : *numbers) x = random.real();
  }
  Aligned<float> panels(static_cast<size_t>(s.depth * (s.columns + kernels.lanes)));
  const MatrixPanels packing = {
      fenced(right), s.right_turned ? 1 : s.columns, s.right_turned ? s.depth : 1, s.depth, s.columns, panels.data()};
  kernels.pack(&packing);
  const bool own = random.one_in(2);
  const int64_t depth = own ? random.from(1, static_cast<int>(s.depth)) : s.depth;
  const int64_t step = s.columns + random.from(0, 3);
  float* out = output_memory().last<float>(static_cast<size_t>((s.rows - 1) * step + s.columns));
  const MatrixProduct product = {fenced(left),
                                 s.left_turned ? 1 : s.depth,
                                 s.left_turned ? s.rows : 1,
                                 panels.data(),
                                 s.depth,
                                 s.columns,
                                 out,
                                 step,
                                 s.rows,
                                 depth,
                                 s.columns,
                                 0.5f,
                                 own ? scales.data() : nullptr};
  kernels.multiply(&product);
  for (int64_t m = 0; m < s.rows; ++m) {
    const double scale = own ? scales[static_cast<size_t>(m)] : 0.5;
    for (int64_t n = 0; n < s.columns; ++n) {
      double sum = 0, size = 0;
      for (int64_t k = 0; k < depth; ++k) {
        const double term = static_cast<double>(left[s.left_at(m, k)]) * right[s.right_at(k, n)];
        sum += term;
        size += std::fabs(term);
      }
      near(out[m * step + n], sum * scale, size * std::fabs(scale), m * s.columns + n);
    }
  }
}

void check_codes(Random& random, const KernelTable& table) {
  const MatrixKernels& kernels = *table.matrices;
  const Sizes s(random);
  const int left_bits = random.from(1, 8), right_bits = random.from(1, 8);
  s.name(table, "multiply_codes");
  const Fill fill = any_fill(random);
  std::vector<uint8_t> left(s.left_count() + kSlackBytes), right(s.right_count());
  for (uint8_t& q : left) q = code(random, fill, left_bits);
  for (uint8_t& q : right) q = code(random, fill, right_bits);
  const int64_t padded = (s.depth + 3) / 4 * 4;
  Aligned<uint8_t> panels(static_cast<size_t>(padded * (s.columns + kernels.code_lanes)));
  Aligned<int32_t> sums(static_cast<size_t>(s.columns));
  const CodePanels packing = {fenced(right),
                              s.right_turned ? 1 : s.columns,
                              s.right_turned ? s.depth : 1,
                              s.depth,
                              s.columns,
                              right_bits,
                              panels.data(),
                              sums.data()};
  kernels.pack_codes(&packing);
  std::vector<int32_t> of_rows(static_cast<size_t>(s.rows)), of_columns(static_cast<size_t>(s.columns));
  for (int32_t& x : of_rows) x = random.from(-1000, 1000);
  for (int32_t& x : of_columns) x = random.from(-1000, 1000);
  const int32_t factor = random.from(1, 4);
  Guarded out(output_memory(), static_cast<size_t>(s.rows * s.columns) * 4);
  for (int64_t m = 0; m < s.rows; ++m) {
    for (int64_t n = 0; n < s.columns; ++n) {
      int32_t sum = 0;
      for (int64_t k = 0; k < s.depth; ++k) sum += left[static_cast<size_t>(m * s.depth + k)] * right[s.right_at(k, n)];
      const int32_t d = factor * sum + of_rows[static_cast<size_t>(m)] + of_columns[static_cast<size_t>(n)];
      out.expect(static_cast<size_t>(m * s.columns + n) * 4, d);
    }
  }
  const CodeProduct product = {fenced(left), s.depth,        panels.data(),     s.depth,
                               s.columns,    s.rows,         left_bits,         right_bits,
                               factor,       of_rows.data(), of_columns.data(), reinterpret_cast<int32_t*>(out.data()),
                               s.columns};
  kernels.multiply_codes(&product);
  out.check("D");
  for (int64_t n = 0; n < s.columns; ++n) {
    int32_t sum = 0;
    for (int64_t k = 0; k < s.depth; ++k) sum += right[s.right_at(k, n)];
    if (sums[static_cast<size_t>(n)] != sum) fail("sum of a column", n, sums[static_cast<size_t>(n)], sum);
  }
}

void check_exponentials(Random& random, const KernelTable& table) {
  const size_t n = any_length(random);
  const bool has_bias = random.one_in(2), is_nothing = random.one_in(10);
  describe_row(table, "exponentials", n, has_bias);
  std::vector<float> bias(n), scores(n);
  double most = -INFINITY;
  for (size_t i = 0; i < n; ++i) {
    bias[i] = is_nothing || random.one_in(5) ? -INFINITY : random.real();
    scores[i] = random.real() * (random.one_in(4) ? 100.0f : 1.0f);
    if (!has_bias && bias[i] < 0 && std::isinf(bias[i])) scores[i] = -INFINITY;
    const float sum = scores[i] + (has_bias ? bias[i] : 0.0f);
    most = sum > most ? sum : most;
  }
  float* row = output_memory().last<float>(n);
  std::copy(scores.begin(), scores.end(), row);
  const AttentionRow t = {row, has_bias ? fenced(bias) : nullptr, static_cast<int64_t>(n)};
  const float found = table.matrices->exponentials(&t);
  double sum = 0;
  for (size_t i = 0; i < n; ++i) {
    const float shifted = scores[i] + (has_bias ? bias[i] : 0.0f);
    const double expected = std::isinf(most) ? 0 : std::exp(static_cast<double>(shifted - static_cast<float>(most)));
    if (std::fabs(row[i] - expected) > 1e-6 * expected + 1.2e-38)
      fail("exponential", static_cast<long long>(i), row[i], expected);
    sum += expected;
  }
  near(found, sum, sum, 0);
}

}  // namespace

void check_matrices(Random& random, const KernelTable& table) {
  check_floats(random, table);
  check_codes(random, table);
  check_exponentials(random, table);
}

}  // namespace bitorch
