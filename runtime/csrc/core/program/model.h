// A network from a packed file, ready to run.
#pragma once
#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "core/kernels.h"
#include "core/program/memory_limit.h"
#include "core/program/plans.h"

namespace bitorch {

struct Model {
  Plans plans;
  int format_version;
  std::string description;  // the operations as the file has them, JSON
  std::string info;         // JSON: class_names, preprocessing, provenance
  std::vector<std::string> class_names;
  std::string sha256;

  // Nothing of the bytes is kept. Error where the file is damaged, newer than this library, no packed file at all, or
  // asks for more than memory_limit bytes; std::bad_alloc. The memory for a batch of 1, of the smallest size where
  // sizes are open, is there when this returns.
  static Model read(const void* data, size_t size, const KernelTable& kernels, int64_t memory_limit = kMemoryLimit,
                    Tuning* tuning = nullptr);
  // Errors begin with the path.
  static Model load(const std::string& path, const KernelTable& kernels, int64_t memory_limit = kMemoryLimit,
                    Tuning* tuning = nullptr);
};

}  // namespace bitorch
