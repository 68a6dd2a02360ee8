// Kernels for x86-64 with AVX2 and FMA.
//
// Accumulators, where they would overflow and what prevents it:
//   kPopcount  bytes gain at most 8 per step: 31 steps (248 of 255), then 32 bits
//   kTables    bytes gain at most 4 * n_a per step: 255 / (4 * n_a) steps, at least one up to 6-bit activations, which
//              is as far as the method goes; then unsigned 16 bits, 65535 / (4 * n_a) steps; then 32 bits
//   kBytes     vpmaddubsw sums two products in 16 signed bits, at most 2 * n_w * n_a, and would saturate. Where four
//              steps fit into 32767, 16 bits for as many steps as fit, then 32 bits; where one fits (up to W6A8, W7A7
//              and W8A7), 32 bits after each; for W7A8 and W8A8 vpmaddwd on words that are unpacked on the way
//   kWords     vpmaddwd: two products of words in 32 bits
//   kDepthwise vpmaddwd: one product of int16 and uint8 in 32 bits
// n_a = 2^activation_bits - 1, n_w = 2^weight_bits - 1, or 128 for 8-bit weights in kBytes. The 32-bit sums wrap like
// the exact result modulo 2^32.
#include <immintrin.h>

#include "../core/function_kernels.h"
#include "../core/kernels.h"
#include "../core/matrix_kernels.h"
#include "../core/norm_kernels.h"
#include "../core/pair_kernels.h"
#include "../core/resize_kernels.h"

