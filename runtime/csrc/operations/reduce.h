// reduce: one number of all along some axes: their sum, mean, size or spread, the largest or where it stands.
#pragma once
#include <vector>

#include "operations/definition.h"

namespace bitorch {

inline constexpr const char* kReduceKeys[] = {"input", "output", "function", "axes", "correction", "scale"};

enum class Reduction { kSum, kMean, kNorm, kVar, kStd, kAmax, kAmin, kArgmax, kArgmin };

struct ReduceSpec {
  const Tensor* input = nullptr;   // float32 or codes
  const Tensor* output = nullptr;  // with axes of 1; int32 of places, codes of extremes of codes, else float32
  Reduction function = Reduction::kSum;
  RowAxes axes;                   // of the input, as many as the key speaks of
  std::vector<bool> row_reduced;  // which of them
  bool channels_reduced = false;
  double correction = 1.0;  // what is taken from the number of values: of variances
  float scale = 1.0f;       // what a step of a code is worth: of sums and means

  bool is_place() const { return function == Reduction::kArgmax || function == Reduction::kArgmin; }
  bool is_extreme() const { return function == Reduction::kAmax || function == Reduction::kAmin; }
  bool is_smallest() const { return function == Reduction::kAmin || function == Reduction::kArgmin; }
};

ReduceSpec read_reduce(const OperationReader& reader);
std::unique_ptr<Operation> make_reduce(const ReduceSpec& spec, Preparation& preparation);

}  // namespace bitorch
