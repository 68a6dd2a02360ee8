// The training kernels with AVX-512 and VNNI. Tiles of 6 pixels (or taps, or outputs) x 4 vectors keep 24 sums in
// registers: for each dword, 4 loads and 6 broadcasts feed 24 vpdpbusd, so that the load ports are half idle.
//
//   64ch        v0  v1  v2  v3      weights, one load each, s8
//   pixel 0     +   +   +   +       a dword of codes, broadcast, u8
//   ...
//   pixel 5     +   +   +   +
//
// GCC 12 keeps these sums on the stack when it may move loads and rotate loops across them, at half the speed; hence
// the flags in CMakeLists.txt, tile functions that are not inlined, and do-while. runtime/tests/test_objects.py looks.

// GCC 12 takes the undefined operands inside its own AVX-512 intrinsics for uninitialised variables (GCC bug 105593).
#pragma GCC diagnostic ignored "-Wmaybe-uninitialized"
#pragma GCC diagnostic ignored "-Wuninitialized"

#include <immintrin.h>

#include <cstdint>

#include "../core/training_kernels.h"

namespace bitorch {

namespace training_avx512 {

namespace {

constexpr int kVector = 16;
constexpr int kVectors = kTileChannels / kVector;
constexpr int kStepBytes = 4 * kTileChannels;

__mmask16 first16(int64_t n) { return static_cast<__mmask16>(n >= 16 ? 0xffff : n <= 0 ? 0 : (1u << n) - 1); }
__mmask64 first64(int64_t n) { return n >= 64 ? ~__mmask64{0} : (__mmask64{1} << n) - 1; }

int32_t dword(const uint8_t* from) {
  int32_t value;
  __builtin_memcpy(&value, from, sizeof value);
  return value;
}

// 4 x 16 numbers of 32 bits as 64 bytes, saturated.
__m512i narrow(const __m512i* of, bool is_signed) {
  const __m512i low = _mm512_packs_epi32(of[0], of[1]), high = _mm512_packs_epi32(of[2], of[3]);
  const __m512i bytes = is_signed ? _mm512_packs_epi16(low, high) : _mm512_packus_epi16(low, high);
  return _mm512_permutexvar_epi32(_mm512_setr_epi32(0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15), bytes);
}

int32_t quantize(const float* x, int64_t n, float levels, uint8_t* codes, uint8_t* inside) {
  const __m512 zero = _mm512_setzero_ps(), one = _mm512_set1_ps(1), factor = _mm512_set1_ps(levels);
  __mmask16 nan = 0;
  for (int64_t i = 0; i < n; i += 64) {
    __m512i whole[4];
    uint64_t bits = 0;
#pragma GCC unroll 4
    for (int k = 0; k < 4; ++k) {
      const __mmask16 there = first16(n - i - 16 * k);
      const __m512 v = _mm512_maskz_loadu_ps(there, x + i + 16 * k);
      const __m512 clipped = _mm512_min_ps(_mm512_max_ps(v, zero), one);
      nan |= _mm512_cmp_ps_mask(v, v, _CMP_UNORD_Q);
      // Within the range a number is what it is clipped to.
      const __mmask16 same = _mm512_mask_cmp_ps_mask(there, v, clipped, _CMP_EQ_OQ);
      bits |= static_cast<uint64_t>(same) << (16 * k);
      whole[k] = _mm512_cvtps_epi32(_mm512_mul_ps(clipped, factor));
    }
    _mm512_mask_storeu_epi8(codes + i, first64(n - i), narrow(whole, false));
    if (inside != nullptr) {
      const int64_t bytes = n - i >= 64 ? 8 : (n - i + 7) / 8;
      if (bytes == 8) {
        __builtin_memcpy(inside + i / 8, &bits, 8);
      } else {
        for (int64_t b = 0; b < bytes; ++b) inside[i / 8 + b] = static_cast<uint8_t>(bits >> (8 * b));
      }
    }
  }
  return nan != 0;
}

int32_t take_codes(const float* x, int64_t n, int32_t low, int32_t levels, uint8_t* bytes) {
  const __m512 lowest = _mm512_set1_ps(static_cast<float>(low)), most = _mm512_set1_ps(static_cast<float>(levels));
  __mmask16 nan = 0;
  for (int64_t i = 0; i < n; i += 64) {
    __m512i whole[4];
#pragma GCC unroll 4
    for (int k = 0; k < 4; ++k) {
      const __m512 v = _mm512_maskz_loadu_ps(first16(n - i - 16 * k), x + i + 16 * k);
      const __mmask16 is_nan = _mm512_cmp_ps_mask(v, v, _CMP_UNORD_Q);
      nan |= is_nan;
      const __m512 from_low = _mm512_min_ps(_mm512_max_ps(_mm512_sub_ps(v, lowest), _mm512_setzero_ps()), most);
      whole[k] = _mm512_mask_mov_epi32(_mm512_cvtps_epi32(from_low), is_nan, _mm512_set1_epi32(-low));
    }
    _mm512_mask_storeu_epi8(bytes + i, first64(n - i), narrow(whole, false));
  }
  return nan != 0;
}

uint32_t largest(const float* g, int64_t n) {
  const __m512i size = _mm512_set1_epi32(0x7fffffff);
  __m512i most[4] = {_mm512_setzero_si512(), _mm512_setzero_si512(), _mm512_setzero_si512(), _mm512_setzero_si512()};
  int64_t i = 0;
  for (; i + 64 <= n; i += 64) {
#pragma GCC unroll 4
    for (int k = 0; k < 4; ++k) {
      most[k] = _mm512_max_epu32(most[k], _mm512_and_si512(size, _mm512_loadu_si512(g + i + 16 * k)));
    }
  }
  for (; i < n; i += 16) {
    most[0] = _mm512_max_epu32(most[0], _mm512_and_si512(size, _mm512_maskz_loadu_epi32(first16(n - i), g + i)));
  }
  const __m512i all = _mm512_max_epu32(_mm512_max_epu32(most[0], most[1]), _mm512_max_epu32(most[2], most[3]));
  return _mm512_reduce_max_epu32(all);
}

__m512i mix(__m512i x, __m512i key0, __m512i key1) {
  x = _mm512_xor_si512(x, key0);
  x = _mm512_xor_si512(x, _mm512_srli_epi32(x, 16));
  x = _mm512_mullo_epi32(x, _mm512_set1_epi32(0x7feb352d));
  x = _mm512_xor_si512(_mm512_xor_si512(x, key1), _mm512_srli_epi32(x, 15));
  x = _mm512_mullo_epi32(x, _mm512_set1_epi32(static_cast<int32_t>(0x846ca68b)));
  x = _mm512_xor_si512(x, _mm512_srli_epi32(x, 16));
  return _mm512_or_si512(x, _mm512_set1_epi32(0x00010001));
}

void gradient_codes(const GradientCodes* c) {
  const __m512i lane = _mm512_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15);
  const __m512i key0 = _mm512_set1_epi32(static_cast<int32_t>(c->key[0]));
  const __m512i key1 = _mm512_set1_epi32(static_cast<int32_t>(c->key[1]));
  const __m512 factor = _mm512_set1_ps(c->factor);
  // Without noise both grids are rounded half to even: one from its middle, the other from its lowest level.
  const __m512 middle = _mm512_set1_ps(c->has_zero ? 0 : static_cast<float>(c->high) + 0.5f);
  const __m512i lowest = _mm512_set1_epi32(c->has_zero ? 0 : c->low);
  const __m512i low = _mm512_set1_epi8(static_cast<char>(c->low)), high = _mm512_set1_epi8(static_cast<char>(c->high));
  const __m512 unit = _mm512_set1_ps(0x1p-32f);  // of a draw in the upper half of 32 bits
  for (int64_t i = 0; i < c->n; i += 64) {
    __m512i whole[4];
#pragma GCC unroll 2
    for (int b = 0; b < 2; ++b) {
      const int64_t at = i + 32 * b;
      const __m512 y0 = _mm512_mul_ps(_mm512_maskz_loadu_ps(first16(c->n - at), c->g + at), factor);
      const __m512 y1 = _mm512_mul_ps(_mm512_maskz_loadu_ps(first16(c->n - at - 16), c->g + at + 16), factor);
      if (c->noisy) {
        const auto word = static_cast<int32_t>(c->word + static_cast<uint32_t>(at / 2));
        const __m512i hash = mix(_mm512_add_epi32(lane, _mm512_set1_epi32(word)), key0, key1);
        const __m512 d0 = _mm512_cvtepi32_ps(_mm512_slli_epi32(hash, 16));
        const __m512 d1 =
            _mm512_cvtepi32_ps(_mm512_and_si512(hash, _mm512_set1_epi32(static_cast<int32_t>(0xffff0000))));
        constexpr int kDown = _MM_FROUND_TO_NEG_INF | _MM_FROUND_NO_EXC;
        const __m512 v0 = _mm512_fmadd_ps(d0, unit, y0), v1 = _mm512_fmadd_ps(d1, unit, y1);
        whole[2 * b] = c->has_zero ? _mm512_cvtps_epi32(v0) : _mm512_cvt_roundps_epi32(v0, kDown);
        whole[2 * b + 1] = c->has_zero ? _mm512_cvtps_epi32(v1) : _mm512_cvt_roundps_epi32(v1, kDown);
      } else {
        whole[2 * b] = _mm512_add_epi32(_mm512_cvtps_epi32(_mm512_add_ps(y0, middle)), lowest);
        whole[2 * b + 1] = _mm512_add_epi32(_mm512_cvtps_epi32(_mm512_add_ps(y1, middle)), lowest);
      }
    }
    const __m512i code = _mm512_max_epi8(_mm512_min_epi8(narrow(whole, true), high), low);
    const __mmask64 there = first64(c->n - i);
    if (c->levels != nullptr) _mm512_mask_storeu_epi8(c->levels + i, there, _mm512_sub_epi8(code, low));
    const __m512i odd = _mm512_add_epi8(_mm512_add_epi8(code, code), _mm512_set1_epi8(1));
    _mm512_mask_storeu_epi8(c->codes + i, there, c->odd ? odd : code);
  }
}

void interleave(const uint8_t* const* rows, int32_t n, uint8_t* out) {
  const __mmask64 there = first64(n);
  __m512i row[4];
#pragma GCC unroll 4
  for (int b = 0; b < 4; ++b) {
    row[b] = rows[b] == nullptr ? _mm512_setzero_si512() : _mm512_maskz_loadu_epi8(there, rows[b]);
  }
  const __m512i low0 = _mm512_unpacklo_epi8(row[0], row[1]), high0 = _mm512_unpackhi_epi8(row[0], row[1]);
  const __m512i low1 = _mm512_unpacklo_epi8(row[2], row[3]), high1 = _mm512_unpackhi_epi8(row[2], row[3]);
  // Quarter k of quads[j] has channels 16k + 4j and three more.
  const __m512i quads[4] = {_mm512_unpacklo_epi16(low0, low1), _mm512_unpackhi_epi16(low0, low1),
                            _mm512_unpacklo_epi16(high0, high1), _mm512_unpackhi_epi16(high0, high1)};
  const __m512i a = _mm512_shuffle_i32x4(quads[0], quads[1], 0x44), b = _mm512_shuffle_i32x4(quads[2], quads[3], 0x44);
  const __m512i c = _mm512_shuffle_i32x4(quads[0], quads[1], 0xee), d = _mm512_shuffle_i32x4(quads[2], quads[3], 0xee);
  _mm512_store_si512(out, _mm512_shuffle_i32x4(a, b, 0x88));
  _mm512_store_si512(out + 64, _mm512_shuffle_i32x4(a, b, 0xdd));
  _mm512_store_si512(out + 128, _mm512_shuffle_i32x4(c, d, 0x88));
  _mm512_store_si512(out + 192, _mm512_shuffle_i32x4(c, d, 0xdd));
}

template <int P, int V>
__attribute__((noinline)) void dots_tile(const TrainingDots* t) {
  __m512i sum[P][V];
#pragma GCC unroll 8
  for (int p = 0; p < P; ++p) {
#pragma GCC unroll 4
    for (int v = 0; v < V; ++v) sum[p][v] = _mm512_setzero_si512();
  }
  const uint8_t* in_row = t->in;
  const int8_t* weight_row = t->weights;
  const int64_t in_step = t->in_step;
  int32_t rows = t->rows;
  if (rows > 0) do {
      const uint8_t* in = in_row;
      const int8_t* weights = weight_row;
      int32_t steps = t->steps;
      do {
        __m512i w[V];
#pragma GCC unroll 4
        for (int v = 0; v < V; ++v) w[v] = _mm512_load_si512(weights + 64 * v);
        weights += kStepBytes;
#pragma GCC unroll 8
        for (int p = 0; p < P; ++p) {
          const __m512i codes = _mm512_set1_epi32(dword(in + p * in_step));
#pragma GCC unroll 4
          for (int v = 0; v < V; ++v) sum[p][v] = _mm512_dpbusd_epi32(sum[p][v], codes, w[v]);
        }
        in += 4;
      } while (--steps != 0);
      in_row += t->in_row;
      weight_row += t->weight_row;
    } while (--rows != 0);
#pragma GCC unroll 8
  for (int p = 0; p < P; ++p) {
#pragma GCC unroll 4
    for (int v = 0; v < V; ++v) _mm512_store_si512(t->tile + p * kTileChannels + kVector * v, sum[p][v]);
  }
}

// What was loaded before is loaded again. GCC 12 would keep numbers of the job in vector registers where it has no
// others left, and put vectors on the stack.
void forget_loads() { __asm__ volatile("" ::: "memory"); }

// Of channels from `first` on. Up to two vectors of them, sums of floats stay in registers from sample to sample,
// beside those of integers.
constexpr int kKeptVectors = 2;

template <int P, int V>
__attribute__((noinline)) void weight_tile(const WeightDots* w, int64_t first) {
  float* const sums = w->sums + first;
  constexpr bool kept = V <= kKeptVectors;
  __m512 total[P][V];
  if (kept) {
#pragma GCC unroll 8
    for (int p = 0; p < P; ++p) {
#pragma GCC unroll 4
      for (int v = 0; v < V; ++v) total[p][v] = _mm512_load_ps(sums + p * kTileChannels + kVector * v);
    }
  }
  int64_t offset[P];
#pragma GCC unroll 8
  for (int p = 0; p < P; ++p) offset[p] = w->offset[p];
  int64_t sample = 0;
  do {
    __m512i sum[P][V];
#pragma GCC unroll 8
    for (int p = 0; p < P; ++p) {
#pragma GCC unroll 4
      for (int v = 0; v < V; ++v) sum[p][v] = _mm512_setzero_si512();
    }
    const uint8_t* q_row = w->q + sample * w->q_step;
    const int8_t* g = w->g + sample * w->g_step + 4 * first;
    int32_t rows = w->rows;
    if (rows > 0) do {
        const uint8_t* q = q_row;
        int32_t groups = w->groups;
        do {
          __m512i of[V];
#pragma GCC unroll 4
          for (int v = 0; v < V; ++v) of[v] = _mm512_load_si512(g + 64 * v);
          g += kStepBytes;
#pragma GCC unroll 8
          for (int p = 0; p < P; ++p) {
            const __m512i codes = _mm512_set1_epi32(dword(q + offset[p]));
#pragma GCC unroll 4
            for (int v = 0; v < V; ++v) sum[p][v] = _mm512_dpbusd_epi32(sum[p][v], codes, of[v]);
          }
          q += 4;
        } while (--groups != 0);
        q_row += w->row_step;
      } while (--rows != 0);
    if (w->halves != nullptr) {
      const int32_t* halves = w->halves + sample * w->halves_step;
#pragma GCC unroll 8
      for (int p = 0; p < P; ++p) {
        const __m512i half = _mm512_set1_epi32(halves[p]);
#pragma GCC unroll 4
        for (int v = 0; v < V; ++v) sum[p][v] = _mm512_add_epi32(_mm512_add_epi32(sum[p][v], sum[p][v]), half);
      }
    }
    if (w->border != nullptr) {
      const int32_t* border = w->border + sample * w->border_step + first;
#pragma GCC unroll 4
      for (int v = 0; v < V; ++v) {
        const __m512i more = _mm512_load_si512(border + kVector * v);
#pragma GCC unroll 8
        for (int p = 0; p < P; ++p) sum[p][v] = _mm512_add_epi32(sum[p][v], more);
      }
    }
    const __m512 scale = _mm512_set1_ps(w->scale[sample]);
#pragma GCC unroll 8
    for (int p = 0; p < P; ++p) {
#pragma GCC unroll 4
      for (int v = 0; v < V; ++v) {
        const __m512 d = _mm512_cvtepi32_ps(sum[p][v]);
        float* const at = sums + p * kTileChannels + kVector * v;
        if (kept) {
          total[p][v] = _mm512_fmadd_ps(d, scale, total[p][v]);
        } else {
          _mm512_store_ps(at, _mm512_fmadd_ps(d, scale, _mm512_load_ps(at)));
        }
      }
    }
    forget_loads();
  } while (++sample != w->samples);
  if (kept) {
#pragma GCC unroll 8
    for (int p = 0; p < P; ++p) {
#pragma GCC unroll 4
      for (int v = 0; v < V; ++v) _mm512_store_ps(sums + p * kTileChannels + kVector * v, total[p][v]);
    }
  }
}

template <int P, int V>
__attribute__((noinline)) void outer_tile(const OuterProduct* o) {
  __m512 sum[P][V];
#pragma GCC unroll 8
  for (int p = 0; p < P; ++p) {
#pragma GCC unroll 4
    for (int v = 0; v < V; ++v) sum[p][v] = _mm512_setzero_ps();
  }
  const float *q = o->q, *g = o->g;
  int64_t samples = o->samples;
  if (samples > 0) do {
      __m512 of[V];
#pragma GCC unroll 4
      for (int v = 0; v < V; ++v) of[v] = _mm512_load_ps(q + kVector * v);
      q += kTileChannels;
#pragma GCC unroll 8
      for (int p = 0; p < P; ++p) {
        const __m512 value = _mm512_set1_ps(g[p]);
#pragma GCC unroll 4
        for (int v = 0; v < V; ++v) sum[p][v] = _mm512_fmadd_ps(value, of[v], sum[p][v]);
      }
      g += o->g_step;
    } while (--samples != 0);
  const __m512 scale = _mm512_set1_ps(o->scale);
#pragma GCC unroll 8
  for (int p = 0; p < P; ++p) {
#pragma GCC unroll 4
    for (int v = 0; v < V; ++v) {
      float* to = o->out + p * o->out_step + kVector * v;
      _mm512_mask_storeu_ps(to, first16(o->channels - kVector * v), _mm512_mul_ps(scale, sum[p][v]));
    }
  }
}

template <class Job>
using Tile = void (*)(const Job*);

constexpr Tile<TrainingDots> kDots[kTilePixels][kVectors] = {
    {dots_tile<1, 1>, dots_tile<1, 2>, dots_tile<1, 3>, dots_tile<1, 4>},
    {dots_tile<2, 1>, dots_tile<2, 2>, dots_tile<2, 3>, dots_tile<2, 4>},
    {dots_tile<3, 1>, dots_tile<3, 2>, dots_tile<3, 3>, dots_tile<3, 4>},
    {dots_tile<4, 1>, dots_tile<4, 2>, dots_tile<4, 3>, dots_tile<4, 4>},
    {dots_tile<5, 1>, dots_tile<5, 2>, dots_tile<5, 3>, dots_tile<5, 4>},
    {dots_tile<6, 1>, dots_tile<6, 2>, dots_tile<6, 3>, dots_tile<6, 4>}};
using WeightTile = void (*)(const WeightDots*, int64_t);
constexpr WeightTile kWeightDots[kTilePixels][kVectors] = {
    {weight_tile<1, 1>, weight_tile<1, 2>, weight_tile<1, 3>, weight_tile<1, 4>},
    {weight_tile<2, 1>, weight_tile<2, 2>, weight_tile<2, 3>, weight_tile<2, 4>},
    {weight_tile<3, 1>, weight_tile<3, 2>, weight_tile<3, 3>, weight_tile<3, 4>},
    {weight_tile<4, 1>, weight_tile<4, 2>, weight_tile<4, 3>, weight_tile<4, 4>},
    {weight_tile<5, 1>, weight_tile<5, 2>, weight_tile<5, 3>, weight_tile<5, 4>},
    {weight_tile<6, 1>, weight_tile<6, 2>, weight_tile<6, 3>, weight_tile<6, 4>}};
constexpr Tile<OuterProduct> kOuter[kTilePixels][kVectors] = {
    {outer_tile<1, 1>, outer_tile<1, 2>, outer_tile<1, 3>, outer_tile<1, 4>},
    {outer_tile<2, 1>, outer_tile<2, 2>, outer_tile<2, 3>, outer_tile<2, 4>},
    {outer_tile<3, 1>, outer_tile<3, 2>, outer_tile<3, 3>, outer_tile<3, 4>},
    {outer_tile<4, 1>, outer_tile<4, 2>, outer_tile<4, 3>, outer_tile<4, 4>},
    {outer_tile<5, 1>, outer_tile<5, 2>, outer_tile<5, 3>, outer_tile<5, 4>},
    {outer_tile<6, 1>, outer_tile<6, 2>, outer_tile<6, 3>, outer_tile<6, 4>}};

void dots(const TrainingDots* t) { kDots[t->pixels - 1][(t->channels - 1) / kVector](t); }
// With few products a sample, sums of floats that stay in registers gain more than tiles of half the width lose.
void weight_dots(const WeightDots* w) {
  constexpr int kFewProducts = 32;
  const int32_t width = kVector * (w->rows * w->groups <= kFewProducts ? kKeptVectors : kVectors);
  for (int32_t first = 0; first < w->channels; first += width) {
    const int32_t channels = w->channels - first < width ? w->channels - first : width;
    kWeightDots[w->taps - 1][(channels - 1) / kVector](w, first);
  }
}
void outer(const OuterProduct* o) { kOuter[o->rows - 1][(o->channels - 1) / kVector](o); }

// 16 vectors as a matrix, with rows and columns exchanged: pairs of rows, of pairs, and quarters of vectors.
void exchange(__m512* v) {
  __m512 pairs[16];
#pragma GCC unroll 8
  for (int i = 0; i < 8; ++i) {
    pairs[2 * i] = _mm512_unpacklo_ps(v[2 * i], v[2 * i + 1]);
    pairs[2 * i + 1] = _mm512_unpackhi_ps(v[2 * i], v[2 * i + 1]);
  }
  const auto low = [](__m512 a, __m512 b) {
    return _mm512_castpd_ps(_mm512_unpacklo_pd(_mm512_castps_pd(a), _mm512_castps_pd(b)));
  };
  const auto high = [](__m512 a, __m512 b) {
    return _mm512_castpd_ps(_mm512_unpackhi_pd(_mm512_castps_pd(a), _mm512_castps_pd(b)));
  };
#pragma GCC unroll 4
  for (int i = 0; i < 4; ++i) {  // quarter k of v[4 * i + j]: rows 4i .. 4i+3 of column 4k + j
    v[4 * i] = low(pairs[4 * i], pairs[4 * i + 2]);
    v[4 * i + 1] = high(pairs[4 * i], pairs[4 * i + 2]);
    v[4 * i + 2] = low(pairs[4 * i + 1], pairs[4 * i + 3]);
    v[4 * i + 3] = high(pairs[4 * i + 1], pairs[4 * i + 3]);
  }
#pragma GCC unroll 4
  for (int j = 0; j < 4; ++j) {
    const __m512 a = _mm512_shuffle_f32x4(v[j], v[j + 4], 0x44), b = _mm512_shuffle_f32x4(v[j + 8], v[j + 12], 0x44);
    const __m512 c = _mm512_shuffle_f32x4(v[j], v[j + 4], 0xee), d = _mm512_shuffle_f32x4(v[j + 8], v[j + 12], 0xee);
    pairs[j] = _mm512_shuffle_f32x4(a, b, 0x88);
    pairs[j + 4] = _mm512_shuffle_f32x4(a, b, 0xdd);
    pairs[j + 8] = _mm512_shuffle_f32x4(c, d, 0x88);
    pairs[j + 12] = _mm512_shuffle_f32x4(c, d, 0xdd);
  }
#pragma GCC unroll 16
  for (int i = 0; i < 16; ++i) v[i] = pairs[i];
}

void transpose(const Transpose* t) {
  const __m512 scale = _mm512_set1_ps(t->scale);
  for (int32_t c = 0; c < t->channels; c += kVector) {
    for (int64_t r = 0; r < t->rows; r += kVector) {
      __m512 v[kVector];
      for (int i = 0; i < kVector; ++i) {
        v[i] = r + i < t->rows ? _mm512_mul_ps(_mm512_load_ps(t->in + (r + i) * t->in_step + c), scale)
                               : _mm512_setzero_ps();
      }
      exchange(v);
      const __mmask16 there = first16(t->rows - r);
      for (int i = 0; i < kVector && c + i < t->channels; ++i) {
        _mm512_mask_storeu_ps(t->out + (c + i) * t->out_step + r, there, v[i]);
      }
    }
  }
}

__m512i twice_and(__m512i sum, __m512i more) { return _mm512_add_epi32(_mm512_add_epi32(sum, sum), more); }

void finish_forward(const FinishForward* f) {
  for (int32_t p = 0; p < f->pixels; ++p) {
    for (int32_t c = 0; c < f->channels; c += kVector) {
      __m512i sum = _mm512_load_si512(f->tile + p * kTileChannels + c);
      if (f->halves != nullptr) sum = twice_and(sum, _mm512_set1_epi32(f->halves[p]));
      if (f->border != nullptr) sum = _mm512_add_epi32(sum, _mm512_load_si512(f->border + c));
      __m512 y = _mm512_mul_ps(_mm512_cvtepi32_ps(sum), _mm512_load_ps(f->scale + c));
      if (f->bias != nullptr) y = _mm512_add_ps(y, _mm512_load_ps(f->bias + c));
      _mm512_mask_storeu_ps(f->out + p * f->out_step + c, first16(f->channels - c), y);
    }
  }
}

void finish_gradient(const FinishGradient* f) {
  for (int32_t p = 0; p < f->pixels; ++p) {
    const __m512 scale = _mm512_set1_ps(f->scale[p * f->scale_step]);
    for (int32_t c = 0; c < f->channels; c += kVector) {
      __m512i sum = _mm512_load_si512(f->tile + p * kTileChannels + c);
      if (f->halves != nullptr) sum = twice_and(sum, _mm512_set1_epi32(f->halves[p]));
      if (f->twice) sum = _mm512_add_epi32(sum, sum);
      sum = _mm512_add_epi32(sum, _mm512_load_si512(f->border[p] + c));
      __mmask16 passes = 0xffff;
      if (f->mask != nullptr) {
        const int64_t bit = f->first_bit + p * f->bit_step + c;
        passes = static_cast<__mmask16>(static_cast<uint32_t>(dword(f->mask + bit / 8)) >> (bit % 8));
      }
      const __m512 dx = _mm512_maskz_mul_ps(passes, _mm512_cvtepi32_ps(sum), scale);
      _mm512_mask_storeu_ps(f->out + p * f->out_step + c, first16(f->channels - c), dx);
    }
  }
}

}  // namespace

}  // namespace training_avx512

constexpr TrainingKernels kAvx512Training = {
    "avx512",
    training_avx512::quantize,
    training_avx512::take_codes,
    training_avx512::largest,
    training_avx512::gradient_codes,
    training_avx512::interleave,
    training_avx512::dots,
    training_avx512::finish_forward,
    training_avx512::finish_gradient,
    training_avx512::weight_dots,
    training_avx512::transpose,
    training_avx512::outer,
    nullptr,
};

}  // namespace bitorch
