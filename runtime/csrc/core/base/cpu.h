// Which instruction sets this CPU has, and which kernels are used.
#pragma once
#include <string>
#include <vector>

#include "core/kernels.h"

namespace bitorch {

// Names of the kernel tables that this CPU can run, slowest first: "portable", then e.g. "avx2", "avx512",
// "avx512-vpopcntdq", "avx512-amx". The last needs the leave of Linux, which is asked for once.
std::vector<std::string> available_kernels();

// The table in use: the last of available_kernels(), or the one that the environment variable BITORCH_KERNEL names,
// read at the first call. Throws Error where that name is unknown or this CPU lacks the instructions.
const KernelTable& kernels();

// The table of that name; Error as above.
const KernelTable& kernels(const std::string& name);

// Which processor this is: what choices of kernels depend on, and nothing else.
Machine machine();
// "generic", "zen4", "zen5", "icelake" or "sapphirerapids"
const char* machine_name(Machine machine);

// Whether fused kernels and operations are used: unless the environment variable BITORCH_FUSED, read at the first call,
// is 0. They change no result.
bool fused_allowed();

// Instruction-set flags found, e.g. {"avx2", "avx512bw", "avx512vnni"}; for bitorch_runtime.cpu().
std::vector<std::string> cpu_flags();
// Brand string of the CPU, or "unknown".
std::string cpu_name();

}  // namespace bitorch
