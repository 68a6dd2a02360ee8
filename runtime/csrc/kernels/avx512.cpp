// AVX-512 with BW, VL, DQ and VNNI, without a population count: Cascade Lake.
//
// kPopcount: two nibble look-ups per 64 bytes; counts gather in bytes, at most 8 a step, for up to 31 steps (8 * 31 =
// 248 < 256), then vpdpbusd adds the four bytes of a lane to its int32. kBytes: vpdpbusd into int32. Sums are exact
// modulo 2^32 and fit in 31 bits as long as inputs_per_output * (2^W - 1) * (2^A - 1) < 2^31, which the caller checks.

// GCC 12 takes the undefined operands inside its own AVX-512 intrinsics for uninitialised variables (GCC bug 105593).
#pragma GCC diagnostic ignored "-Wmaybe-uninitialized"
#pragma GCC diagnostic ignored "-Wuninitialized"

#include <immintrin.h>

#include <cstdint>

#include "../core/function_kernels.h"
#include "../core/kernels.h"
#include "../core/matrix_kernels.h"
#include "../core/norm_kernels.h"
#include "../core/pair_kernels.h"
#include "../core/resize_kernels.h"

namespace bitorch {

extern const FusedKernel kFusedBytesAvx512;
extern const FusedKernel kFusedDepthwise8;
extern const FusedKernel kFusedDepthwise4;
extern const FusedKernel kFusedGrouped;
extern const FusedKernel kFusedLinear;
extern const FusedKernel kFusedStem;

namespace avx512 {

// Members of classes are inline, and so emitted weakly wherever they are not inlined, unless their class is local.
namespace {

#include "generic.inl"

#include "avx512.inl"

constexpr int kByteSteps = 31;

// The ones of each byte, as those of its nibbles: six operations, two of them shuffles, where VPOPCNTDQ has one.
static inline __m512i count_bytes(__m512i x) {
  const __m512i counts = _mm512_broadcast_i32x4(_mm_setr_epi8(0, 1, 1, 2, 1, 2, 2, 3, 1, 2, 2, 3, 2, 3, 3, 4));
  const __m512i nibble = _mm512_set1_epi8(15);
  const __m512i low = _mm512_shuffle_epi8(counts, _mm512_and_si512(x, nibble));
  const __m512i high = _mm512_shuffle_epi8(counts, _mm512_and_si512(_mm512_srli_epi16(x, 4), nibble));
  return _mm512_add_epi8(low, high);
}

// tile += popcount(weights & plane) << shift over at most kByteSteps steps.
template <int P, int V>
static inline void add_steps(const DotTile* t, int begin, const uint8_t* w, int64_t plane, int first, int count,
                             int shift, int32_t* tile) {
  const uint8_t* x[P];
  __m512i sum[P][V];
  for (int p = 0; p < P; ++p) {
    x[p] = t->pixel[begin + p] + plane;
    for (int v = 0; v < V; ++v) sum[p][v] = _mm512_setzero_si512();
  }
  w += static_cast<int64_t>(first) * 128;
  for (int s = first; s < first + count; ++s, w += 128) {
    const int64_t at = t->step[s];
#pragma GCC unroll 8
    for (int p = 0; p < P; ++p) {
      const __m512i word = broadcast_step(x[p] + at);
#pragma GCC unroll 2
      for (int v = 0; v < V; ++v) {
        const __m512i both = _mm512_and_si512(word, _mm512_load_si512(w + 64 * v));
        sum[p][v] = _mm512_add_epi8(sum[p][v], count_bytes(both));
      }
    }
  }
  for (int p = 0; p < P; ++p) {
    for (int v = 0; v < V; ++v) {
      const __m512i lanes = _mm512_dpbusd_epi32(_mm512_setzero_si512(), sum[p][v], _mm512_set1_epi8(1));
      int32_t* to = tile + p * kBlock + v * kLanes;
      _mm512_store_si512(to, _mm512_add_epi32(load_tile(to), _mm512_sll_epi32(lanes, _mm_cvtsi32_si128(shift))));
    }
  }
}

struct Popcount {
  template <int P, int V>
  static void run(const DotTile* t, int begin, int32_t* tile) {
    tile += begin * kBlock;
    for (int p = 0; p < P; ++p) {
      for (int v = 0; v < V; ++v) _mm512_store_si512(tile + p * kBlock + v * kLanes, _mm512_setzero_si512());
    }
    const uint8_t* weights = static_cast<const uint8_t*>(t->weights);
    for (int j = 0; j < t->weight_bits; ++j) {
      const uint8_t* w = weights + j * static_cast<int64_t>(t->steps) * 128;
      for (int i = 0; i < t->activation_bits; ++i) {
        for (int s = 0; s < t->steps; s += kByteSteps) {
          const int count = t->steps - s < kByteSteps ? t->steps - s : kByteSteps;
          add_steps<P, V>(t, begin, w, i * t->plane_bytes, s, count, i + j, tile);
        }
      }
    }
  }
};

static constexpr const FusedKernel* kFused[] = {
    &kFusedBytesAvx512, &kFusedDepthwise8, &kFusedDepthwise4, &kFusedGrouped, &kFusedLinear, &kFusedStem,
};

static constexpr KernelTable table() {
  using namespace letters;
  KernelTable t = avx512_table("avx512");
  set_dot(&t, kPopcount, "popcount avx512", dot_by_groups<Popcount>, kMaxTilePixels);
  // A plane product of 512 bits takes eight vector instructions (and, six to count, add), 4 cycles where two issue at
  // once, so a popcount costs 4 * W * A cycles per 512 products against 4 to 8 of vpdpbusd.
  set_choices(&t, {{P, B, B, B, B, B, B, B},
                   {B, B, B, B, B, B, B, B},
                   {B, B, B, B, B, B, B, B},
                   {B, B, B, B, B, B, B, B},
                   {B, B, B, B, B, B, B, B},
                   {B, B, B, B, B, B, B, B},
                   {B, B, B, B, B, B, B, B},
                   {B, B, B, B, B, B, B, B}});
  set_fused(&t, kFused);
  return t;
}

}  // namespace

}  // namespace avx512

constexpr KernelTable kAvx512Kernels = avx512::table();

}  // namespace bitorch
