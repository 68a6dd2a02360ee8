// Functions of floats: the functions of FunctionKernels, one table per instruction set.
//
// Every function is one fixed sequence of float32 operations, each rounded by itself or as one fused multiply-add, so
// that all tables give the same bits; reference/functions.py and reference/softmax.py have the same sequences. As
// kernels.h, this holds nothing that could be emitted into an object file.
#pragma once
#include <cstdint>

namespace bitorch {

enum FunctionOfFloats : int {
  kLeakyRelu,
  kElu,
  kSelu,
  kCelu,
  kHardswish,
  kHardsigmoid,
  kSigmoid,
  kLogSigmoid,
  kTanh,
  kSilu,
  kMish,
  kGelu,
  kGeluTanh,
  kSoftplus,
  kSoftsign,
  kErf,
  kExp,
  kLog,
  kSqrt,
  kRsqrt,
  kReciprocal,
  kAbs,
  kSign,
  kThreshold,
  kHardshrink,
  kSoftshrink,
  kFunctionsOfFloats
};

// out[i] = f(in[i]), n floats; out may be in. `parameters` are
//   kLeakyRelu, kElu         one for each number, [n]: its slope
//   kCelu                    alpha, 1 / alpha
//   kSoftplus                beta, threshold
//   kThreshold               threshold, value
//   kHardshrink, kSoftshrink lambda
// and not read by the others.
using ApplyFunction = void (*)(float* out, const float* in, const float* parameters, int64_t n);

struct FunctionKernels {
  ApplyFunction of[kFunctionsOfFloats];
  // Of one row of n floats, n >= 1: e^x / sum of e^x, or the logarithm of that. out may be in. NaN in the row,
  // infinity, or a row of nothing but -infinity make all of it NaN.
  void (*softmax)(float* out, const float* in, int64_t n);
  void (*log_softmax)(float* out, const float* in, int64_t n);
};

extern const FunctionKernels kPortableFunctions;
extern const FunctionKernels kAvx2Functions;
extern const FunctionKernels kAvx512Functions;

}  // namespace bitorch
