// How a gradient becomes codes.
#pragma once
#include <cstdint>

namespace bitorch {

// Bits, the grid, and the key of the noise; without noise, rounded half to even. Levels j are i - low, from 0 on, and
// code = multiple * j - n:
//   odd grid         1 to 8 bits   code = 2i + 1, -n .. n, n = 2^bits - 1
//   grid with zero   2 to 8 bits   code = i, -n .. n, n = 2^(bits - 1) - 1
struct GradientSpec {
  int bits;
  bool has_zero;
  bool noisy;
  uint32_t key[2];

  int n() const { return (1 << (has_zero ? bits - 1 : bits)) - 1; }
  int low() const { return has_zero ? -n() : -(n() + 1) / 2; }
  int high() const { return has_zero ? n() : (n() - 1) / 2; }
  int multiple() const { return has_zero ? 1 : 2; }
  int largest() const { return has_zero ? 2 * n() : n(); }  // of j and of |code|
  // Where codes of 2i + 1 are no bytes, i are.
  bool halved() const { return !has_zero && bits == 8; }
  int largest_byte() const { return halved() ? (n() + 1) / 2 : n(); }  // |code|, or |i|
  int code(int i) const { return has_zero ? i : 2 * i + 1; }
};

}  // namespace bitorch
