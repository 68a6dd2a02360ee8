// Measuring what kernels take.
#pragma once
#include <string>

#include "core/base/budget.h"
#include "core/base/tuning.h"
#include "core/conv/conv.h"

namespace bitorch {

// A layer and a kernel, e.g. "avx512-vpopcntdq 56x56x64>64 k3x3 s1x1 d1x1 g1 W1A2 odd planes to codes2: popcount16
// ...". Layers of one key take equally long.
std::string kernel_key(const ConvSpec& spec, const KernelTable& kernels, Kind input, const char* kernel);

// Runs the layer, some milliseconds each, with every kernel that can compute it and is not in `tuning` yet, on one
// thread and random codes. What it keeps meanwhile is at most what is left of the budget.
void measure_kernels(const ConvSpec& spec, const KernelTable& kernels, const Budget& budget, Tuning* tuning);

}  // namespace bitorch
