// AVX-512 with VPOPCNTDQ, BITALG, VBMI and VNNI: Ice Lake and later, Zen 4 and later.
//
// kPopcount: int32 accumulators per channel, walked from the highest sum of plane indices down, doubling in between
// (Horner), so that all plane pairs share one set of registers. kBytes: vpdpbusd into int32. Neither saturates; sums
// are exact modulo 2^32 and fit in 31 bits as long as inputs_per_output * (2^W - 1) * (2^A - 1) < 2^31, which the
// caller checks.

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

extern const FusedKernel kFusedAmx;
extern const FusedKernel kFusedLinearAmx;
extern const FusedKernel kFusedStemAmx;
extern const FusedKernel kFusedBytesAvx512;
extern const FusedKernel kFusedPopcount8;
extern const FusedKernel kFusedPopcount16;
extern const FusedKernel kFusedPopcount32;
extern const FusedKernel kFusedPopcountFew;
extern const FusedKernel kFusedTables9;
extern const FusedKernel kFusedDepthwisePlanes;
extern const FusedKernel kFusedDepthwise8;
extern const FusedKernel kFusedDepthwise4;
extern const FusedKernel kFusedGrouped;
extern const FusedKernel kFusedLinear;
extern const FusedKernel kFusedTables16;
extern const FusedKernel kFusedStem;

