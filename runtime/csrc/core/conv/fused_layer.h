// What the fused kernels are told of a convolution, from its spec: bounds of its sums, thresholds, lines and borders
// per channel.
#pragma once
#include <cstdint>
#include <memory>

#include "core/base/aligned.h"
#include "core/base/preparation.h"
#include "core/conv/conv.h"
#include "core/fused.h"

namespace bitorch {

// Before layouts and weights are looked at: sums are bounded by the number of inputs, the pointers of the epilogue only
// say what there will be. False where no fused kernel could serve the layer.
bool describe_fused(const ConvSpec& spec, bool input_planes, bool output_planes, FusedSpec* fused);

// The layer itself. The arrays that the spec points to are its own.
struct FusedLayer {
  FusedSpec spec{};
  int64_t largest_result = 0;    // of |D|, border and all: an input counts for at most its largest code
  AlignedArray<uint8_t> negate;  // [out_channels] of 0 or 1: weights that change sign, so that every threshold rises
  AlignedArray<float>
      numbers;  // multiply, offset, norm_multiply, norm_offset, line_multiply, line_offset: [padded] each
  AlignedArray<uint32_t> thresholds;  // [n][padded]
  AlignedArray<int32_t> border, row_class, column_class, falls;
};
// Null where no fused kernel could serve the layer. m becomes the weights after their changes of sign,
// [out_channels][kernel_h * kernel_w][in_channels / groups].
std::unique_ptr<FusedLayer> make_fused_layer(const ConvSpec& spec, const Layout& input, const Layout* out_codes,
                                             Preparation& preparation, uint8_t* m);

}  // namespace bitorch
