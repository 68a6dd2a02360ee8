// conv_transpose_float: a transposed convolution of float32 with float32 weights.
#pragma once
#include "operations/convolution.h"

namespace bitorch {

inline constexpr const char* kConvTransposeFloatKeys[] = {
    "input",    "weight",     "out_channels", "kernel_size", "stride",        "padding",     "output_padding",
    "dilation", "groups",     "multiply",     "offset",      "norm_multiply", "norm_offset", "residual",
    "relu",     "thresholds", "descending",   "bits",        "float32",       "codes"};

ConvolutionSpec read_conv_transpose_float(const OperationReader& reader);

}  // namespace bitorch
