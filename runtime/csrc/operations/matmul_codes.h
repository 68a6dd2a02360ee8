// matmul_codes: products of two tensors' matrices of codes, on integers.
#pragma once
#include "operations/definition.h"
#include "operations/leading_axes.h"
#include "operations/matmul.h"

namespace bitorch {

inline constexpr const char* kMatmulCodesKeys[] = {"inputs", "transposed", "zero_points", "signs",
                                                   "scale",  "int32",      "float32"};

// What a code q stands for: factor * q + offset.
struct CodeMeaning {
  int32_t factor = 1, offset = 0;
};

struct MatmulCodesSpec {
  Operands operands;  // of codes
  CodeMeaning of_left_codes, of_right_codes;
  const Tensor* sums = nullptr;    // int32 [.., M, N]; or null
  const Tensor* floats = nullptr;  // float32, the sums times `scale`; or null
  float scale = 1.0f;
};

MatmulCodesSpec read_matmul_codes(const OperationReader& reader);
std::unique_ptr<Operation> make_matmul_codes(const MatmulCodesSpec& spec, Preparation& preparation);

}  // namespace bitorch
