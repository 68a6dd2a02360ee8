// How many CPUs this process may keep busy.
#pragma once
#include <string>

namespace bitorch {

// The CPUs in this process's affinity mask, or fewer where a cgroup gives it less time than that; at least 1.
int usable_cpus();

// The smallest quota of the cgroup that `self_cgroup` (a file like /proc/self/cgroup) names and of its parents, in
// CPUs, rounded up; 0 where nothing limits it. Versions 1 and 2, mounted under `mount` (/sys/fs/cgroup).
int cgroup_cpus(const std::string& self_cgroup, const std::string& mount);

}  // namespace bitorch
