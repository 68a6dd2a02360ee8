// normalize: numbers that belong together get mean 0 and deviation 1, or another common size: layer, group, instance
// and RMS normalisation.
#pragma once
#include "core/norm_kernels.h"
#include "operations/definition.h"
#include "operations/elementwise.h"

namespace bitorch {

inline constexpr const char* kNormalizeKeys[] = {"input", "by",      "rows",  "groups", "eps",        "weight",
                                                 "bias",  "float32", "codes", "bits",   "thresholds", "descending"};

struct NormalizeSpec {
  const Tensor* input = nullptr;  // float32
  NormalizeBy by = kDeviation;
  // A set is one of `groups` runs of channels, at one place, or at all places of `set_rows` rows of pixels.
  bool each_place = true;
  int64_t set_rows = 1;
  int64_t groups = 1;
  float eps = 0.0f;
  const float* weight = nullptr;  // [channels], or [places][channels]; or null
  const float* bias = nullptr;
  bool weight_by_place = false, bias_by_place = false;
  ElementwiseOutputs outputs;

  int64_t places() const { return each_place ? 1 : set_rows * input->width; }
};

NormalizeSpec read_normalize(const OperationReader& reader);
std::unique_ptr<Operation> make_normalize(const NormalizeSpec& spec, Preparation& preparation);

}  // namespace bitorch
