// A convolution drawn at random, with its weights, inputs and what must come out by plain loops: what the checks of
// whole layers and the timing of one have in common.
#pragma once
#include <cstdint>
#include <vector>

#include "core/conv/conv.h"
#include "tools/layer_outline.h"

namespace bitorch {

struct LayerCase {
  LayerCase() = default;
  LayerCase(const LayerCase&) = delete;  // the spec points into it
  LayerCase(LayerCase&&) = default;

  ConvSpec spec;
  int64_t batch = 1;
  Kind input_kind = Kind::kBytes, codes_kind = Kind::kBytes;
  Halo extra;                      // of the input, beyond its padding
  int64_t before = 0, behind = 0;  // channels of a tensor that the results are a part of, as of a concatenation
  bool in_place = false;

  // What the spec points to.
  std::vector<uint8_t> m;  // [out_channels][taps][in_channels / groups]
  std::vector<uint8_t> packed, descending;
  std::vector<float> multiply, offset, norm_multiply, norm_offset, float_thresholds;
  std::vector<int32_t> int_thresholds;
  std::vector<uint8_t> codes;   // [batch][height][width][in_channels]
  std::vector<float> residual;  // [batch][out_height][out_width][out_channels]

  Layout input_layout() const;
  Layout codes_layout() const;  // with a halo of one pixel, as a 3x3 convolution behind it would want
  Layout float_layout() const;
  int64_t outputs() const { return batch * spec.result_height() * spec.result_width() * spec.geometry.out_channels; }
  // Once geometry, bits and the arrays' sizes are settled: packs m and sets the spec's pointers.
  void point();
};

// Its numbers: weights, inputs, thresholds, residuals.
LayerCase draw_layer(Random& random, const LayerOutline& outline);

struct LayerResults {
  std::vector<int32_t> sums;   // D, before a pool
  std::vector<float> values;   // y, empty without a float stage
  std::vector<uint8_t> codes;  // empty without codes
};
LayerResults expected_results(const LayerCase& layer);

// Codes in memory as the layout says; `memory` holds batch images and its halo is zeroed.
void write_codes(const Layout& layout, const std::vector<uint8_t>& codes, int64_t batch, uint8_t* memory);

}  // namespace bitorch
