// Kernels in plain C++ for any architecture: the fallback, and readable versions of what the others compute.
//
// Accumulators. kPopcount: bytes that gain at most 8 per step, widened to 32 bits after kFlush = 31 steps (31 * 8 = 248
// of 255). kBytes: int16 for as many steps of four products as fit, at most 4 * n_w * n_a each (n = 2^bits - 1; n_w is
// 128 for 8-bit weights), then 32 bits; 32 bits at once where not even two steps fit. kWords and kDepthwise: 32 bits.
// The 32-bit sums wrap like the exact result modulo 2^32.
#include "../core/function_kernels.h"
#include "../core/kernels.h"
#include "../core/matrix_kernels.h"
#include "../core/norm_kernels.h"
#include "../core/pair_kernels.h"
#include "../core/resize_kernels.h"

namespace bitorch {
namespace portable {

#include "generic.inl"

constexpr int kTile = 16;   // pixels that share one pass over the weights
constexpr int kFlush = 31;  // steps before bytes of bit counts could overflow

// The number of ones in each byte of a word.
static inline uint32_t count_bits_of_bytes(uint32_t word) {
  word -= word >> 1 & 0x55555555u;
  word = (word & 0x33333333u) + (word >> 2 & 0x33333333u);
  return (word + (word >> 4)) & 0x0f0f0f0fu;
}

// The sum of the four bytes of a word.
static inline uint32_t sum_bytes(uint32_t word) {
  word = (word & 0x00ff00ffu) + (word >> 8 & 0x00ff00ffu);
  return (word + (word >> 16)) & 0xffffu;
}

// sum[c] += 2^shift * popcounts of one weight plane with one activation plane
static inline void add_plane_product(const DotTile* t, const uint32_t* weights, const uint8_t* plane, int shift,
                                     uint32_t* sum) {
  for (int start = 0; start < t->steps; start += kFlush) {
    const int end = t->steps - start < kFlush ? t->steps : start + kFlush;
    uint32_t counts[kBlock] = {};
    for (int s = start; s < end; ++s) {
      const uint32_t x = load_u32(plane + t->step[s]);
      const uint32_t* w = weights + static_cast<int64_t>(s) * kBlock;
      for (int c = 0; c < kBlock; ++c) counts[c] += count_bits_of_bytes(w[c] & x);
    }
    for (int c = 0; c < kBlock; ++c) sum[c] += sum_bytes(counts[c]) << shift;
  }
}

static void dot_popcount(const DotTile* t, void* out) {
  const uint32_t* weights = static_cast<const uint32_t*>(t->weights);
  uint32_t* tile = static_cast<uint32_t*>(out);
  for (int p = 0; p < t->pixels; ++p) {
    uint32_t* sum = tile + p * kBlock;
    for (int c = 0; c < kBlock; ++c) sum[c] = 0;
    for (int j = 0; j < t->weight_bits; ++j) {
      for (int i = 0; i < t->activation_bits; ++i) {
        const uint8_t* plane = t->pixel[p] + i * t->plane_bytes;
        add_plane_product(t, weights + static_cast<int64_t>(j) * t->steps * kBlock, plane, i + j, sum);
      }
    }
  }
}

// Compilers vectorise the loops over channels; of the 16 pixels each reuses the weights that were widened, and their
// sums stay in the first-level cache: 2 KiB, where registers of baseline x86-64 hold 256 bytes.
//
// kBytes and kWords: the weights of each step are brought into `terms` rows of int16, [term][channel], once for all
// pixels. Sums of int16 are half the work of uint32.
template <int terms, typename Weight, typename Code, typename Sum>
static inline void add_step(const DotTile* t, int s, Sum (*sum)[kBlock]) {
  const Weight* weights = static_cast<const Weight*>(t->weights) + static_cast<int64_t>(s) * kBlock * terms;
  int16_t w[terms][kBlock];
  for (int c = 0; c < kBlock; ++c) {
    for (int b = 0; b < terms; ++b) w[b][c] = weights[c * terms + b];
  }
  for (int p = 0; p < t->pixels; ++p) {
    Code x[terms];
    __builtin_memcpy(x, t->pixel[p] + t->step[s], sizeof(x));
    Sum* to = sum[p];
    for (int c = 0; c < kBlock; ++c) {
      for (int b = 0; b < terms; ++b) to[c] = static_cast<Sum>(to[c] + static_cast<Sum>(w[b][c] * x[b]));
    }
  }
}

static void dot_bytes(const DotTile* t, void* out) {
  uint32_t sum[kTile][kBlock] = {};
  const int most_weight = t->weight_bits == 8 ? 128 : (1 << t->weight_bits) - 1;
  const int narrow = 32767 / (4 * most_weight * ((1 << t->activation_bits) - 1));  // steps that fit int16
  for (int s = 0; s < t->steps;) {
    if (narrow < 2) {
      add_step<4, int8_t, uint8_t>(t, s++, sum);
      continue;
    }
    int16_t narrow_sum[kTile][kBlock] = {};
    for (int k = 0; k < narrow && s < t->steps; ++k) add_step<4, int8_t, uint8_t>(t, s++, narrow_sum);
    for (int p = 0; p < t->pixels; ++p) {
      for (int c = 0; c < kBlock; ++c) sum[p][c] += static_cast<uint32_t>(narrow_sum[p][c]);
    }
  }
  __builtin_memcpy(out, sum, static_cast<unsigned>(t->pixels) * sizeof(sum[0]));
}

static void dot_words(const DotTile* t, void* out) {
  uint32_t sum[kTile][kBlock] = {};
  for (int s = 0; s < t->steps; ++s) add_step<2, int16_t, int16_t>(t, s, sum);
  __builtin_memcpy(out, sum, static_cast<unsigned>(t->pixels) * sizeof(sum[0]));
}

static constexpr KernelTable table() {
  using namespace letters;
  KernelTable t = generic_table("portable");
  t.norms = &kPortableNorms;
  t.functions = &kPortableFunctions;
  t.matrices = &kMatrixPortable;
  t.resizes = &kPortableResize;
  set_dot(&t, kPopcount, "popcount portable", dot_popcount, kTile);
  set_dot(&t, kBytes, "bytes portable", dot_bytes, kTile);
  set_dot(&t, kWords, "words portable", dot_words, kTile);
  set_dot(&t, kDepthwise, "depthwise portable", generic_dot_depthwise, kTile);
  set_dot(&t, kFloat, "float portable", generic_dot_float, kTile);
  set_dot(&t, kDepthwiseFloat, "depthwise float portable", generic_dot_depthwise_float, kMaxTilePixels);
  // Products per cycle with the vectors of baseline x86-64 (Zen 4): popcounts 29 / (W * A), bytes 7.5 as long as a
  // few steps fit int16 and 2 beyond, words 3.5.
  set_choices(&t, {{P, P, P, B, B, B, B, B},
                   {P, B, B, B, B, B, B, B},
                   {P, B, B, B, B, B, B, B},
                   {B, B, B, B, B, B, B, B},
                   {B, B, B, B, B, B, B, W},
                   {B, B, B, B, B, B, W, W},
                   {B, B, B, B, B, W, W, W},
                   {B, B, B, B, B, W, W, W}});
  return t;
}

}  // namespace portable

constexpr KernelTable kPortableKernels = portable::table();

}  // namespace bitorch
