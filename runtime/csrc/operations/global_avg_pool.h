// global_avg_pool: the mean over all pixels of each channel.
#pragma once
#include "operations/definition.h"

namespace bitorch {

inline constexpr const char* kGlobalAvgPoolKeys[] = {"input", "output", "scale"};

struct GlobalAvgPoolSpec {
  const Tensor* input = nullptr;   // float32 or codes
  const Tensor* output = nullptr;  // float32, one pixel of as many channels
  float scale = 1.0f;              // what a step of a code is worth
};

GlobalAvgPoolSpec read_global_avg_pool(const OperationReader& reader);
std::unique_ptr<Operation> make_global_avg_pool(const GlobalAvgPoolSpec& spec, Preparation& preparation);

}  // namespace bitorch
