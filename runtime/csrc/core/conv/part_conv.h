// A part of a convolution that ordinary convolutions make together (conv_axis.h): some outputs of two axes, from some
// taps of the kernel, of one slice of the input or of several whose channels lie side by side.
#pragma once
#include <cstdint>
#include <vector>

#include "core/base/preparation.h"
#include "core/conv/conv.h"
#include "core/conv/conv_axis.h"

namespace bitorch {

// The whole kernel, of three axes: the canonical order of its weights is [N][depth][height][width][C / groups].
struct KernelShape {
  int64_t depth = 1, height = 1, width = 1;
};

struct ConvPart {
  AxisPart y, x;
  std::vector<int64_t> depth_taps;  // a slice each
  // Columns of outputs that one pixel makes: of each group of as many the first has tap 0, the next tap 1, and so on.
  // Their channels lie side by side, as those of one pixel; then x are the columns of the input, with all taps.
  int64_t joined_columns = 1;

  bool sees_nothing() const { return y.taps.empty() || x.taps.empty() || depth_taps.empty(); }
};

// What `whole`, whose geometry says channels and groups, is for a part: geometry, and what belongs to its channels. No
// weights: kernels can be chosen without. `preparation` keeps what is made, as long as the program is being made.
ConvSpec part_spec(const ConvSpec& whole, const ConvPart& part, Preparation& preparation);
// The same with its weights. A part that sees nothing is a pixel whose weights add up to 0.
ConvSpec part_spec_with_weights(const ConvSpec& whole, const KernelShape& kernel, const ConvPart& part,
                                Preparation& preparation);

// The outputs of a part in the layout of all: first pixels of slice 0.
Layout outputs_of(const Layout& all, const ConvPart& part);
// The pixels of the input that it sees, in the layout of a slice.
Layout pixels_of(const Layout& slice, const ConvPart& part);

}  // namespace bitorch
