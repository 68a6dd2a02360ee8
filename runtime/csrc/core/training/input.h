// How x becomes bytes, which are unsigned because the kernels' products ask for it.
#pragma once
#include <algorithm>
#include <cstdint>

#include "core/training_kernels.h"

namespace bitorch {

// A code of x is byte + low. Sums run over bytes, and low times the sum of what they are multiplied by is added: over
// padded columns, too, whose bytes are those of a code of 0.
struct InputCodes {
  int levels;  // 2^bits - 1: bytes are 0 .. levels
  bool given;  // x holds codes, low .. low + levels; else it is quantized, and low is 0
  int low;     // -255 .. 0

  uint8_t zero() const { return static_cast<uint8_t>(-low); }
  int largest() const { return std::max(levels, -low); }  // of bytes and of |code|

  // As TrainingKernels says of quantize() and take_codes(). mask: null where codes are given, or there is none.
  int32_t take(const TrainingKernels& kernels, const float* x, int64_t n, uint8_t* bytes, uint8_t* mask) const {
    return given ? kernels.take_codes(x, n, low, levels, bytes)
                 : kernels.quantize(x, n, static_cast<float>(levels), bytes, mask);
  }
};

}  // namespace bitorch
