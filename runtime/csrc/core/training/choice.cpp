#include "core/training/choice.h"

#include <algorithm>

#include "core/base/checked.h"
#include "core/base/cpu.h"

namespace bitorch {
namespace {

#if defined(__x86_64__)
TrainingKernels with_planes() {
  TrainingKernels kernels = kAvx512Training;
  kernels.name = "avx512-vpopcntdq";
  kernels.planes = &kAvx512Planes;
  return kernels;
}

const TrainingKernels kWithPlanes = with_planes();
#endif

}  // namespace

std::vector<std::string> available_training_kernels() {
  std::vector<std::string> names{kPortableTraining.name};
#if defined(__x86_64__)
  const std::vector<std::string> tables = available_kernels();
  for (const char* name : {kAvx512Training.name, kWithPlanes.name}) {
    if (std::find(tables.begin(), tables.end(), name) != tables.end()) names.emplace_back(name);
  }
#endif
  return names;
}

const TrainingKernels& training_kernels(const std::string& name) {
  if (name == kPortableTraining.name) return kPortableTraining;
#if defined(__x86_64__)
  const std::string table = kernels().name;
  if (name.empty() && table == kAvx512Training.name) return kAvx512Training;
  // All tables beyond "avx512" have the instructions of "avx512-vpopcntdq".
  if (name.empty() && table.rfind("avx512-", 0) == 0) return kWithPlanes;
#endif
  if (name.empty()) return kPortableTraining;
  std::string text;
  for (const std::string& known : available_training_kernels()) {
#if defined(__x86_64__)
    if (name == known) return name == kWithPlanes.name ? kWithPlanes : kAvx512Training;
#endif
    text += (text.empty() ? "" : ", ") + known;
  }
  throw Error("kernel: '" + name + "' does not run here; these do: " + text);
}

}  // namespace bitorch
