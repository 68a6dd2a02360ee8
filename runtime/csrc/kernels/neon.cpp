// Kernels for 64-bit ARM without the dotprod extension (Cortex-A53, A57, A72).
//
// Products of bytes: signed bytes times signed bytes, added in 16 bits for as many steps as can be exact, then in 32.
// Codes of 8 bits do not fit in a signed byte, so they enter as q - 128, and 128 * (sum of the weights) is added:
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
namespace neon {
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
  for (int s = 0; s < steps; ++s) sum = vpadalq_s16(sum, vpaddlq_s8(vld1q_s8(w + s * kBlock * 4)));
  return vshlq_n_s32(sum, 7);
}

template <bool eight_bits>
static inline int8x16_t broadcast_codes(const uint8_t* from) {
  const uint8x16_t codes = vreinterpretq_u8_u32(broadcast_u32(from));
  return vreinterpretq_s8_u8(eight_bits ? veorq_u8(codes, vdupq_n_u8(0x80)) : codes);
}

// Eight channels at a time, not sixteen: the products of four bytes of a channel fill four lanes of 16 bits, so the
// sums of four pixels and eight channels take the 16 registers.
constexpr int kPairs = 2;  // vectors of four channels

// Small codes: the products of many steps fit in 16 bits. 8 multiply-adds for 64 products, and nothing else but loads.
// Even and odd channels of the sums of 16 bits lie in two vectors of each four channels, four lanes per channel.
template <int P, bool eight_bits>
static inline void add_small(const DotTile* t, const uint8_t* const* x, const int8_t* w, int exact_steps,
                             int32_t* tile) {
  for (int start = 0; start < t->steps; start += exact_steps) {
    const int end = t->steps - start < exact_steps ? t->steps : start + exact_steps;
    int16x8_t low[P][kPairs], high[P][kPairs];
    for (int p = 0; p < P; ++p) {
      for (int v = 0; v < kPairs; ++v) low[p][v] = high[p][v] = vdupq_n_s16(0);
    }
    for (int s = start; s < end; ++s) {
      int8x16_t weights[kPairs];
      for (int v = 0; v < kPairs; ++v) weights[v] = vld1q_s8(w + s * kBlock * 4 + v * 16);
      for (int p = 0; p < P; ++p) {
        const int8x16_t codes = broadcast_codes<eight_bits>(x[p] + t->step[s]);
        for (int v = 0; v < kPairs; ++v) {
          low[p][v] = vmlal_s8(low[p][v], vget_low_s8(weights[v]), vget_low_s8(codes));
          high[p][v] = vmlal_high_s8(high[p][v], weights[v], codes);
        }
      }
    }
    for (int p = 0; p < P; ++p) {
      for (int v = 0; v < kPairs; ++v) {
        int32_t* sum = tile + p * kBlock + v * 4;
        const int32x4_t four = vpaddq_s32(vpaddlq_s16(low[p][v]), vpaddlq_s16(high[p][v]));
        vst1q_s32(sum, vaddq_s32(vld1q_s32(sum), four));
      }
    }
  }
}

// Large codes: the products of one step, or of two, are added in 32 bits at once: for 64 products 8 multiplications and
// 8 widening additions, or 4 where two steps share them.
template <int P, bool eight_bits, bool two_steps>
static inline void add_large(const DotTile* t, const uint8_t* const* x, const int8_t* w, int32_t* tile) {
  int32x4_t low[P][kPairs], high[P][kPairs];
  for (int p = 0; p < P; ++p) {
    for (int v = 0; v < kPairs; ++v) low[p][v] = high[p][v] = vdupq_n_s32(0);
  }
  int s = 0;
  for (; two_steps && s + 2 <= t->steps; s += 2) {
    int8x16_t weights[2][kPairs];
    for (int v = 0; v < kPairs; ++v) {
      weights[0][v] = vld1q_s8(w + s * kBlock * 4 + v * 16);
      weights[1][v] = vld1q_s8(w + (s + 1) * kBlock * 4 + v * 16);
    }
    for (int p = 0; p < P; ++p) {
      const int8x16_t first = broadcast_codes<eight_bits>(x[p] + t->step[s]);
      const int8x16_t second = broadcast_codes<eight_bits>(x[p] + t->step[s + 1]);
      for (int v = 0; v < kPairs; ++v) {
        const int16x8_t a = vmull_s8(vget_low_s8(weights[0][v]), vget_low_s8(first));
        const int16x8_t b = vmull_high_s8(weights[0][v], first);
        low[p][v] = vpadalq_s16(low[p][v], vmlal_s8(a, vget_low_s8(weights[1][v]), vget_low_s8(second)));
        high[p][v] = vpadalq_s16(high[p][v], vmlal_high_s8(b, weights[1][v], second));
      }
    }
  }
  for (; s < t->steps; ++s) {
    for (int p = 0; p < P; ++p) {
      const int8x16_t codes = broadcast_codes<eight_bits>(x[p] + t->step[s]);
      for (int v = 0; v < kPairs; ++v) {
        const int8x16_t weights = vld1q_s8(w + s * kBlock * 4 + v * 16);
        low[p][v] = vpadalq_s16(low[p][v], vmull_s8(vget_low_s8(weights), vget_low_s8(codes)));
        high[p][v] = vpadalq_s16(high[p][v], vmull_high_s8(weights, codes));
      }
    }
  }
  for (int p = 0; p < P; ++p) {
    for (int v = 0; v < kPairs; ++v) {
      int32_t* sum = tile + p * kBlock + v * 4;
      vst1q_s32(sum, vaddq_s32(vld1q_s32(sum), vpaddq_s32(low[p][v], high[p][v])));
    }
  }
}