namespace bitorch {

extern const FusedKernel kFusedLinearAvx2;

namespace avx2 {

#include "generic.inl"

constexpr int kVectors = kBlock / 8;  // vectors of 32-bit lanes in a row of the tile
constexpr int kChunk = 64;  // steps whose weights stay in the first-level cache while the pixels of a tile pass by

static inline __m256i load(const void* from) { return _mm256_loadu_si256(static_cast<const __m256i*>(from)); }
static inline void store(void* to, __m256i value) { _mm256_storeu_si256(static_cast<__m256i*>(to), value); }
static inline __m256i broadcast_u32(const uint8_t* from) {
  return _mm256_set1_epi32(static_cast<int32_t>(load_u32(from)));
}
static inline void add_to(int32_t* sums, __m256i more) { store(sums, _mm256_add_epi32(load(sums), more)); }
// Keeps a value in one register: a sum, which compilers else copy each time around a loop, or weights, which they else
// load again for every pixel.
static inline __m256i pin(__m256i value) {
  asm("" : "+x"(value));
  return value;
}
static inline int smaller(int a, int b) { return a < b ? a : b; }

static inline void clear_tile(int32_t* tile, int pixels) {
  for (int i = 0; i < pixels * kVectors; ++i) store(tile + i * 8, _mm256_setzero_si256());
}

// ---- kPopcount ----
//
// Lanes are output channels, as in the AVX-512 kernels: a dword of a pixel is broadcast and meets a dword of weights in
// each of 8 lanes. Without an instruction that counts, nibbles are looked up:
//
//   sum += counts[x & w_low] + counts[(x >> 4) & w_high]      w_low, w_high: the nibbles of the weights, each in a byte
//
// 256 products of one bit are 6 operations (2 and, 2 vpshufb, 2 add), a half to shift the pixel, which serves two
// vectors, and 0.75 to separate the weights' nibbles, which serve four pixels. 4 pixels x 2 vectors: 8 sums, 4 vectors
// of nibbles, the pixel's two, the table and the mask are all 16 registers, so that a little is read from memory. Zen 4
// looks up two vectors a cycle; 117 products of one bit a cycle were measured, 2.2 cycles for 256.

constexpr int kPopcountSteps = 31;

// The sums of one weight plane and one activation plane over steps begin .. end - 1, for half a block of channels. The
// nibbles of the weights are separated once for all pixels; and-ing with them separates those of the activations.
template <int pixels>
static inline void popcount_half(const DotTile* t, const uint8_t* const* pixel, int64_t plane, const uint32_t* weights,
                                 int begin, int end, int shift, int32_t* tile) {
  const __m256i low_nibbles = _mm256_set1_epi8(0x0f);
  const __m256i counts =
      _mm256_setr_epi8(0, 1, 1, 2, 1, 2, 2, 3, 1, 2, 2, 3, 2, 3, 3, 4, 0, 1, 1, 2, 1, 2, 2, 3, 1, 2, 2, 3, 2, 3, 3, 4);
  __m256i sum[pixels][2];
  const uint8_t* x[pixels];
#pragma GCC unroll 8
  for (int p = 0; p < pixels; ++p) {
    sum[p][0] = pin(_mm256_setzero_si256());
    sum[p][1] = pin(_mm256_setzero_si256());
    x[p] = pixel[p] + plane;
  }
  for (int s = begin; s < end; ++s) {
    const int64_t step = t->step[s];
    const uint32_t* w = weights + static_cast<int64_t>(s) * kBlock;
    __m256i low[2], high[2];
#pragma GCC unroll 8
    for (int v = 0; v < 2; ++v) {
      low[v] = _mm256_and_si256(load(w + v * 8), low_nibbles);
      high[v] = _mm256_and_si256(_mm256_srli_epi16(load(w + v * 8), 4), low_nibbles);
    }
#pragma GCC unroll 8
    for (int p = 0; p < pixels; ++p) {
      const __m256i a = broadcast_u32(x[p] + step);
      const __m256i a_high = _mm256_srli_epi32(a, 4);
#pragma GCC unroll 8
      for (int v = 0; v < 2; ++v) {
        sum[p][v] = _mm256_add_epi8(sum[p][v], _mm256_shuffle_epi8(counts, _mm256_and_si256(a, low[v])));
        sum[p][v] = _mm256_add_epi8(sum[p][v], _mm256_shuffle_epi8(counts, _mm256_and_si256(a_high, high[v])));
      }
    }
  }
  const __m256i factor = _mm256_set1_epi16(static_cast<int16_t>(1 << shift));
#pragma GCC unroll 8
  for (int p = 0; p < pixels; ++p) {
#pragma GCC unroll 8
    for (int v = 0; v < 2; ++v) {
      const __m256i pairs = _mm256_maddubs_epi16(sum[p][v], _mm256_set1_epi8(1));
      add_to(tile + p * kBlock + v * 8, _mm256_madd_epi16(pairs, factor));
    }
  }
}

template <int pixels>
static inline void popcount_pixels(const DotTile* t, int p, const uint32_t* weights, int begin, int end, int i, int j,
                                   int32_t* tile) {
  for (int half = 0; half < kBlock; half += 16) {
    popcount_half<pixels>(t, t->pixel + p, i * t->plane_bytes, weights + half, begin, end, i + j,
                          tile + p * kBlock + half);
  }
}

static void dot_popcount(const DotTile* t, void* out) {
  int32_t* tile = static_cast<int32_t*>(out);
  clear_tile(tile, t->pixels);
  for (int j = 0; j < t->weight_bits; ++j) {
    const uint32_t* weights = static_cast<const uint32_t*>(t->weights) + static_cast<int64_t>(j) * t->steps * kBlock;
    for (int begin = 0; begin < t->steps; begin += kPopcountSteps) {
      const int end = begin + smaller(kPopcountSteps, t->steps - begin);
      for (int i = 0; i < t->activation_bits; ++i) {
        int p = 0;
        for (; p + 4 <= t->pixels; p += 4) popcount_pixels<4>(t, p, weights, begin, end, i, j, tile);
        if (t->pixels - p >= 2) {
          popcount_pixels<2>(t, p, weights, begin, end, i, j, tile);
          p += 2;
        }
        if (p < t->pixels) popcount_pixels<1>(t, p, weights, begin, end, i, j, tile);
      }
    }
  }
}

// ---- kBytes and kWords ----
// A step is four vectors of eight channels, times four bytes or two words of each pixel. 2 pixels x 4 vectors: 8 sums,
// the pixels' two broadcasts, weights and a product fit 16 registers; a third pixel would need 17. Sums wait for an
// addition each step, of one cycle, so that 8 are enough.
//
// For 32 products of bytes, in operations: 2 where sums stay in 16 bits (vpmaddubsw, vpaddw), 0.62 cycles measured on
// Zen 4, 51 products a cycle; 3 where each product goes to 32 bits (vpmaddwd with ones), 1.00 cycles, 32 a cycle; more
// where bytes are unpacked. Words: 2 for 16 products.

// 16-bit sums over `flush` steps at a time.
template <int pixels>
static inline void bytes_narrow(const DotTile* t, const uint8_t* const* pixel, int begin, int end, int flush,
                                int32_t* tile) {
  const uint8_t* w = static_cast<const uint8_t*>(t->weights) + static_cast<int64_t>(begin) * kBlock * 4;
  for (int s = begin; s < end;) {
    const int stop = s + smaller(flush, end - s);
    __m256i sum[pixels][kVectors];
#pragma GCC unroll 8
    for (int p = 0; p < pixels; ++p) {
#pragma GCC unroll 8
      for (int v = 0; v < kVectors; ++v) sum[p][v] = pin(_mm256_setzero_si256());
    }
    for (; s < stop; ++s, w += kBlock * 4) {
      const int64_t step = t->step[s];
      __m256i x[pixels];
#pragma GCC unroll 8
      for (int p = 0; p < pixels; ++p) x[p] = broadcast_u32(pixel[p] + step);
#pragma GCC unroll 8
      for (int v = 0; v < kVectors; ++v) {
        const __m256i weights = pin(load(w + v * 32));
#pragma GCC unroll 8
        for (int p = 0; p < pixels; ++p) sum[p][v] = _mm256_add_epi16(sum[p][v], _mm256_maddubs_epi16(x[p], weights));
      }
    }
#pragma GCC unroll 8
    for (int p = 0; p < pixels; ++p) {
#pragma GCC unroll 8
      for (int v = 0; v < kVectors; ++v) {
        add_to(tile + p * kBlock + v * 8, _mm256_madd_epi16(sum[p][v], _mm256_set1_epi16(1)));
      }
    }
  }
}

enum Products { kPairs, kUnpacked, kWordPairs };

// Four bytes (kPairs, kUnpacked) or two words of a pixel times those of eight channels, in 32 bits.
template <Products products>
static inline __m256i product(__m256i x, __m256i w) {
  if (products == kPairs) return _mm256_madd_epi16(_mm256_maddubs_epi16(x, w), _mm256_set1_epi16(1));
  if (products == kWordPairs) return _mm256_madd_epi16(x, w);
  const __m256i even =
      _mm256_madd_epi16(_mm256_and_si256(x, _mm256_set1_epi16(255)), _mm256_srai_epi16(_mm256_slli_epi16(w, 8), 8));
  return _mm256_add_epi32(even, _mm256_madd_epi16(_mm256_srli_epi16(x, 8), _mm256_srai_epi16(w, 8)));
}

// 32-bit sums.
template <int pixels, Products products>
static inline void wide_sums(const DotTile* t, const uint8_t* const* pixel, int begin, int end, int32_t* tile) {
  const uint8_t* w = static_cast<const uint8_t*>(t->weights) + static_cast<int64_t>(begin) * kBlock * 4;
  __m256i sum[pixels][kVectors];
#pragma GCC unroll 8
  for (int p = 0; p < pixels; ++p) {
#pragma GCC unroll 8
    for (int v = 0; v < kVectors; ++v) sum[p][v] = load(tile + p * kBlock + v * 8);
  }
  for (int s = begin; s < end; ++s, w += kBlock * 4) {
    const int64_t step = t->step[s];
    __m256i x[pixels];
#pragma GCC unroll 8
    for (int p = 0; p < pixels; ++p) x[p] = broadcast_u32(pixel[p] + step);
#pragma GCC unroll 8
    for (int v = 0; v < kVectors; ++v) {
      const __m256i weights = pin(load(w + v * 32));
#pragma GCC unroll 8
      for (int p = 0; p < pixels; ++p) sum[p][v] = _mm256_add_epi32(sum[p][v], product<products>(x[p], weights));
    }
  }
#pragma GCC unroll 8
  for (int p = 0; p < pixels; ++p) {
#pragma GCC unroll 8
    for (int v = 0; v < kVectors; ++v) store(tile + p * kBlock + v * 8, sum[p][v]);
  }
}

template <Products products>
static inline void wide_tile(const DotTile* t, int32_t* tile) {
  for (int begin = 0; begin < t->steps; begin += kChunk) {
    const int end = begin + smaller(kChunk, t->steps - begin);
    int p = 0;
    for (; p + 2 <= t->pixels; p += 2) wide_sums<2, products>(t, t->pixel + p, begin, end, tile + p * kBlock);
    if (p < t->pixels) wide_sums<1, products>(t, t->pixel + p, begin, end, tile + p * kBlock);
  }
}

static inline void narrow_tile(const DotTile* t, int flush, int32_t* tile) {
  for (int begin = 0; begin < t->steps; begin += kChunk) {
    const int end = begin + smaller(kChunk, t->steps - begin);
    int p = 0;
    for (; p + 2 <= t->pixels; p += 2) bytes_narrow<2>(t, t->pixel + p, begin, end, flush, tile + p * kBlock);
    if (p < t->pixels) bytes_narrow<1>(t, t->pixel + p, begin, end, flush, tile + p * kBlock);
  }
}

static void dot_bytes(const DotTile* t, void* out) {
  int32_t* tile = static_cast<int32_t*>(out);
  clear_tile(tile, t->pixels);
  const int most_weight = t->weight_bits == 8 ? 128 : (1 << t->weight_bits) - 1;
  const int pair = 2 * most_weight * ((1 << t->activation_bits) - 1);  // what vpmaddubsw may give
  if (pair * 4 <= 32767) {
    narrow_tile(t, 32767 / pair, tile);
  } else if (pair <= 32767) {
    wide_tile<kPairs>(t, tile);
  } else {
    wide_tile<kUnpacked>(t, tile);
  }
}

static void dot_words(const DotTile* t, void* out) {
  int32_t* tile = static_cast<int32_t*>(out);
  clear_tile(tile, t->pixels);
  wide_tile<kWordPairs>(t, tile);
}

// ---- kDepthwise and kFloat ----

// A whole block; blocks of fewer channels, of which a layer has one at most, must not read past their last channel.
static void dot_depthwise(const DotTile* t, void* out) {
  if (t->channels < kBlock) return generic_dot_depthwise(t, out);
  for (int p = 0; p < t->pixels; ++p) {
    __m256i sum[kVectors] = {};
    const uint8_t* w = static_cast<const uint8_t*>(t->weights);
    for (int s = 0; s < t->steps; ++s, w += kBlock * 4) {
      const uint8_t* x = t->pixel[p] + t->step[s];
#pragma GCC unroll 8
      for (int v = 0; v < kVectors; ++v) {
        const __m256i codes = _mm256_cvtepu8_epi32(_mm_loadl_epi64(reinterpret_cast<const __m128i*>(x + v * 8)));
        sum[v] = _mm256_add_epi32(sum[v], _mm256_madd_epi16(codes, load(w + v * 32)));
      }
    }
#pragma GCC unroll 8
    for (int v = 0; v < kVectors; ++v) store(static_cast<int32_t*>(out) + p * kBlock + v * 8, sum[v]);
  }
}

// 3 pixels x 4 vectors: 12 sums, 3 broadcasts and a vector of weights are all 16 registers. 12 sums that do not wait
// for each other hide a latency of 4 cycles at two multiply-adds a cycle: 16 products a cycle.
template <int pixels>
static inline void float_pixels(const DotTile* t, const uint8_t* const* pixel, float* tile) {
  const float* w = static_cast<const float*>(t->weights);
  __m256 sum[pixels][kVectors];
#pragma GCC unroll 8
  for (int p = 0; p < pixels; ++p) {
#pragma GCC unroll 8
    for (int v = 0; v < kVectors; ++v) sum[p][v] = _mm256_setzero_ps();
  }
  for (int s = 0; s < t->steps; ++s, w += kBlock) {
    const int64_t step = t->step[s];
    __m256 x[pixels];
#pragma GCC unroll 8
    for (int p = 0; p < pixels; ++p) x[p] = _mm256_set1_ps(load_f32(pixel[p] + step));
#pragma GCC unroll 8
    for (int v = 0; v < kVectors; ++v) {
      const __m256 weights = _mm256_loadu_ps(w + v * 8);
#pragma GCC unroll 8
      for (int p = 0; p < pixels; ++p) sum[p][v] = _mm256_fmadd_ps(x[p], weights, sum[p][v]);
    }
  }
#pragma GCC unroll 8
  for (int p = 0; p < pixels; ++p) {
#pragma GCC unroll 8
    for (int v = 0; v < kVectors; ++v) _mm256_storeu_ps(tile + p * kBlock + v * 8, sum[p][v]);
  }
}

static void dot_float(const DotTile* t, void* out) {
  float* tile = static_cast<float*>(out);
  int p = 0;
  for (; p + 3 <= t->pixels; p += 3) float_pixels<3>(t, t->pixel + p, tile + p * kBlock);
  if (t->pixels - p == 2) float_pixels<2>(t, t->pixel + p, tile + p * kBlock);
  if (t->pixels - p == 1) float_pixels<1>(t, t->pixel + p, tile + p * kBlock);
}

#include "avx2_tables.inl"

#include "avx2_stages.inl"  // unpacks bit planes as avx2_tables.inl does

#include "avx2_fused_tables.inl"

// The indices of its vectors are constants.
#include "fused_loops.inl"

#include "depthwise_kinds.inl"

#include "avx2_depthwise.inl"

#include "depthwise_blocks.inl"

#include "avx2_depthwise_cost.inl"

// Pixels per call are multiples of what registers hold (4 or 8, 2, 3), enough to read the weights from the first-level
// cache several times.
static constexpr const FusedKernel* kFused[] = {
    &kFusedLinearAvx2,
    &kFusedTables,
    &kFusedDepthwise,
};

static constexpr KernelTable table() {
  using namespace letters;
  KernelTable t = generic_table("avx2");
  t.norms = &kAvx2Norms;
  t.functions = &kAvx2Functions;
  t.matrices = &kMatrixAvx2;
  t.resizes = &kAvx2Resize;
  set_dot(&t, kPopcount, "popcount avx2", dot_popcount, 16);
  set_dot(&t, kBytes, "bytes avx2", dot_bytes, 32);
  set_dot(&t, kWords, "words avx2", dot_words, 32);
  set_dot(&t, kTables, "tables avx2", dot_tables, 16);
  set_dot(&t, kDepthwise, "depthwise avx2", dot_depthwise, 16);
  set_dot(&t, kFloat, "float avx2", dot_float, 24);
  set_dot(&t, kDepthwiseFloat, "depthwise float avx2", generic_dot_depthwise_float, kMaxTilePixels);
  set_stages(&t);
  set_tables(&t);
  // Products per cycle on Zen 4, in the layers of ResNet-18. Tables: 175, 165, 145, 115, 75, 45 for A1 .. A6 at W1,
  // half of that at W2, a third at W3, and staging takes a tenth. Popcounts: 117 / (W * A). Bytes: 47, falling to 31
  // where the products need 32 bits at once; W7A8 and W8A8 21, words 25.
  set_choices(&t, {{T, T, T, T, T, B, B, B},
                   {T, T, T, T, B, B, B, B},
                   {B, B, B, B, B, B, B, B},
                   {B, B, B, B, B, B, B, B},
                   {B, B, B, B, B, B, B, B},
                   {B, B, B, B, B, B, B, B},
                   {B, B, B, B, B, B, B, W},
                   {B, B, B, B, B, B, B, W}});
  set_fused(&t, kFused);
  return t;
}

}  // namespace avx2

constexpr KernelTable kAvx2Kernels = avx2::table();

}  // namespace bitorch
