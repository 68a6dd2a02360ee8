// Products of matrices, of floats and of codes, and attention, with NEON: 8 x 3 sums, 3 vectors and a broadcast of 32
// registers.
#include <arm_neon.h>

#include <cstdint>

#include "../core/matrix_kernels.h"

namespace bitorch {

namespace matrix_neon {

namespace {

constexpr int kLanes = 4, kMostRows = 8, kMostVectors = 3;
typedef float Vector __attribute__((vector_size(16)));

inline Vector multiply_add(Vector a, Vector b, Vector c) { return vfmaq_f32(c, a, b); }

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
#ifdef BITORCH_DOTPROD
  return reinterpret_cast<Sums>(vdotq_u32(reinterpret_cast<uint32x4_t>(sums), left, right));
#else
  const uint32x4_t low = vpaddlq_u16(vmull_u8(vget_low_u8(left), vget_low_u8(right)));
  const uint32x4_t high = vpaddlq_u16(vmull_u8(vget_high_u8(left), vget_high_u8(right)));
  return sums + reinterpret_cast<Sums>(vpaddq_u32(low, high));
#endif
}

#include "matrix_codes.inl"

typedef uint32_t Words __attribute__((vector_size(16)));
constexpr int kTableBits = 0;
inline Vector from_table(Vector table, Words) { return table; }

#include "matrix_slots.inl"

constexpr int kGroupRows = 4, kRowChains = 1;
constexpr uint32_t kSlotMinus = 128;

template <int S>
constexpr int64_t kPartWords = int64_t{1} << 62;

template <int S, bool kWide>
inline Sums add_codes(Sums part, Bytes m, Bytes a) {
  const int8x16_t codes = reinterpret_cast<int8x16_t>(m), bytes = reinterpret_cast<int8x16_t>(a);
#ifdef BITORCH_DOTPROD
  return reinterpret_cast<Sums>(vdotq_s32(reinterpret_cast<int32x4_t>(part), codes, bytes));
#else
  const int32x4_t low = vpaddlq_s16(vmull_s8(vget_low_s8(codes), vget_low_s8(bytes)));
  const int32x4_t high = vpaddlq_s16(vmull_s8(vget_high_s8(codes), vget_high_s8(bytes)));
  return part + reinterpret_cast<Sums>(vpaddq_s32(low, high));
#endif
}

template <int S>
inline Sums widened(Sums part) {
  return part;
}

#include "matrix_groups.inl"

constexpr MatrixKernels kKernels = {kLanes,       pack,           multiply,       exponentials, kCodeLanes,
                                    pack_codes,   multiply_codes, sum_codes,      scale_sums,   multiply_slots,
                                    unpack_slots, arrange_groups, multiply_groups};

}  // namespace

}  // namespace matrix_neon

}  // namespace bitorch