template <bool eight_bits>
struct Bytes {
  // How many products |w| * |x| fit in an int16. |w| <= 2^weight_bits - 1, and 128 at 8 bits, where codes of weights
  // are centred by the caller; |x| <= 2^activation_bits - 1, and 128 at 8 bits, where they are centred here.
  static inline int exact_steps(const DotTile* t) {
    const int w = t->weight_bits == 8 ? 128 : (1 << t->weight_bits) - 1;
    const int x = eight_bits ? 128 : (1 << t->activation_bits) - 1;
    return 32767 / (w * x);
  }

  template <int P>
  static inline void run(const DotTile* t, int pixel, int channel, void* out) {
    constexpr int kFewSteps = 4;  // up to here, sums of 32 bits in registers are cheaper than in memory
    const int steps = exact_steps(t);
    for (int c = channel; c < channel + kHalf; c += kPairs * 4) {
      int32_t* tile = static_cast<int32_t*>(out) + pixel * kBlock + c;
      const int8_t* w = static_cast<const int8_t*>(t->weights) + c * 4;
      for (int v = 0; v < kPairs; ++v) {
        const int32x4_t start = eight_bits ? weight_sums_times_128(w + v * 16, t->steps) : vdupq_n_s32(0);
        for (int p = 0; p < P; ++p) vst1q_s32(tile + p * kBlock + v * 4, start);
      }
      if (steps > kFewSteps) {
        add_small<P, eight_bits>(t, t->pixel + pixel, w, steps, tile);
      } else if (steps >= 2) {
        add_large<P, eight_bits, true>(t, t->pixel + pixel, w, tile);
      } else {
        add_large<P, eight_bits, false>(t, t->pixel + pixel, w, tile);
      }
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

static constexpr FusedKernel kFusedDepthwise = {"depthwise32 neon", dw_cost,          dw_prepared_bytes,
                                                dw_prepare,         dw_scratch_bytes, dw_run};

static constexpr const FusedKernel* kFused[] = {&kFusedDepthwise};

static constexpr KernelTable table() {
  using namespace letters;
  constexpr DotNames kNames = {"popcount neon", "bytes neon", "depthwise neon", "float neon", "depthwise float neon"};
  KernelTable t = neon_table("neon", kNames, dot_bytes);
  // Vector instructions per 128 products, by count, not by measurement: popcount 3 (and, count, add) for each pair of
  // planes; bytes 16 multiplications and up to 16 widening additions. So popcount up to 5 pairs.
  set_choices(&t, {{P, P, P, P, P, B, B, B},
                   {P, P, B, B, B, B, B, B},
                   {P, B, B, B, B, B, B, B},
                   {P, B, B, B, B, B, B, B},
                   {P, B, B, B, B, B, B, B},
                   {B, B, B, B, B, B, B, B},
                   {B, B, B, B, B, B, B, B},
                   {B, B, B, B, B, B, B, B}});
  set_fused(&t, kFused);
  t.matrices = &kMatrixNeon;
  return t;
}

}  // namespace
}  // namespace neon

constexpr KernelTable kNeonKernels = neon::table();

}  // namespace bitorch
