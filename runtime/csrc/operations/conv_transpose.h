// conv_transpose: a transposed convolution of codes with packed low-bit weights.
#pragma once
#include "operations/convolution.h"

namespace bitorch {

inline constexpr const char* kConvTransposeKeys[] = {
    "input",      "weight",     "weight_bits",    "weight_grid",   "out_channels", "kernel_size",
    "stride",     "padding",    "output_padding", "dilation",      "groups",       "sign_activations",
    "zero_point", "multiply",   "offset",         "norm_multiply", "norm_offset",  "residual",
    "relu",       "thresholds", "descending",     "bits",          "int32",        "float32",
    "codes"};

ConvolutionSpec read_conv_transpose(const OperationReader& reader);

}  // namespace bitorch
