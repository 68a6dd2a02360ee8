// Floating-point numbers as text, the shortest that is read as the same number, whatever the locale.
#pragma once
#include <charconv>
#include <cmath>

#if !defined(_WIN32)
#include <locale.h>
#if defined(__APPLE__)
#include <xlocale.h>
#endif

#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <string>
#endif

namespace bitorch {

#if !defined(_WIN32)
// What <charconv> does, by what every system with POSIX has.
namespace posix {

// While it lives, the thread writes and reads numbers as C does.
class CLocale {
 public:
  CLocale() : before_(uselocale(made())) {}
  ~CLocale() { uselocale(before_); }
  CLocale(const CLocale&) = delete;
  CLocale& operator=(const CLocale&) = delete;

 private:
  static locale_t made() {
    static const locale_t c = newlocale(LC_ALL_MASK, "C", static_cast<locale_t>(nullptr));
    return c;
  }
  locale_t before_;
};

// Of text that is a number in JSON. What is too small for double is 0.
inline std::from_chars_result read_real(const char* first, const char* last, double& real) {
  const CLocale c;
  real = std::strtod(std::string(first, last).c_str(), nullptr);
  return {last, std::isfinite(real) ? std::errc() : std::errc::result_out_of_range};
}

// Of a finite number; there is room for 32 characters.
inline char* write_real(char* to, double real) {
  const CLocale c;
  int digits = 0, size = 0;  // behind the first digit
  for (; digits < 17; ++digits) {
    size = std::snprintf(to, 32, "%.*e", digits, real);
    if (std::strtod(to, nullptr) == real) break;
  }
  const int exponent = std::atoi(std::strchr(to, 'e') + 1);
  char fixed[64];
  if (exponent > -32 && exponent < 32) {
    const int length = std::snprintf(fixed, sizeof fixed, "%.*f", digits > exponent ? digits - exponent : 0, real);
    if (length <= size) {
      std::memcpy(to, fixed, static_cast<size_t>(length));
      size = length;
    }
  }
  return to + size;
}

}  // namespace posix
#endif

// libc++ reads floats so from its version 20 on, and macOS writes them so from 13.3 on.
#if defined(__APPLE__)
using posix::read_real;
using posix::write_real;
#else
inline std::from_chars_result read_real(const char* first, const char* last, double& real) {
  return std::from_chars(first, last, real);
}
inline char* write_real(char* to, double real) { return std::to_chars(to, to + 32, real).ptr; }
#endif

}  // namespace bitorch