namespace avx512_vpopcntdq {

// Members of classes are inline, and so emitted weakly wherever they are not inlined, unless their class is local.
namespace {

#include "generic.inl"

#include "avx512.inl"

// sum += popcount(weights & plane) over all steps, for P pixels x V vectors of channels.
//
// One step is 32 input channels of one weight plane and one activation plane: 32 bits of a pixel, broadcast, and with a
// dword per output channel.
//
//   weights [plane j][step][channel]   dword: 32 input channels        w  10110...  (one lane of 16)
//   pixel   [plane i][step]            dword: the same 32 channels     x  11010...  (the same in every lane)
//                                                          popcount(w & x) = products of 1 by 1 that are 1
//
// 512 products are 3 operations: and, count, add. Zen 4 starts two 512-bit operations a cycle, of which one may count:
// 1.5 cycles, 341 products of one bit a cycle, and W * A times that for W x A bits. Fewer operations there are not:
// adding several products by carry-save before they are counted replaces a count and an addition by two vpternlog,
// again 3. 8 x 2 is 64 instructions for 16 products, 48 of them those three, and its 10 loads are no bound: 7 x 2 was
// measured at 97 % of 341 in layers, without what follows the sums.
template <int P, int V>
static inline void add_plane_pair(const DotTile* t, int begin, const uint8_t* w, int64_t plane, __m512i (&sum)[P][V]) {
  const uint8_t* x[P];
  for (int p = 0; p < P; ++p) x[p] = t->pixel[begin + p] + plane;
  const int32_t* step = t->step;
  const int32_t* const end = step + t->steps;
  for (; step != end; ++step, w += 128) {
    const int64_t at = *step;
#pragma GCC unroll 8
    for (int p = 0; p < P; ++p) {
      const __m512i word = broadcast_step(x[p] + at);
#pragma GCC unroll 2
      for (int v = 0; v < V; ++v) {
        const __m512i both = _mm512_and_si512(word, _mm512_load_si512(w + 64 * v));
        sum[p][v] = _mm512_add_epi32(sum[p][v], _mm512_popcnt_epi32(both));
      }
    }
  }
}

struct Popcount {
  template <int P, int V>
  static void run(const DotTile* t, int begin, int32_t* tile) {
    tile += begin * kBlock;
    const uint8_t* weights = static_cast<const uint8_t*>(t->weights);
    const int64_t weight_plane = static_cast<int64_t>(t->steps) * 128;
    __m512i sum[P][V];
#pragma GCC unroll 8
    for (int p = 0; p < P; ++p) {
#pragma GCC unroll 2
      for (int v = 0; v < V; ++v) sum[p][v] = _mm512_setzero_si512();
    }
    const int top = t->weight_bits + t->activation_bits - 2;
    for (int s = top; s >= 0; --s) {
      if (s != top) {
#pragma GCC unroll 8
        for (int p = 0; p < P; ++p) {
#pragma GCC unroll 2
          for (int v = 0; v < V; ++v) sum[p][v] = _mm512_add_epi32(sum[p][v], sum[p][v]);
        }
      }
      const int first = s < t->activation_bits ? 0 : s - t->activation_bits + 1;
      for (int j = first; j <= s && j < t->weight_bits; ++j) {
        add_plane_pair<P, V>(t, begin, weights + j * weight_plane, (s - j) * t->plane_bytes, sum);
      }
    }
#pragma GCC unroll 8
    for (int p = 0; p < P; ++p) {
#pragma GCC unroll 2
      for (int v = 0; v < V; ++v) _mm512_store_si512(tile + p * kBlock + v * kLanes, sum[p][v]);
    }
  }
};

// Narrow pixels side by side, 16 at a time: 1, 2, 4 or 8 bytes of each plane. Wider ones count 8 bytes at a time.
template <int bytes>
static inline __m512i plane_counts(const uint8_t* from, __mmask16 mask) {
  if (bytes == 1) return _mm512_popcnt_epi32(_mm512_cvtepu8_epi32(_mm_maskz_loadu_epi8(mask, from)));
  if (bytes == 2) return _mm512_popcnt_epi32(_mm512_cvtepu16_epi32(_mm256_maskz_loadu_epi16(mask, from)));
  if (bytes == 4) return _mm512_popcnt_epi32(_mm512_maskz_loadu_epi32(mask, from));
  const __m512i low = _mm512_popcnt_epi64(_mm512_maskz_loadu_epi64(static_cast<__mmask8>(mask), from));
  const __m512i high = _mm512_popcnt_epi64(_mm512_maskz_loadu_epi64(static_cast<__mmask8>(mask >> 8), from + 64));
  return _mm512_inserti64x4(_mm512_castsi256_si512(_mm512_cvtepi64_epi32(low)), _mm512_cvtepi64_epi32(high), 1);
}

template <int bytes>
static void narrow_pixel_sums(const PixelSums* t) {
  for (int32_t x = 0; x < t->pixels; x += kLanes) {
    const __mmask16 mask = lane_mask(t->pixels - x);
    __m512i sum = _mm512_setzero_si512();
    for (int i = t->bits - 1; i >= 0; --i) {
      sum = _mm512_add_epi32(_mm512_add_epi32(sum, sum),
                             plane_counts<bytes>(t->row + x * bytes + i * t->plane_bytes, mask));
    }
    _mm512_mask_storeu_epi32(t->sums + x, mask, sum);
  }
}

static void all_pixel_sums(const PixelSums* t) {
  if (t->planes != 0 && t->bytes == t->pixel_bytes) {
    switch (t->bytes) {
      case 1:
        return narrow_pixel_sums<1>(t);
      case 2:
        return narrow_pixel_sums<2>(t);
      case 4:
        return narrow_pixel_sums<4>(t);
      case 8:
        return narrow_pixel_sums<8>(t);
    }
  }
  pixel_sums(t);
}

#include "avx512_tables.inl"

// As take_floats.
static void take_bytes(const TakeRow* t) {
  for (int64_t g = 0; g < t->groups; ++g) {
    const TakeWindows* const w = t->windows + g;
    const __m512i index = _mm512_loadu_si512(w->index);
    const uint8_t* in = t->in;
    uint8_t* out = t->out + g * 64;
    for (int64_t p = 0; p < t->pixels; ++p, in += t->in_step, out += t->out_step) {
      const __m512i low = _mm512_maskz_loadu_epi8(w->first_channels, in + w->first);
      const __m512i high = _mm512_maskz_loadu_epi8(w->second_channels, in + w->second);
      _mm512_mask_storeu_epi8(out, w->taken, _mm512_permutex2var_epi8(low, index, high));
    }
  }
}

// Those of avx512-amx alone come first.
// clang-format off
static constexpr const FusedKernel* kFused[] = {
    &kFusedAmx,
    &kFusedLinearAmx,
    &kFusedStemAmx,
    &kFusedBytesAvx512,
    &kFusedPopcount8,
    &kFusedPopcount16,
    &kFusedPopcount32,
    &kFusedPopcountFew,
    &kFusedTables9,
    &kFusedDepthwisePlanes,
    &kFusedDepthwise8,
    &kFusedDepthwise4,
    &kFusedGrouped,
    &kFusedLinear,
    &kFusedTables16,
    &kFusedStem,
};
// clang-format on
constexpr int kAmxKernels = 3;

static constexpr KernelTable table() {
  using namespace letters;
  KernelTable t = avx512_table("avx512-vpopcntdq");
  set_dot(&t, kPopcount, "popcount avx512-vpopcntdq", dot_by_groups<Popcount>, kMaxTilePixels);
  set_dot(&t, kTables, "tables avx512-vbmi", dot_tables, kMaxTilePixels);
  t.pixel_sums = all_pixel_sums;
  t.rows.take_bytes = take_bytes;
  set_tables(&t);
  // Cycles per 512 products on Zen 4: popcount 1.5 * W * A; bytes 8; tables 1.33 * W and the moves to 16 bits, which
  // take another 11, 25 and 75 % for A = 2, 3, 4. Measured, whole 3x3 layers of 256 channels, e12 products per
  // second: W1A2 0.57 popcount, 0.77 tables; W2A1 0.57, 0.45; W2A2 0.30, 0.43; W3A3 0.29 tables, 0.22 bytes; W4A2
  // 0.22, 0.23.
  set_choices(&t, {{P, T, T, T, B, B, B, B},
                   {P, T, T, T, B, B, B, B},
                   {P, T, T, T, B, B, B, B},
                   {P, B, B, B, B, B, B, B},
                   {B, B, B, B, B, B, B, B},
                   {B, B, B, B, B, B, B, B},
                   {B, B, B, B, B, B, B, B},
                   {B, B, B, B, B, B, B, B}});
  set_fused(&t, kFused);
  t.fused += kAmxKernels;
  t.fused_count -= kAmxKernels;
  return t;
}

// The same, and tiles of bytes: Sapphire Rapids and later. What is not fused is as above.
static constexpr KernelTable amx_table() {
  KernelTable t = table();
  t.name = "avx512-amx";
  set_fused(&t, kFused);
  return t;
}

}  // namespace

}  // namespace avx512_vpopcntdq

constexpr KernelTable kAvx512VpopcntdqKernels = avx512_vpopcntdq::table();
constexpr KernelTable kAvx512AmxKernels = avx512_vpopcntdq::amx_table();

}  // namespace bitorch
