// Products of matrices, of floats and of codes, and attention, in plain C++ for any architecture.

#include <cstdint>

#include "../core/matrix_kernels.h"

namespace bitorch {

namespace matrix_portable {

namespace {

constexpr int kLanes = 4, kMostRows = 4, kMostVectors = 2;
typedef float Vector __attribute__((vector_size(16)));

inline Vector multiply_add(Vector a, Vector b, Vector c) { return a * b + c; }

inline void store_some(float* to, Vector v, int64_t n) {
  for (int64_t i = 0; i < n; ++i) to[i] = v[i];
}

inline Vector load_some(const float* from, int64_t n) {
  Vector v = {};
  for (int64_t i = 0; i < n; ++i) v[i] = from[i];
  return v;
}

inline Vector larger(Vector a, Vector b) { return a > b ? a : b; }

#include "matrix.inl"

typedef int32_t Sums __attribute__((vector_size(16)));
typedef uint8_t Bytes __attribute__((vector_size(16)));
constexpr bool kFlips = false;

template <bool kWide>
inline Sums add_products(Sums sums, Bytes left, Bytes right) {
  for (int c = 0; c < 4; ++c) {
    for (int i = 0; i < 4; ++i) sums[c] += left[c * 4 + i] * right[c * 4 + i];
  }
  return sums;
}

#include "matrix_codes.inl"

typedef uint32_t Words __attribute__((vector_size(16)));
constexpr int kTableBits = 0;
inline Vector from_table(Vector table, Words) { return table; }

#include "matrix_slots.inl"

constexpr int kGroupRows = 2, kRowChains = 1;
constexpr uint32_t kSlotMinus = 0;

template <int S>
constexpr int64_t kPartWords = int64_t{1} << 62;

template <int S, bool kWide>
inline Sums add_codes(Sums part, Bytes m, Bytes a) {
  for (int c = 0; c < 4; ++c) {
    for (int i = 0; i < 4; ++i) part[c] += m[c * 4 + i] * static_cast<int8_t>(a[c * 4 + i]);
  }
  return part;
}

template <int S>
inline Sums widened(Sums part) {
  return part;
}

#include "matrix_groups.inl"

}  // namespace

}  // namespace matrix_portable

constexpr MatrixKernels kMatrixPortable = {
    matrix_portable::kLanes,         matrix_portable::pack,         matrix_portable::multiply,
    matrix_portable::exponentials,   matrix_portable::kCodeLanes,   matrix_portable::pack_codes,
    matrix_portable::multiply_codes, matrix_portable::sum_codes,    matrix_portable::scale_sums,
    matrix_portable::multiply_slots, matrix_portable::unpack_slots, matrix_portable::arrange_groups,
    matrix_portable::multiply_groups};

}  // namespace bitorch
