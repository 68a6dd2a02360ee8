// linear_float: float32 features times a matrix of float32 weights.
#pragma once
#include "operations/convolution.h"

namespace bitorch {

inline constexpr const char* kLinearFloatKeys[] = {
    "input",    "weight", "out_channels", "multiply",   "offset", "norm_multiply", "norm_offset",
    "residual", "relu",   "thresholds",   "descending", "bits",   "float32",       "codes"};

ConvolutionSpec read_linear_float(const OperationReader& reader);

}  // namespace bitorch
