// Which instruction sets this CPU has, and which kernels are used.
#include "core/base/cpu.h"

#include <atomic>
#include <cstdlib>

#include "core/base/checked.h"

#if defined(__x86_64__)
#include <cpuid.h>
#if defined(__linux__)
#include <sys/syscall.h>
#include <unistd.h>
#endif
#elif defined(__APPLE__)
#include <sys/sysctl.h>
#elif defined(__aarch64__)
#include <asm/hwcap.h>
#include <sys/auxv.h>
#endif

#if !defined(__x86_64__)
#include <fstream>
#endif

namespace bitorch {
namespace {

struct Flag {
  const char* name;
  bool present;
};

struct Level {
  const KernelTable* table;
  const char* needs[24];  // flags, ended by null
};

#if defined(__x86_64__)
// Not all compilers know AMX in __builtin_cpu_supports: its bits are in EDX of CPUID's leaf 7.
constexpr unsigned kAmxTile = 1u << 24, kAmxInt8 = 1u << 25;
unsigned amx_bits() {
  unsigned eax = 0, ebx = 0, ecx = 0, edx = 0;
  return __get_cpuid_count(7, 0, &eax, &ebx, &ecx, &edx) != 0 ? edx : 0;
}

// Linux gives the registers of AMX to a process that asks for them, and then saves them, 8 KiB a thread. It refuses
// where a thread has too small a stack for signals.
bool tiles_allowed() {
#if defined(__linux__) && defined(SYS_arch_prctl)
  constexpr int kRequestPermission = 0x1023, kTileData = 18;  // ARCH_REQ_XCOMP_PERM, XFEATURE_XTILEDATA
  static const bool allowed = syscall(SYS_arch_prctl, kRequestPermission, kTileData) == 0;
  return allowed;
#else
  return false;
#endif
}

// __builtin_cpu_supports takes literals only. It also asks the operating system (XCR0) whether wide registers are
// saved.
#define FLAG(name) {name, __builtin_cpu_supports(name) != 0}
std::vector<Flag> all_flags() {
  __builtin_cpu_init();
  const unsigned amx = amx_bits();
  const bool tiles = (amx & kAmxTile) != 0 && tiles_allowed();
  return {FLAG("popcnt"),
          FLAG("avx2"),
          FLAG("fma"),
          FLAG("bmi"),
          FLAG("bmi2"),
          FLAG("avx512f"),
          FLAG("avx512bw"),
          FLAG("avx512vl"),
          FLAG("avx512dq"),
          FLAG("avx512vnni"),
          FLAG("avx512vbmi"),
          FLAG("avx512vbmi2"),
          FLAG("avx512bitalg"),
          FLAG("avx512vpopcntdq"),
          FLAG("gfni"),
          {"amx-tile", tiles},
          {"amx-int8", tiles && (amx & kAmxInt8) != 0}};
}
#undef FLAG
const Level kLevels[] = {
    {&kPortableKernels, {}},
    {&kAvx2Kernels, {"avx2", "fma", "popcnt", "bmi", "bmi2"}},
    {&kAvx512Kernels,
     {"avx2", "fma", "popcnt", "bmi", "bmi2", "avx512f", "avx512bw", "avx512vl", "avx512dq", "avx512vnni"}},
    {&kAvx512VpopcntdqKernels,
     {"avx2", "fma", "popcnt", "bmi", "bmi2", "avx512f", "avx512bw", "avx512vl", "avx512dq", "avx512vnni",
      "avx512vpopcntdq", "avx512bitalg", "avx512vbmi", "avx512vbmi2", "gfni"}},
    {&kAvx512AmxKernels,
     {"avx2", "fma", "popcnt", "bmi", "bmi2", "avx512f", "avx512bw", "avx512vl", "avx512dq", "avx512vnni",
      "avx512vpopcntdq", "avx512bitalg", "avx512vbmi", "avx512vbmi2", "gfni", "amx-tile", "amx-int8"}},
};
#elif defined(__aarch64__)
#if defined(__APPLE__)
bool apple_has(const char* name) {
  int value = 0;
  size_t bytes = sizeof value;
  return sysctlbyname(name, &value, &bytes, nullptr, 0) == 0 && value != 0;
}
std::vector<Flag> all_flags() { return {{"asimd", true}, {"asimddp", apple_has("hw.optional.arm.FEAT_DotProd")}}; }
#else
std::vector<Flag> all_flags() {
  const unsigned long capabilities = getauxval(AT_HWCAP);
  return {{"asimd", (capabilities & HWCAP_ASIMD) != 0}, {"asimddp", (capabilities & HWCAP_ASIMDDP) != 0}};
}
#endif
const Level kLevels[] = {
    {&kPortableKernels, {}},
    {&kNeonKernels, {"asimd"}},
    {&kNeonDotprodKernels, {"asimd", "asimddp"}},
};
#else
std::vector<Flag> all_flags() { return {}; }
const Level kLevels[] = {{&kPortableKernels, {}}};
#endif

// The first flag that the level needs and this CPU lacks, or null.
const char* missing_flag(const Level& level, const std::vector<std::string>& present) {
  for (const char* const* need = level.needs; *need != nullptr; ++need) {
    bool found = false;
    for (const std::string& flag : present) found = found || flag == *need;
    if (!found) return *need;
  }
  return nullptr;
}

std::string available_text() {
  std::string text;
  for (const std::string& name : available_kernels()) text += (text.empty() ? "" : ", ") + name;
  return text;
}

// `source`: what the name is, for the message.
const KernelTable& find_kernels(const std::string& name, const std::string& source) {
  const std::vector<std::string> present = cpu_flags();
  for (const Level& level : kLevels) {
    if (name != level.table->name) continue;
    const char* missing = missing_flag(level, present);
    if (missing == nullptr) return *level.table;
    throw Error(source + "'" + name + "' needs the instructions " + missing +
                ", which this CPU lacks; it can run: " + available_text());
  }
  throw Error(source + "'" + name + "' is no name of kernels; this CPU can run: " + available_text());
}

}  // namespace

std::vector<std::string> available_kernels() {
  const std::vector<std::string> present = cpu_flags();
  std::vector<std::string> names;
  for (const Level& level : kLevels) {
    if (missing_flag(level, present) == nullptr) names.emplace_back(level.table->name);
  }
  return names;
}

const KernelTable& kernels() {
  // An atomic instead of a static local: a fork during its initialisation would leave the child waiting for ever. Two
  // threads that come here first find the same table.
  static std::atomic<const KernelTable*> chosen{nullptr};
  const KernelTable* table = chosen.load(std::memory_order_acquire);
  if (table == nullptr) {
    const char* wanted = std::getenv("BITORCH_KERNEL");
    const bool named = wanted != nullptr && *wanted != '\0';
    table = &(named ? find_kernels(wanted, "BITORCH_KERNEL=") : kernels(available_kernels().back()));
    chosen.store(table, std::memory_order_release);
  }
  return *table;
}

const KernelTable& kernels(const std::string& name) { return find_kernels(name, "kernels "); }

std::vector<std::string> cpu_flags() {
  std::vector<std::string> names;
  for (const Flag& flag : all_flags()) {
    if (flag.present) names.emplace_back(flag.name);
  }
  return names;
}

const char* machine_name(Machine machine) {
  static const char* const kNames[] = {"generic", "zen4", "zen5", "icelake", "sapphirerapids"};
  return kNames[static_cast<int>(machine)];
}

bool fused_allowed() {
  static const bool allowed = [] {
    const char* wanted = std::getenv("BITORCH_FUSED");
    const std::string text = wanted == nullptr ? "" : wanted;
    if (text != "" && text != "0" && text != "1") {
      throw Error("BITORCH_FUSED='" + text + "' must be 0 or 1");
    }
    return text != "0";
  }();
  return allowed;
}

#if defined(__x86_64__)
namespace {

struct Signature {
  bool amd;
  unsigned int family, model;
};

Signature signature() {
  unsigned int a = 0, b = 0, c = 0, d = 0;
  if (__get_cpuid(0, &a, &b, &c, &d) == 0) return {};
  const bool amd = c == signature_AMD_ecx, intel = c == signature_INTEL_ecx;
  if (!(amd || intel) || __get_cpuid(1, &a, &b, &c, &d) == 0) return {};
  unsigned int family = a >> 8 & 15, model = a >> 4 & 15;
  if (family == 6 || family == 15) model += a >> 12 & 0xf0;
  if (family == 15) family += a >> 20 & 255;
  return {amd, family, model};
}

Machine find_machine() {
  const Signature s = signature();
  if (s.amd && s.family == 0x1a) return Machine::kZen5;
  if (s.amd && s.family == 0x19) {
    const bool zen4 = (s.model >= 0x10 && s.model < 0x20) || (s.model >= 0x60 && s.model < 0x80) || s.model >= 0xa0;
    return zen4 ? Machine::kZen4 : Machine::kGeneric;
  }
  if (s.amd || s.family != 6) return Machine::kGeneric;
  switch (s.model) {
    case 0x6a:  // Ice Lake, server
    case 0x6c:
    case 0x7d:  // and client
    case 0x7e:
    case 0x8c:  // Tiger Lake
    case 0x8d:
    case 0xa7:  // Rocket Lake
      return Machine::kIceLake;
    case 0x8f:  // Sapphire Rapids
    case 0xcf:  // Emerald Rapids
    case 0xad:  // Granite Rapids
    case 0xae:
      return Machine::kSapphireRapids;
    default:
      return Machine::kGeneric;
  }
}

}  // namespace

// Asked once: where a hypervisor answers CPUID, each takes more than a microsecond, and layers run in less.
Machine machine() {
  static const Machine found = find_machine();
  return found;
}
#else
Machine machine() { return Machine::kGeneric; }
#endif

#if defined(__x86_64__)
std::string cpu_name() {
  unsigned int text[13] = {};  // 48 characters and a zero
  unsigned int highest = __get_cpuid_max(0x80000000u, nullptr);
  if (highest < 0x80000004u) return "unknown";
  for (unsigned int i = 0; i < 3; ++i) {
    __get_cpuid(0x80000002u + i, &text[4 * i], &text[4 * i + 1], &text[4 * i + 2], &text[4 * i + 3]);
  }
  std::string name(reinterpret_cast<const char*>(text));
  name.erase(0, name.find_first_not_of(' '));
  name.erase(name.find_last_not_of(' ') + 1);
  return name.empty() ? "unknown" : name;
}
#elif defined(__APPLE__)
std::string cpu_name() {
  char text[256] = {};
  size_t bytes = sizeof text - 1;
  return sysctlbyname("machdep.cpu.brand_string", text, &bytes, nullptr, 0) == 0 && text[0] != '\0' ? text : "unknown";
}
#else
std::string cpu_name() {
  std::ifstream file("/proc/cpuinfo");
  for (std::string line; std::getline(file, line);) {
    const size_t colon = line.find(": ");
    if (line.rfind("model name", 0) == 0 && colon != std::string::npos) return line.substr(colon + 2);
  }
  return "unknown";
}
#endif

}  // namespace bitorch
