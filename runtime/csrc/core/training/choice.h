// Which kernels a training step runs on.
#pragma once
#include <string>
#include <vector>

#include "core/training_kernels.h"

namespace bitorch {

// Names of those that this CPU can run, slowest first: "portable", then "avx2".
std::vector<std::string> available_training_kernels();

// Those of that name; of "", the fastest that the table of core/base/cpu.h, and so BITORCH_KERNEL, allows. Error:
// another name, or instructions that this CPU lacks.
const TrainingKernels& training_kernels(const std::string& name);

}  // namespace bitorch
