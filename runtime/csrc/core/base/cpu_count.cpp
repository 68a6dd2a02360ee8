// How many CPUs this process may keep busy: its affinity mask, and the CPU time that its cgroup is allowed.
#include "core/base/cpu_count.h"

#include <algorithm>
#include <cmath>
#include <fstream>
#include <sstream>
#include <thread>

#if defined(__linux__)
#include <sched.h>
#endif

namespace bitorch {
namespace {

// CPUs that a quota per period amounts to; 0 for no limit. Version 2 writes "max" for none, version 1 writes -1.
int quota_cpus(const std::string& quota, const std::string& period) {
  double microseconds = 0, of = 0;
  if (!(std::istringstream(quota) >> microseconds) || !(std::istringstream(period) >> of)) return 0;
  if (!(microseconds > 0) || !(of > 0)) return 0;
  return static_cast<int>(std::min(std::ceil(microseconds / of), 1e6));
}

std::string first_word(const std::string& path) {
  std::string word;
  std::ifstream(path) >> word;
  return word;
}

int limit_of(const std::string& directory, bool version_2) {
  if (!version_2)
    return quota_cpus(first_word(directory + "/cpu.cfs_quota_us"), first_word(directory + "/cpu.cfs_period_us"));
  std::string quota, period;
  std::ifstream file(directory + "/cpu.max");
  if (!(file >> quota >> period)) return 0;
  return quota_cpus(quota, period);
}

int smaller_limit(int a, int b) { return a == 0 || (b != 0 && b < a) ? b : a; }

int affinity_cpus() {
#if defined(__linux__)
  // A mask of 1024 CPUs is refused with EINVAL on a machine with more.
  for (int cpus = 1024; cpus <= 1 << 20; cpus *= 2) {
    cpu_set_t* mask = CPU_ALLOC(static_cast<size_t>(cpus));
    if (mask == nullptr) break;
    const size_t bytes = CPU_ALLOC_SIZE(static_cast<size_t>(cpus));
    const int count = sched_getaffinity(0, bytes, mask) == 0 ? CPU_COUNT_S(bytes, mask) : 0;
    CPU_FREE(mask);
    if (count > 0) return count;
  }
#endif
  return static_cast<int>(std::max(std::thread::hardware_concurrency(), 1u));
}

}  // namespace

int cgroup_cpus(const std::string& self_cgroup, const std::string& mount) {
  int smallest = 0;
  std::ifstream file(self_cgroup);
  for (std::string line; std::getline(file, line);) {  // id:controllers:path
    const size_t first = line.find(':');
    const size_t second = first == std::string::npos ? first : line.find(':', first + 1);
    if (second == std::string::npos) continue;
    const std::string controllers = "," + line.substr(first + 1, second - first - 1) + ",";
    const bool version_2 = controllers == ",,";
    if (!version_2 && controllers.find(",cpu,") == std::string::npos) continue;
    const std::string root = version_2 ? mount : mount + "/cpu";
    // Inside a container the path may be the host's and not exist here; its last parent, the mount itself, does.
    for (std::string path = line.substr(second + 1);; path.resize(path.rfind('/'))) {
      smallest = smaller_limit(smallest, limit_of(root + path, version_2));
      if (path.find('/') == std::string::npos) break;
    }
  }
  return smallest;
}

int usable_cpus() {
  return std::max(1, smaller_limit(affinity_cpus(), cgroup_cpus("/proc/self/cgroup", "/sys/fs/cgroup")));
}

}  // namespace bitorch
