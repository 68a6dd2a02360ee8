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
// Each runs where the table of inference of its name does.
const TrainingKernels* const kForX86[] = {&kAvx2Training, &kAvx512Training, &kWithPlanes};
#endif

}  // namespace

std::vector<std::string> available_training_kernels() {
  std::vector<std::string> names{kPortableTraining.name};
#if defined(__x86_64__)
  const std::vector<std::string> tables = available_kernels();
  for (const TrainingKernels* each : kForX86) {
    if (std::find(tables.begin(), tables.end(), each->name) != tables.end()) names.emplace_back(each->name);
  }
#endif
  return names;
}

const TrainingKernels& training_kernels(const std::string& name) {
  if (name == kPortableTraining.name) return kPortableTraining;
#if defined(__x86_64__)
  const std::string table = kernels().name;
  if (name.empty() && table == kAvx2Training.name) return kAvx2Training;
  if (name.empty() && table == kAvx512Training.name) return kAvx512Training;
  // All tables beyond "avx512" have the instructions of "avx512-vpopcntdq".
  if (name.empty() && table.rfind("avx512-", 0) == 0) return kWithPlanes;
#endif
  if (name.empty()) return kPortableTraining;
  std::string text;
  const std::vector<std::string> available = available_training_kernels();
#if defined(__x86_64__)
  for (const TrainingKernels* each : kForX86) {
    if (name == each->name && std::find(available.begin(), available.end(), name) != available.end()) return *each;
  }
#endif
  for (const std::string& known : available) text += (text.empty() ? "" : ", ") + known;
  throw Error("kernel: '" + name + "' does not run here; these do: " + text);
}

}  // namespace bitorch
