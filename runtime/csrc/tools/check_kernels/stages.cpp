// What follows the dot products: corrections of the sums, and the float stage.
#include <cmath>

#include "checks.h"

namespace bitorch {

void check_finish_int(Random& random, const KernelTable& table) {
  const int pixels = random.from(1, kMaxTilePixels);
  const Corrections k(random, pixels);
  const IntStage stage = {k.correction, pixels, any_channels(random)};
  describe("%s finish_int: pixels %d, channels %d, shift %d, add %d, border %d", table.name, pixels, stage.channels,
           k.correction.shift, k.correction.add != nullptr, k.correction.border != nullptr);
  Tile tile(pixels);
  std::vector<int32_t> expected;
  for (int p = 0; p < pixels; ++p) {
    for (int c = 0; c < kBlock; ++c) {
      tile.at(p, c) = any_accumulator(random);
      expected.push_back(k.apply(tile.at(p, c), p, c));
    }
  }
  table.finish_int(&stage, static_cast<int32_t*>(tile.data()));
  for (int p = 0; p < pixels; ++p) {
    for (int c = 0; c < stage.channels; ++c) {
      const int32_t got = static_cast<int32_t>(tile.at(p, c));
      if (got != expected[p * kBlock + c]) fail("D", p * kBlock + c, got, expected[p * kBlock + c]);
    }
  }
  tile.check_guards();
}

namespace {

constexpr float kBetweenRows = 7.0f;  // stays where it is, between the rows that leave

struct FloatCase {
  const int pixels, channels;
  const Corrections corrections;
  Aligned<float> multiply{kBlock}, offset{kBlock}, norm_multiply{kBlock}, norm_offset{kBlock};
  bool ties;
  float tie[kBlock];  // x
  std::vector<const float*> residual;
  std::vector<float> left;  // [pixels][channels + 1]
  std::vector<float*> outs;
  FloatStage stage = {};

  FloatCase(Random& random, bool from_int);
  float x(Random& random, bool from_int, int p, int c, Tile& tile) const;
  float y(float x, int p, int c);
};

FloatCase::FloatCase(Random& random, bool from_int)
    : pixels(random.from(1, kMaxTilePixels)), channels(any_channels(random)), corrections(random, pixels) {
  for (Aligned<float>* array : {&multiply, &offset, &norm_multiply, &norm_offset}) {
    for (int c = 0; c < kBlock; ++c) (*array)[c] = random.one_in(10) ? any_float(random) : random.real();
  }
  const bool norm = random.one_in(2);
  ties = norm && !from_int && random.one_in(2);
  for (int c = 0; c < kBlock && ties; ++c) {
    multiply[c] = 1.0f;
    offset[c] = -0.0f;
    near_tie(random, &tie[c], &norm_multiply[c], &norm_offset[c]);
  }
  float* rows = input_memory().last<float>(static_cast<size_t>(pixels) * channels);
  for (int i = 0; i < pixels * channels; ++i) rows[i] = any_float(random);
  for (int p = 0; p < pixels; ++p) residual.push_back(rows + p * channels);
  left.assign(static_cast<size_t>(pixels) * (channels + 1), kBetweenRows);
  for (int p = 0; p < pixels; ++p) outs.push_back(left.data() + p * (channels + 1));
  stage.correction = corrections.correction;
  stage.multiply = multiply.data();
  stage.offset = offset.data();
  stage.norm_multiply = norm ? norm_multiply.data() : nullptr;
  stage.norm_offset = norm ? norm_offset.data() : nullptr;
  stage.residual = random.one_in(2) ? residual.data() : nullptr;
  stage.pixels = pixels;
  stage.channels = channels;
  stage.relu = random.from(0, 1);
  stage.out = random.one_in(2) ? outs.data() : nullptr;
}

// Draws what the stage finds in the tile; its value before the stage.
float FloatCase::x(Random& random, bool from_int, int p, int c, Tile& tile) const {
  if (from_int) {
    tile.at(p, c) = any_accumulator(random);
    return static_cast<float>(corrections.apply(tile.at(p, c), p, c));
  }
  tile.set_real(p, c, ties ? tie[c] : any_float(random));
  return tile.real(p, c);
}

float FloatCase::y(float x, int p, int c) {
  volatile float y = multiply_add(x, multiply[c], offset[c]);
  if (stage.norm_multiply) y = std::fma(static_cast<float>(y), norm_multiply[c], norm_offset[c]);
  if (stage.residual && c < channels) y = y + residual[p][c];
  if (stage.relu && y < 0) y = 0;
  return y;
}

}  // namespace

void check_to_float(Random& random, const KernelTable& table, bool from_int) {
  FloatCase k(random, from_int);
  describe("%s %s: pixels %d, channels %d, shift %d, add %d, border %d, norm %d, residual %d, relu %d", table.name,
           from_int ? "int_to_float" : "float_to_float", k.pixels, k.channels, k.stage.correction.shift,
           k.stage.correction.add != nullptr, k.stage.correction.border != nullptr, k.stage.norm_multiply != nullptr,
           k.stage.residual != nullptr, k.stage.relu);
  Tile tile(k.pixels);
  std::vector<float> expected;
  for (int p = 0; p < k.pixels; ++p) {
    for (int c = 0; c < kBlock; ++c) expected.push_back(k.y(k.x(random, from_int, p, c, tile), p, c));
  }
  (from_int ? table.int_to_float : table.float_to_float)(&k.stage, tile.data());
  for (int p = 0; p < k.pixels; ++p) {
    for (int c = 0; c < k.channels; ++c) {
      const float y = expected[p * kBlock + c];
      if (!same(tile.real(p, c), y)) fail("y", p * kBlock + c, tile.real(p, c), y);
      if (k.stage.out && !same(k.outs[p][c], y)) fail("y that leaves", p * kBlock + c, k.outs[p][c], y);
    }
    if (k.outs[p][k.channels] != kBetweenRows) fail("behind a row", p, k.outs[p][k.channels], kBetweenRows);
  }
  tile.check_guards();
}

}  // namespace bitorch
