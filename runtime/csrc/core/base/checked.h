// Errors, and arithmetic on sizes that cannot overflow unnoticed.
#pragma once
#include <cstdint>
#include <stdexcept>
#include <string>

namespace bitorch {

// Bad input: which argument, its value, the rule, the fix. Python sees a ValueError.
struct Error : std::runtime_error {
  using std::runtime_error::runtime_error;
};

inline int64_t checked_mul(int64_t a, int64_t b, const char* what) {
  int64_t r;
  if (__builtin_mul_overflow(a, b, &r)) throw Error(std::string(what) + ": the size does not fit in 64 bits");
  return r;
}

inline int64_t checked_add(int64_t a, int64_t b, const char* what) {
  int64_t r;
  if (__builtin_add_overflow(a, b, &r)) throw Error(std::string(what) + ": the size does not fit in 64 bits");
  return r;
}

inline int64_t ceil_div(int64_t a, int64_t b) { return (a + b - 1) / b; }
inline int64_t round_up(int64_t a, int64_t b) { return ceil_div(a, b) * b; }

}  // namespace bitorch
