// How numbers become codes.
#pragma once
#include <cstdint>

namespace bitorch {

// A code is the number of thresholds that x reaches, or where `descending` says so, does not exceed: thresholds
// [channels][2^bits - 1], int32 or float32. Both null: the unit quantizer of x, round(n * clip(x, 0, 1)) with
// n = 2^bits - 1, half to even. Arrays are the caller's.
struct CodeSpec {
  int bits = 0;  // 0: no codes
  const int32_t* int_thresholds = nullptr;
  const float* float_thresholds = nullptr;
  const uint8_t* descending = nullptr;  // [channels] of 0 or 1, or null: q = number of j with x <= threshold[j]
};

}  // namespace bitorch
