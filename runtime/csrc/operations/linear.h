// linear: features of codes times a matrix of packed low-bit weights; a 1x1 convolution of one pixel.
#pragma once
#include "operations/convolution.h"

namespace bitorch {

inline constexpr const char* kLinearKeys[] = {"input",        "weight",           "weight_bits", "weight_grid",
                                              "out_channels", "sign_activations", "zero_point",  "multiply",
                                              "offset",       "norm_multiply",    "norm_offset", "residual",
                                              "relu",         "thresholds",       "descending",  "bits",
                                              "int32",        "float32",          "codes"};

ConvolutionSpec read_linear(const OperationReader& reader);

}  // namespace bitorch
