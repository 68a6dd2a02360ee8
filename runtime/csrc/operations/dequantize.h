// dequantize: every code becomes the float32 that it stands for.
#pragma once
#include "operations/definition.h"

namespace bitorch {

inline constexpr const char* kDequantizeKeys[] = {"input", "output", "sign", "scale", "table"};

struct DequantizeSpec {
  const Tensor* input = nullptr;   // codes
  const Tensor* output = nullptr;  // float32, of the same shape
  const float* table = nullptr;    // [2^bits] or [channels][2^bits]; null: by sign and scale
  bool per_channel = false;        // of the table
  // Without a table: a code q stands for 2q - 1 where `sign` (codes of 1 bit), else for q; times the scale. Unsigned
  // codes without a scale: for q / (2^bits - 1), which is divided, not multiplied by a reciprocal.
  bool sign = false;
  bool has_scale = false;
  float scale = 1.0f;
};

DequantizeSpec read_dequantize(const OperationReader& reader);
std::unique_ptr<Operation> make_dequantize(const DequantizeSpec& spec, Preparation& preparation);

}  // namespace bitorch
