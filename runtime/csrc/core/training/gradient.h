// The gradient of one sample as codes.
#pragma once
#include <cstdint>

#include "core/training/backward.h"

namespace bitorch {

// Writes the codes as GradientCodes says, whose odd is as_odd, and returns the scale: see gradient_codes() of
// backward.h. The noise is that of sample `sample` of samples of n numbers each, which begins at block sample * ceil(n
// / 32). levels: or null.
float sample_codes(const TrainingKernels& kernels, const GradientSpec& spec, const float* g, int64_t sample, int64_t n,
                   bool as_odd, uint8_t* levels, int8_t* codes);

}  // namespace bitorch
