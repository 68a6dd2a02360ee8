// What kernels were measured to take on this machine, for who would rather measure once than rely on what they reckon.
#pragma once
#include <map>
#include <string>

#include "core/kernels.h"

namespace bitorch {

struct Tuning {
  std::map<std::string, double> nanoseconds;  // by layer and kernel: kernel_key() of core/conv/tuning.h
  bool measure = false;                       // what is missing, with
  const KernelTable* kernels = nullptr;       // these
};

}  // namespace bitorch
