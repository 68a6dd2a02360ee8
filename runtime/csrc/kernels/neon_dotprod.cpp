// Kernels for 64-bit ARM with the dotprod extension (Cortex-A55, A76, Neoverse N1, Apple M1 and later).
//
// SDOT multiplies signed bytes by signed bytes. Codes of up to 7 bits are signed bytes as they are; codes of 8 bits
// enter as q - 128, and 128 * (sum of the weights) is added:
//   sum w * q = sum w * (q - 128) + 128 * sum w,
// which is exact modulo 2^32, and holds for surplus bytes too, since their weights are 0.
#include <arm_neon.h>

#include "../core/function_kernels.h"
#include "../core/kernels.h"
#include "../core/matrix_kernels.h"
#include "../core/norm_kernels.h"
#include "../core/pair_kernels.h"
#include "../core/resize_kernels.h"

namespace bitorch {

extern const FusedKernel kFusedLinearNeon;

namespace neon_dotprod {
namespace {

#include "generic.inl"
#include "neon.inl"

#include "depthwise_kinds.inl"

#include "neon_depthwise.inl"

#include "depthwise_blocks.inl"

#include "neon_depthwise_cost.inl"

// 128 * (sum of the weights of four channels)
static inline int32x4_t weight_sums_times_128(const int8_t* w, int steps) {
  int32x4_t sum = vdupq_n_s32(0);
  for (int s = 0; s < steps; ++s) sum = vdotq_s32(sum, vld1q_s8(w + s * kBlock * 4), vdupq_n_s8(1));
  return vshlq_n_s32(sum, 7);
}

template <bool eight_bits>
static inline int8x16_t as_signed(uint8x16_t codes) {
  return vreinterpretq_s8_u8(eight_bits ? veorq_u8(codes, vdupq_n_u8(0x80)) : codes);
}

// SDOT multiplies the four bytes of each lane by one dword of a pixel, any of the four in its register: where four
// steps follow each other in memory, as input channels do, 4 loads of pixels and 16 of weights feed 64 SDOTs of 16
// products. 16 sums that do not wait for each other hide its latency.
template <bool eight_bits>
struct Bytes {
  template <int P, int lane>
  static inline void step(int32x4_t (&sum)[P][kVectors], const int8_t* w, const int8x16_t (&x)[P]) {
    for (int v = 0; v < kVectors; ++v) {
      const int8x16_t weights = vld1q_s8(w + lane * kBlock * 4 + v * 16);
      for (int p = 0; p < P; ++p) sum[p][v] = vdotq_laneq_s32(sum[p][v], weights, x[p], lane);
    }
  }

  template <int P>
  static inline void run(const DotTile* t, int pixel, int channel, void* out) {
    int32_t* tile = static_cast<int32_t*>(out) + pixel * kBlock + channel;
    const int8_t* w = static_cast<const int8_t*>(t->weights) + channel * 4;
    const uint8_t* const* from = t->pixel + pixel;
    int32x4_t sum[P][kVectors];
    for (int v = 0; v < kVectors; ++v) {
      const int32x4_t start = eight_bits ? weight_sums_times_128(w + v * 16, t->steps) : vdupq_n_s32(0);
      for (int p = 0; p < P; ++p) sum[p][v] = start;
    }
    for (int s = 0; s < t->steps;) {
      int8x16_t x[P];
      if (s + 4 <= t->steps && four_in_a_row(t->step + s)) {
        for (int p = 0; p < P; ++p) x[p] = as_signed<eight_bits>(vld1q_u8(from[p] + t->step[s]));
        step<P, 0>(sum, w, x);
        step<P, 1>(sum, w, x);
        step<P, 2>(sum, w, x);
        step<P, 3>(sum, w, x);
        s += 4;
        w += 4 * kBlock * 4;
      } else {
        for (int p = 0; p < P; ++p) {
          const uint8x8_t four = vreinterpret_u8_f32(first_lane(from[p] + t->step[s]));
          x[p] = as_signed<eight_bits>(vcombine_u8(four, vdup_n_u8(0)));
        }
        step<P, 0>(sum, w, x);
        s += 1;
        w += kBlock * 4;
      }
    }
    for (int p = 0; p < P; ++p) {
      for (int v = 0; v < kVectors; ++v) vst1q_s32(tile + p * kBlock + v * 4, sum[p][v]);
    }
  }
};

static void dot_bytes(const DotTile* t, void* tile) {
  if (t->activation_bits == 8) {
    for_each_group<Bytes<true>>(t, tile);
  } else {
    for_each_group<Bytes<false>>(t, tile);
  }
}

static constexpr FusedKernel kFusedDepthwise = {"depthwise32 neon-dotprod", dw_cost, dw_prepared_bytes, dw_prepare,
                                                dw_scratch_bytes,           dw_run};

static constexpr const FusedKernel* kFused[] = {
    &kFusedLinearNeon,
    &kFusedDepthwise,
};

static constexpr KernelTable table() {
  using namespace letters;
  constexpr DotNames kNames = {"popcount neon-dotprod", "bytes neon-dotprod", "depthwise neon-dotprod",
                               "float neon-dotprod", "depthwise float neon-dotprod"};
  KernelTable t = neon_table("neon-dotprod", kNames, dot_bytes);
  // Vector instructions per 128 products, by count, not by measurement: popcount 3 (and, count, add) for each pair of
  // planes; bytes 8. So popcount up to 2 pairs.
  set_choices(&t, {{P, P, B, B, B, B, B, B},
                   {P, B, B, B, B, B, B, B},
                   {B, B, B, B, B, B, B, B},
                   {B, B, B, B, B, B, B, B},
                   {B, B, B, B, B, B, B, B},
                   {B, B, B, B, B, B, B, B},
                   {B, B, B, B, B, B, B, B},
                   {B, B, B, B, B, B, B, B}});
  set_fused(&t, kFused);
  t.matrices = &kMatrixNeonDotprod;
  return t;
}

}  // namespace
}  // namespace neon_dotprod

constexpr KernelTable kNeonDotprodKernels = neon_dotprod::table();

}  // namespace bitorch
