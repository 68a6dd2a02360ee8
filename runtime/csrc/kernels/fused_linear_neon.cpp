// Linear layers of few pixels with ARM's dotprod extension: UDOT on fields of 1, 2, 4 and 8 bits. Codes in bytes in;
// codes, floats or both out.
//
// UDOT multiplies bytes without sign, so fields are taken out of their bytes (fused_linear.inl) as m, and a field of 8
// bits is the byte. 16 products are a shift, an and and a multiply-add; several pixels share the first two. The four
// codes of a lane are one of four in a vector of 16 codes.
#include <arm_neon.h>

#include <cstdint>

#include "../core/fused.h"
#include "../core/kernels.h"

namespace bitorch {

namespace fused_linear_neon {

// Members of classes are inline, and so emitted weakly wherever they are not inlined, unless their class is local.
namespace {

#include "fused_loops.inl"

#include "fused_plain.inl"

#include "fused_linear.inl"

#include "fused_linear_pixels.inl"

#include "fused_linear_cost.inl"

constexpr int kMostField = 8;
constexpr int kMostPixels = 4;  // at a time

// Quarter h, 4 channels, of field f of the four input channels s.
template <int field, int s, int f, int h>
static inline __attribute__((always_inline)) uint8x16_t field_of(const uint8_t* group) {
  constexpr int bit = (4 * s + f) * field, shift = bit % 8;
  uint8x16_t word = vld1q_u8(group + bit / 8 * 64 + 16 * h);
  if constexpr (shift != 0) word = vshrq_n_u8(word, shift);
  if constexpr (shift + field < 8) word = vandq_u8(word, vdupq_n_u8((1 << field) - 1));
  return word;
}

static inline void store_lanes(int32_t* to, uint32x4_t lanes) { vst1q_s32(to, vreinterpretq_s32_u32(lanes)); }

// All four quarters at once, so that the weights are met once.
template <int field>
static __attribute__((noinline)) void one_pixel(const uint8_t* x, const uint8_t* weights, int64_t groups,
                                                int32_t* sums) {
  uint32x4_t sum[16];
  For<0, 16>::each([&](auto i) __attribute__((always_inline)) { sum[i] = vdupq_n_u32(0); });
  for (int64_t g = 0; g < groups; ++g, x += kLinearGroup, weights += 128 * field) {
    const uint8x16_t codes = vld1q_u8(x);
    For<0, 4>::each([&](auto s) __attribute__((always_inline)) {
      For<0, 16>::each([&](auto i) __attribute__((always_inline)) {
        constexpr int step = decltype(s)::value, f = decltype(i)::value / 4, h = decltype(i)::value % 4;
        const uint8x16_t w = field_of<field, step, f, h>(weights);  // apart: to Clang this instruction is a macro
        sum[i] = vdotq_laneq_u32(sum[i], w, codes, step);
      });
    });
  }
  For<0, 16>::each([&](auto i) __attribute__((always_inline)) { store_lanes(sums + 4 * i, sum[i]); });
}

// A quarter of the channels of P pixels.
template <int field, int P, int h>
static inline void quarter_of_pixels(const uint8_t* const* x, const uint8_t* weights, int64_t groups, int32_t* sums) {
  uint32x4_t sum[4 * P];
  For<0, 4 * P>::each([&](auto i) __attribute__((always_inline)) { sum[i] = vdupq_n_u32(0); });
  for (int64_t g = 0; g < groups; ++g, weights += 128 * field) {
    uint8x16_t codes[P];
    For<0, P>::each([&](auto p) __attribute__((always_inline)) { codes[p] = vld1q_u8(x[p] + g * kLinearGroup); });
    For<0, 4>::each([&](auto s) __attribute__((always_inline)) {
      For<0, 4>::each([&](auto f) __attribute__((always_inline)) {
        constexpr int step = decltype(s)::value;
        const uint8x16_t w = field_of<field, step, decltype(f)::value, h>(weights);
        For<0, P>::each([&](auto p) __attribute__((always_inline)) {
          sum[4 * p + f] = vdotq_laneq_u32(sum[4 * p + f], w, codes[p], step);
        });
      });
    });
  }
  For<0, 4 * P>::each([&](auto i) __attribute__((always_inline)) {
    store_lanes(sums + i / 4 * kFusedChannels + i % 4 * 16 + 4 * h, sum[i]);
  });
}

template <int field, int P>
static __attribute__((noinline)) void some_pixels(const uint8_t* const* x, const uint8_t* weights, int64_t groups,
                                                  int32_t* sums) {
  quarter_of_pixels<field, P, 0>(x, weights, groups, sums);
  quarter_of_pixels<field, P, 1>(x, weights, groups, sums);
  quarter_of_pixels<field, P, 2>(x, weights, groups, sums);
  quarter_of_pixels<field, P, 3>(x, weights, groups, sums);
}

template <int field>
static void multiply(const uint8_t* const* x, int pixels, const uint8_t* weights, int64_t groups, int32_t* sums) {
  if (pixels == 1) return one_pixel<field>(x[0], weights, groups, sums);
  if (pixels == 2) return some_pixels<field, 2>(x, weights, groups, sums);
  if (pixels == 3) return some_pixels<field, 3>(x, weights, groups, sums);
  some_pixels<field, 4>(x, weights, groups, sums);
}

#include "fused_linear_plain.inl"

// 16 products are a multiply-add for each pixel and up to 2 operations that pixels share, two a cycle.
static double cost(const FusedSpec* spec, Machine machine) {
  if (!is_linear(spec)) return -1;
  const LinearMachine& on = linear_machine(machine);
  const double pixels = static_cast<double>(spec->height) * spec->width;
  const double shared = pixels < kMostPixels ? 1 : pixels / kMostPixels;
  const double vectors = static_cast<double>(linear_blocks(spec) * linear_groups(spec)) * 64;
  const double products = vectors * on.cycle / 2 * (pixels + (spec->weight_bits > 4 ? 0 : 1.8) * shared);
  const double weights = weight_nanoseconds(spec, on);
  return (products > weights ? products : weights) + 3 * linear_rest(spec, on, pixels);
}

}  // namespace

}  // namespace fused_linear_neon

extern const FusedKernel kFusedLinearNeon = {"linear neon-dotprod",
                                             fused_linear_neon::cost,
                                             fused_linear_neon::linear_bytes,
                                             fused_linear_neon::prepare,
                                             fused_linear_neon::scratch_bytes,
                                             fused_linear_neon::run,
                                             true};

}  // namespace bitorch
