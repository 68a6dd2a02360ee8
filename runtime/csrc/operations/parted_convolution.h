// Convolutions that several ordinary ones make together: transposed ones, and those of three axes.
//
// Each part (part_conv.h) is a convolution of its own, with the kernels, stages and codes of any other, that writes
// some of the outputs where they belong. Of three axes each slice of the output is made by itself, from the slices that
// it sees: these are put side by side as channels (slice_stage.h), and a slice outside of the input is left out, so
// that it contributes 0 whatever codes mean.
#pragma once
#include <memory>

#include "operations/convolution.h"

namespace bitorch {

// Whether the layer is none that one ordinary convolution makes.
bool is_parted(const ConvolutionSpec& spec);
std::unique_ptr<Operation> make_parted_convolution(const ConvolutionSpec& spec, Preparation& preparation);

}  // namespace bitorch
