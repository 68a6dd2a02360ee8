// Bit planes with AVX512_VPOPCNTDQ, for the forward of layers of few bits: of 16 output channels and one dword, 512
// products of one bit in three instructions. Tiles and compiler flags as in training_avx512.cpp.

// GCC 12 takes the undefined operands inside its own AVX-512 intrinsics for uninitialised variables (GCC bug 105593).
#pragma GCC diagnostic ignored "-Wmaybe-uninitialized"
#pragma GCC diagnostic ignored "-Wuninitialized"

#include <immintrin.h>

#include <cstdint>

#include "../core/training_kernels.h"

namespace bitorch {

namespace training_avx512_vpopcntdq {

namespace {

constexpr int kVector = 16;
constexpr int kVectors = kTileChannels / kVector;

int32_t dword(const uint8_t* from) {
  int32_t value;
  __builtin_memcpy(&value, from, sizeof value);
  return value;
}

// sum += x in the register of the sum: GCC 12 collects the counts of a whole tile first, and puts sums on the stack.
void add(__m512i& sum, __m512i x) {
#ifdef BITORCH_NO_ASM
  sum = _mm512_add_epi32(sum, x);
#else
  __asm__("vpaddd %1, %0, %0" : "+v"(sum) : "v"(x));
#endif
}

// The first `bytes` bytes of `bits`.
void put_bits(uint64_t bits, int64_t bytes, uint8_t* out) {
  if (bytes >= 8) {
    __builtin_memcpy(out, &bits, 8);
    return;
  }
  for (int64_t b = 0; b < bytes; ++b) out[b] = static_cast<uint8_t>(bits >> (8 * b));
}

void planes(const PlanePixels* p) {
  const __m512i add = _mm512_set1_epi8(static_cast<char>(p->add));
  for (int64_t x = 0; x < p->pixels; ++x) {
    int64_t sum = 0;
    for (int64_t c = 0; c < p->channels; c += 64) {
      const int64_t left = p->channels - c;
      const __mmask64 there = left >= 64 ? ~__mmask64{0} : (__mmask64{1} << left) - 1;
      const __m512i v = _mm512_add_epi8(_mm512_maskz_loadu_epi8(there, p->codes + x * p->step + c), add);
      uint8_t* out = p->out + x * p->out_step + c / 8;
      for (int32_t j = 0; j < p->planes; ++j) {
        const uint64_t bits =
            _mm512_mask_test_epi8_mask(there, v, _mm512_set1_epi8(static_cast<char>(1 << (p->low + j))));
        sum += static_cast<int64_t>(_mm_popcnt_u64(bits)) << j;
        put_bits(bits, (left + 7) / 8, out + j * p->plane_step);
      }
    }
    if (p->sums != nullptr) p->sums[x] = static_cast<int32_t>(sum);
  }
}

// Planes run from the highest i + j down, and sums double from one i + j to the next.
template <int P, int V>
__attribute__((noinline)) void plane_tile(const PlaneDots* t) {
  __m512i sum[P][V];
#pragma GCC unroll 8
  for (int p = 0; p < P; ++p) {
#pragma GCC unroll 4
    for (int v = 0; v < V; ++v) sum[p][v] = _mm512_setzero_si512();
  }
  const int64_t in_step = t->in_step;
  int32_t level = t->rows == 0 ? -1 : t->code_planes + t->weight_planes - 2;
  if (level >= 0) do {
      int32_t i = level < t->code_planes ? 0 : level - t->code_planes + 1;
      const int32_t last = level < t->weight_planes ? level : t->weight_planes - 1;
      do {
        const uint8_t* in_row = t->in + (level - i) * t->in_plane;
        const uint32_t* weight_row = t->weights + i * t->weight_plane;
        int32_t rows = t->rows;
        do {
          const uint8_t* in = in_row;
          const uint32_t* weights = weight_row;
          int32_t steps = t->steps;
          do {
            __m512i w[V];
#pragma GCC unroll 4
            for (int v = 0; v < V; ++v) w[v] = _mm512_load_si512(weights + kVector * v);
            weights += kTileChannels;
#pragma GCC unroll 8
            for (int p = 0; p < P; ++p) {
              const __m512i codes = _mm512_set1_epi32(dword(in + p * in_step));
#pragma GCC unroll 4
              for (int v = 0; v < V; ++v) {
                add(sum[p][v], _mm512_popcnt_epi32(_mm512_and_si512(codes, w[v])));
              }
            }
            in += 4;
          } while (--steps != 0);
          in_row += t->in_row;
          weight_row += t->weight_row;
        } while (--rows != 0);
      } while (i++ != last);
      if (level != 0) {
#pragma GCC unroll 8
        for (int p = 0; p < P; ++p) {
#pragma GCC unroll 4
          for (int v = 0; v < V; ++v) sum[p][v] = _mm512_add_epi32(sum[p][v], sum[p][v]);
        }
      }
    } while (level-- != 0);
#pragma GCC unroll 8
  for (int p = 0; p < P; ++p) {
#pragma GCC unroll 4
    for (int v = 0; v < V; ++v) _mm512_store_si512(t->tile + p * kTileChannels + kVector * v, sum[p][v]);
  }
}

using Tile = void (*)(const PlaneDots*);

constexpr Tile kDots[kTilePixels][kVectors] = {
    {plane_tile<1, 1>, plane_tile<1, 2>, plane_tile<1, 3>, plane_tile<1, 4>},
    {plane_tile<2, 1>, plane_tile<2, 2>, plane_tile<2, 3>, plane_tile<2, 4>},
    {plane_tile<3, 1>, plane_tile<3, 2>, plane_tile<3, 3>, plane_tile<3, 4>},
    {plane_tile<4, 1>, plane_tile<4, 2>, plane_tile<4, 3>, plane_tile<4, 4>},
    {plane_tile<5, 1>, plane_tile<5, 2>, plane_tile<5, 3>, plane_tile<5, 4>},
    {plane_tile<6, 1>, plane_tile<6, 2>, plane_tile<6, 3>, plane_tile<6, 4>}};

void dots(const PlaneDots* t) { kDots[t->pixels - 1][(t->channels - 1) / kVector](t); }

}  // namespace

}  // namespace training_avx512_vpopcntdq

constexpr PlaneKernels kAvx512Planes = {training_avx512_vpopcntdq::planes, training_avx512_vpopcntdq::dots};

}  // namespace bitorch
