// Codes of D and of y, by each of the rules, in bytes and in bit planes.
#include <cmath>
#include <limits>
#include <utility>

#include "checks.h"

namespace bitorch {
namespace {

struct CodeCase {
  const bool from_int;
  const int pixels, channels, bits, rule;
  const bool planes;
  const int most;  // the largest code, and the number of thresholds
  const Corrections corrections;
  Aligned<float> multiply{kBlock}, offset{kBlock};
  Aligned<int32_t> negate{kBlock}, int_thresholds;
  Aligned<float> float_thresholds;
  bool negated;
  int row_bytes;
  int64_t plane_stride, stride;
  std::vector<uint8_t*> rows;

  CodeCase(Random& random, bool ints);
  void draw_line(Random& random);
  void draw_thresholds(Random& random);
  void draw_guided_thresholds(Random& random);
  void draw_layout(Random& random);
  size_t bytes() const {
    return static_cast<size_t>((pixels - 1) * stride + (planes ? (bits - 1) * plane_stride : 0) + row_bytes);
  }
  int code_of_int(int32_t d, int c);
  int code_of_float(float y, int c);
  CodeStage stage(uint8_t* out);
};

CodeCase::CodeCase(Random& random, bool ints)
    : from_int(ints),
      pixels(random.from(1, kMaxTilePixels)),
      channels(any_channels(random)),
      bits(random.from(1, 8)),
      rule(random.from(kCompare, kGuided)),
      planes(random.one_in(2)),
      most((1 << bits) - 1),
      corrections(random, pixels),
      int_thresholds(static_cast<size_t>(most) * kBlock),
      float_thresholds(static_cast<size_t>(most) * kBlock) {
  draw_line(random);
  draw_thresholds(random);
  if (rule == kGuided) draw_guided_thresholds(random);
  negated = rule != kAffine && random.one_in(2);
  draw_layout(random);
}

void CodeCase::draw_line(Random& random) {
  for (int c = 0; c < kBlock; ++c) {
    multiply[c] = random.one_in(10) ? any_float(random) : random.one_in(4) ? 0.5f : random.real();
    offset[c] = random.one_in(10) ? any_float(random) : random.real();
    negate[c] = -random.from(0, 1);
  }
}

// Rising ones; where a kernel compares, the last of them may be NaN, which no x reaches.
void CodeCase::draw_thresholds(Random& random) {
  for (int i = 0; i < most * kBlock; ++i) {
    const int32_t extremes[] = {INT32_MIN, INT32_MAX, INT32_MIN + 1, 0};
    int_thresholds[i] = random.one_in(6) ? extremes[random.from(0, 3)] : random.from(-2000, 2000);
    do {
      float_thresholds[i] = any_float(random);
    } while (std::isnan(float_thresholds[i]));
  }
  for (int c = 0; c < kBlock; ++c) {
    for (int j = 1; j < most; ++j) {  // sorted by insertion
      for (int i = j; i > 0; --i) {
        int32_t* t = &int_thresholds[(i - 1) * kBlock + c];
        float* f = &float_thresholds[(i - 1) * kBlock + c];
        if (t[0] > t[kBlock]) std::swap(t[0], t[kBlock]);
        if (f[0] > f[kBlock]) std::swap(f[0], f[kBlock]);
      }
    }
  }
  for (int c = 0; rule == kCompare && c < kBlock; ++c) {
    const int numbers = random.one_in(3) ? random.from(0, most) : most;
    for (int j = numbers; j < most; ++j) float_thresholds[j * kBlock + c] = std::numeric_limits<float>::quiet_NaN();
  }
}

// Up to a tenth of a code away from where the line says.
void CodeCase::draw_guided_thresholds(Random& random) {
  for (int c = 0; c < kBlock; ++c) {
    multiply[c] = 0.03f + 0.025f * random.real();
    offset[c] = 3 * random.real();
    for (int j = 0; j < most; ++j) {
      const double v = j + 0.5 + 0.1 * static_cast<double>(random.real());
      const double x = (v - static_cast<double>(offset[c])) / static_cast<double>(multiply[c]);
      int_thresholds[j * kBlock + c] = static_cast<int32_t>(std::lround(x));
      float_thresholds[j * kBlock + c] = static_cast<float>(x);
    }
  }
}

// Pixels `stride` apart, planes either within a pixel's bytes or each plane after all pixels of the one before.
void CodeCase::draw_layout(Random& random) {
  row_bytes = planes ? (channels + 7) / 8 : channels;
  const bool outer_planes = random.one_in(2);
  const int64_t gap = random.from(0, 5);
  plane_stride = outer_planes ? pixels * (row_bytes + gap) : row_bytes + gap;
  stride = outer_planes || !planes ? row_bytes + gap : bits * plane_stride;
}

int CodeCase::code_of_int(int32_t d, int c) {
  if (rule == kAffine) return round_to_code(multiply_add(static_cast<float>(d), multiply[c], offset[c]), most);
  const int32_t x = negated && negate[c] ? static_cast<int32_t>(0u - static_cast<uint32_t>(d)) : d;
  int code = 0;
  for (int j = 0; j < most; ++j) code += x >= int_thresholds[j * kBlock + c];
  return code;
}

int CodeCase::code_of_float(float y, int c) {
  if (rule == kAffine) return round_to_code(multiply_add(y, multiply[c], offset[c]), most);
  const float x = negated && negate[c] ? -y : y;
  int code = 0;
  for (int j = 0; j < most; ++j) code += x >= float_thresholds[j * kBlock + c];
  return code;
}

CodeStage CodeCase::stage(uint8_t* out) {
  for (int p = 0; p < pixels; ++p) rows.push_back(out + p * stride);
  CodeStage s = {};
  s.correction = corrections.correction;
  if (rule != kAffine)
    s.thresholds = from_int ? static_cast<const void*>(int_thresholds.data()) : float_thresholds.data();
  s.multiply = rule == kCompare ? nullptr : multiply.data();
  s.offset = rule == kCompare ? nullptr : offset.data();
  s.negate = negated ? negate.data() : nullptr;
  s.out = rows.data();
  s.out_plane_bytes = plane_stride;
  s.pixels = pixels;
  s.channels = channels;
  s.bits = bits;
  s.rule = rule;
  s.planes = planes;
  s.margin = 0.3f;
  return s;
}

}  // namespace

void check_to_codes(Random& random, const KernelTable& table, bool from_int) {
  CodeCase k(random, from_int);
  Guarded out(output_memory(), k.bytes());
  const CodeStage stage = k.stage(out.data());
  describe(
      "%s %s: pixels %d, channels %d, bits %d, rule %d, planes %d, negate %d, shift %d, add %d, border %d, "
      "stride %lld, plane stride %lld",
      table.name, from_int ? "int_to_codes" : "float_to_codes", k.pixels, k.channels, k.bits, k.rule, k.planes,
      k.negated, stage.correction.shift, stage.correction.add != nullptr, stage.correction.border != nullptr,
      static_cast<long long>(k.stride), static_cast<long long>(k.plane_stride));
  Tile tile(k.pixels);
  for (int p = 0; p < k.pixels; ++p) {
    std::vector<int> codes;
    for (int c = 0; c < kBlock; ++c) {
      const float y = any_float(random);
      const uint32_t accumulator = any_accumulator(random);
      from_int ? void(tile.at(p, c) = accumulator) : tile.set_real(p, c, y);
      if (c >= k.channels) continue;
      codes.push_back(from_int ? k.code_of_int(k.corrections.apply(accumulator, p, c), c) : k.code_of_float(y, c));
    }
    if (k.planes) {
      expect_planes(out.expected() + p * k.stride, k.plane_stride, codes, k.bits);
    } else {
      for (int c = 0; c < k.channels; ++c) {
        out.expect(static_cast<size_t>(p * k.stride + c), static_cast<uint8_t>(codes[c]));
      }
    }
  }
  (from_int ? table.int_to_codes : table.float_to_codes)(&stage, tile.data());
  out.check("byte of the codes");
  tile.check_guards();
}

}  // namespace bitorch
