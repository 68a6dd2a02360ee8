#include "core/training/choice.h"

#include <algorithm>

#include "core/base/checked.h"
#include "core/base/cpu.h"

namespace bitorch {

std::vector<std::string> available_training_kernels() {
  std::vector<std::string> names{kPortableTraining.name};
#if defined(__x86_64__)
  const std::vector<std::string> tables = available_kernels();
  if (std::find(tables.begin(), tables.end(), "avx512") != tables.end()) names.push_back(kAvx512Training.name);
#endif
  return names;
}

const TrainingKernels& training_kernels(const std::string& name) {
#if defined(__x86_64__)
  // All tables from "avx512" on have its instructions.
  if (name.empty() && std::string(kernels().name).rfind("avx512", 0) == 0) return kAvx512Training;
  const std::vector<std::string> names = available_training_kernels();
  if (name == kAvx512Training.name && std::find(names.begin(), names.end(), name) != names.end()) {
    return kAvx512Training;
  }
#endif
  if (name.empty() || name == kPortableTraining.name) return kPortableTraining;
  std::string text;
  for (const std::string& known : available_training_kernels()) text += (text.empty() ? "" : ", ") + known;
  throw Error("kernel: '" + name + "' does not run here; these do: " + text);
}

}  // namespace bitorch
