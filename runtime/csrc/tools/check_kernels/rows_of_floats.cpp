// Rows of floats: maxima, sums, the affine row, and codes of floats.
#include <cmath>
#include <limits>

#include "checks.h"

namespace bitorch {

void check_max_of_floats(Random& random, const KernelTable& table) {
  const size_t n = any_length(random);
  const int count = random.from(1, 9);
  describe_row(table, "max_of_floats", n, count);
  float* in = input_memory().last<float>(n * static_cast<size_t>(count));
  std::vector<const float*> rows;
  std::vector<float> expected;
  for (int k = 0; k < count; ++k) {
    rows.push_back(in + static_cast<size_t>(k) * n);
    for (size_t i = 0; i < n; ++i) {
      const float x = random.one_in(50) ? any_float(random) : random.real();
      in[static_cast<size_t>(k) * n + i] = x;
      if (k == 0) expected.push_back(x);
      if (std::isnan(x) || x > expected[i]) expected[i] = x;
    }
  }
  float* out = output_memory().last<float>(n);
  table.rows.max_of_floats(out, rows.data(), count, static_cast<int64_t>(n));
  for (size_t i = 0; i < n; ++i) {
    if (!same(out[i], expected[i])) fail("float", static_cast<long long>(i), out[i], expected[i]);
  }
}

namespace {

// Numbers are those of `in`, and halves of codes.
void check_quantize_unit(Random& random, const KernelTable& table, float* in, size_t n) {
  const int bits = random.from(1, 8), most = (1 << bits) - 1;
  describe_row(table, "quantize_unit", n, bits);
  for (size_t i = 0; i < n; ++i) {
    if (random.one_in(2)) in[i] = static_cast<float>(random.from(-1, 2 * most + 1)) * 0.5f / static_cast<float>(most);
  }
  Guarded codes(output_memory(), n);
  for (size_t i = 0; i < n; ++i) {
    volatile float scaled = in[i] * static_cast<float>(most);
    codes.expect(i, static_cast<uint8_t>(round_to_code(scaled, most)));
  }
  table.rows.quantize_unit(codes.data(), in, static_cast<int64_t>(n), bits);
  codes.check("code");
}

}  // namespace

void check_float_rows(Random& random, const KernelTable& table) {
  const size_t n = any_length(random);
  float* in = input_memory().last<float>(n);
  for (size_t i = 0; i < n; ++i) in[i] = any_float(random);
  for (int add = 0; add < 2; ++add) {
    describe_row(table, add ? "add_floats" : "max_floats", n, 32);
    float* out = output_memory().last<float>(n);
    std::vector<float> expected;
    for (size_t i = 0; i < n; ++i) {
      const float before = any_float(random);
      out[i] = before;
      const bool in_wins = std::isnan(in[i]) || (!std::isnan(before) && in[i] > before);
      expected.push_back(add ? before + in[i] : in_wins ? in[i] : before);
    }
    (add ? table.rows.add_floats : table.rows.max_floats)(out, in, static_cast<int64_t>(n));
    for (size_t i = 0; i < n; ++i) {
      if (!same(out[i], expected[i])) fail("float", static_cast<long long>(i), out[i], expected[i]);
    }
  }
  check_quantize_unit(random, table, in, n);
}

void check_pixels(Random& random, const KernelTable& table) {
  const auto n = static_cast<size_t>(random.from(1, 300)), pixels = static_cast<size_t>(random.from(0, 9));
  const size_t step = n + static_cast<size_t>(random.from(0, 20));
  for (int add = 0; add < 2; ++add) {
    describe_row(table, add ? "add_pixels" : "multiply_pixels", n, static_cast<int>(pixels));
    const size_t apart = add ? step : n, count = pixels == 0 ? 0 : (pixels - 1) * apart + n;
    float* in = input_memory().last<float>(count);
    std::vector<float> by(n), expected;
    for (size_t i = 0; i < count; ++i) in[i] = any_float(random);
    for (float& value : by) value = any_float(random);
    float* out = output_memory().last<float>(add ? n : count);
    for (size_t c = 0; add && c < n; ++c) {
      float sum = out[c] = any_float(random);
      for (size_t p = 0; p < pixels; ++p) sum += in[p * step + c];
      expected.push_back(sum);
    }
    for (size_t i = 0; !add && i < count; ++i) expected.push_back(in[i] * by[i % n]);
    const auto c = static_cast<int64_t>(n), p = static_cast<int64_t>(pixels);
    if (add) table.pixels.add(out, in, static_cast<int64_t>(step), p, c);
    if (!add) table.pixels.multiply(out, in, by.data(), p, c);
    for (size_t i = 0; i < expected.size(); ++i) {
      if (!same(out[i], expected[i])) fail("float", static_cast<long long>(i), out[i], expected[i]);
    }
  }
}

void check_affine(Random& random, const KernelTable& table) {
  const size_t n = any_length(random), period = any_length(random);
  const int parts = random.from(0, 15);
  const float infinity = std::numeric_limits<float>::infinity();
  std::vector<float> channels[5];
  for (std::vector<float>& array : channels) {
    for (size_t c = 0; c < period; ++c) array.push_back(any_float(random));
  }
  float* memory = input_memory().last<float>(2 * n);
  for (size_t i = 0; i < 2 * n; ++i) memory[i] = any_float(random);
  AffineRow row = {};
  row.x = memory + n;
  row.residual = parts & 8 ? memory : nullptr;
  const bool ties = random.one_in(2);
  for (size_t c = 0; c < period && ties; ++c) {
    float x;
    near_tie(random, &x, &channels[3][c], &channels[4][c]);
    for (size_t i = c; i < n; i += period) memory[n + i] = x;
  }
  row.out = output_memory().last<float>(n + 1);
  row.out[n] = 42.0f;
  row.divide = parts & 1 ? channels[0].data() : nullptr;
  row.multiply = parts & 2 ? channels[1].data() : nullptr;
  row.offset = parts & 2 ? channels[2].data() : nullptr;
  row.norm_multiply = parts & 4 ? channels[3].data() : nullptr;
  row.norm_offset = parts & 4 ? channels[4].data() : nullptr;
  row.n = static_cast<int64_t>(n);
  row.period = static_cast<int64_t>(period);
  row.low = random.one_in(2) ? -infinity : -0.5f;
  row.high = random.one_in(2) ? infinity : 200.0f;
  describe("%s rows.affine: n %zu, period %zu, parts %d, from %g to %g", table.name, n, period, parts,
           static_cast<double>(row.low), static_cast<double>(row.high));
  table.rows.affine(&row);
  for (size_t i = 0; i < n; ++i) {
    const size_t c = i % period;
    volatile float y = row.x[i];
    if (parts & 1) y = y / row.divide[c];
    if (parts & 2) y = multiply_add(y, row.multiply[c], row.offset[c]);
    if (parts & 4) y = std::fma(static_cast<float>(y), row.norm_multiply[c], row.norm_offset[c]);
    if (parts & 8) y = y + row.residual[i];
    if (y < row.low) y = row.low;
    if (y > row.high) y = row.high;
    if (!same(row.out[i], y)) fail("float", static_cast<long long>(i), row.out[i], y);
  }
  if (!same(row.out[n], 42.0f)) fail("after the row", static_cast<long long>(n), row.out[n], 42.0);
}

// Planes and bytes of pixels that lie apart, in guard bytes.
void check_compare_row(Random& random, const KernelTable& table) {
  if (table.rows.compare_row == nullptr) return;
  const int channels = random.from(1, 200), pixels = random.from(1, 9), bits = random.from(1, 2), n = (1 << bits) - 1;
  const int blocks = (channels + kBlock - 1) / kBlock, step = channels + random.from(0, 40);
  const bool planes = random.one_in(2), negates = random.one_in(2);
  const int bytes = planes ? (channels + 7) / 8 : channels, gap = random.from(0, 9);
  describe("%s rows.compare_row: %d channels, %d pixels %d apart, %d bits, planes %d, negate %d", table.name, channels,
           pixels, step, bits, planes, negates);
  float* x = input_memory().last<float>(static_cast<size_t>((pixels - 1) * step + channels));
  Aligned<float> thresholds(static_cast<size_t>(blocks * n * kBlock));
  Aligned<int32_t> negate(static_cast<size_t>(blocks * kBlock));
  const auto threshold = [&](int j, int c) -> float& {
    return thresholds[static_cast<size_t>((c / kBlock * n + j) * kBlock + c % kBlock)];
  };
  for (int c = 0; c < channels; ++c) {
    float least = any_float(random);
    for (int j = 0; j < n; ++j, least = std::isnan(least) ? least : least + static_cast<float>(random.from(0, 1))) {
      threshold(j, c) = least;
    }
    if (negates) negate[static_cast<size_t>(c)] = -random.from(0, 1);
  }
  const int plane_bytes = pixels * (bytes + gap);
  Guarded out(output_memory(), static_cast<size_t>((planes ? bits : 1) * plane_bytes));
  for (int p = 0; p < pixels; ++p) {
    std::vector<int> codes;
    for (int c = 0; c < channels; ++c) {
      float& value = x[p * step + c];
      value = random.one_in(3) ? threshold(random.from(0, n - 1), c) : any_float(random);
      const float turned = negate[static_cast<size_t>(c)] != 0 ? -value : value;
      int code = 0;
      for (int j = 0; j < n; ++j) code += turned >= threshold(j, c);
      codes.push_back(code);
      if (!planes) out.expect(static_cast<size_t>(p * (bytes + gap) + c), static_cast<uint8_t>(code));
    }
    if (planes) expect_planes(out.expected() + p * (bytes + gap), plane_bytes, codes, bits);
  }
  const CompareRow row = {x,
                          step,
                          thresholds.data(),
                          negates ? negate.data() : nullptr,
                          out.data(),
                          bytes + gap,
                          plane_bytes,
                          pixels,
                          channels,
                          bits,
                          planes};
  table.rows.compare_row(&row);
  out.check("codes");
}

namespace {

// `count` of `lanes` lanes.
uint64_t first_lanes(int count, int lanes) {
  const int there = count < lanes ? count : lanes;
  return there == 64 ? ~uint64_t{0} : (uint64_t{1} << there) - 1;
}

}  // namespace

// Random windows, which may overlap; what lies behind a pixel's channels is not read.
void check_take(Random& random, const KernelTable& table) {
  const bool bytes = random.one_in(2);
  const auto take = bytes ? table.rows.take_bytes : table.rows.take_floats;
  if (take == nullptr) return;
  const int lanes = bytes ? 64 : 16, size = bytes ? 1 : 4;
  const int channels = random.from(1, 3 * lanes), taken = random.from(1, 3 * lanes), pixels = random.from(1, 5);
  const int groups = (taken + lanes - 1) / lanes, step = channels + random.from(0, 9), gap = random.from(0, 9);
  describe("%s rows.take: %d of %d channels of %d bytes, %d pixels", table.name, taken, channels, size, pixels);
  const auto input = static_cast<size_t>(((pixels - 1) * step + channels) * size);
  uint8_t* in = input_memory().last<uint8_t>(input);
  for (size_t i = 0; i < input; ++i) in[i] = static_cast<uint8_t>(random.from(0, 255));
  const int out_step = taken * size + gap;
  Guarded out(output_memory(), static_cast<size_t>((pixels - 1) * out_step + taken * size));
  std::vector<TakeWindows> windows;
  for (int g = 0; g < groups; ++g) {
    TakeWindows w = {};
    w.first = random.from(0, channels - 1);
    w.second = random.from(0, channels - 1);
    w.first_channels = first_lanes(channels - w.first, lanes);
    w.second_channels = first_lanes(channels - w.second, lanes);
    w.taken = first_lanes(taken - g * lanes, lanes);
    for (int i = 0; i < lanes && g * lanes + i < taken; ++i) {
      const bool second = random.one_in(2);
      const int begin = second ? w.second : w.first, there = channels - begin < lanes ? channels - begin : lanes;
      const int lane = random.from(0, there - 1);
      w.index[i] = static_cast<uint8_t>(second ? lanes + lane : lane);
      for (int p = 0; p < pixels; ++p) {
        memcpy(out.expected() + p * out_step + (g * lanes + i) * size, in + (p * step + begin + lane) * size,
               static_cast<size_t>(size));
      }
    }
    windows.push_back(w);
  }
  const TakeRow row = {in, out.data(), step * size, out_step, pixels, groups, windows.data()};
  take(&row);
  out.check("channels");
}

}  // namespace bitorch
