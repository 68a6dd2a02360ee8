// How a thread computes with floats.
#pragma once
#include <cstdint>

#if defined(__x86_64__)
#include <xmmintrin.h>
#elif !defined(__aarch64__)
#include <cfenv>
#endif

namespace bitorch {

// While it lives, the thread rounds to nearest and keeps subnormal numbers, as IEEE 754 has it, whatever the
// application has set for itself: results must not depend on who calls, nor on which thread computes. Otherwise 0 >=
// 1e-45 could be true.
class IeeeFloats {
 public:
  IeeeFloats();
  ~IeeeFloats();
  IeeeFloats(const IeeeFloats&) = delete;
  IeeeFloats& operator=(const IeeeFloats&) = delete;

 private:
#if defined(__x86_64__)
  unsigned before_;
#elif defined(__aarch64__)
  uint64_t before_;
#else
  std::fenv_t before_;
#endif
};

#if defined(__x86_64__)
inline IeeeFloats::IeeeFloats() : before_(_mm_getcsr()) { _mm_setcsr(0x1f80); }  // all exceptions masked, nothing else
inline IeeeFloats::~IeeeFloats() { _mm_setcsr(before_); }
#elif defined(__aarch64__)
inline IeeeFloats::IeeeFloats() {
  asm volatile("mrs %0, fpcr" : "=r"(before_));
  asm volatile("msr fpcr, %0" : : "r"(uint64_t{0}) : "memory");
}
inline IeeeFloats::~IeeeFloats() { asm volatile("msr fpcr, %0" : : "r"(before_) : "memory"); }
#else
inline IeeeFloats::IeeeFloats() {
  std::fegetenv(&before_);
  std::fesetenv(FE_DFL_ENV);
}
inline IeeeFloats::~IeeeFloats() { std::fesetenv(&before_); }
#endif

}  // namespace bitorch
