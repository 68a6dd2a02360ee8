// Linear layers of few pixels with AVX2: vpmaddubsw on fields of up to 4 bits. Codes in bytes in; codes, floats or both
// out.
//
// vpmaddubsw adds two products in 16 bits and saturates, so here each field is taken out of its byte
// (fused_linear.inl), and pairs, at most 2 * 15 * 255, are added up for as many groups as 16 bits hold: 16 of 1 bit, 5
// of 2 bits, 1 of 4. 32 products are at most 4 operations, what moves sums to 32 bits aside: shift, and, multiply, add;
// several pixels share the first two.
#include <immintrin.h>

#include <cstdint>

#include "../core/fused.h"
#include "../core/kernels.h"

namespace bitorch {

namespace fused_linear_avx2 {

// Members of classes are inline, and so emitted weakly wherever they are not inlined, unless their class is local.
namespace {

#include "fused_loops.inl"

#include "fused_plain.inl"

#include "fused_linear.inl"

#include "fused_linear_pixels.inl"

#include "fused_linear_cost.inl"

constexpr int kMostField = 4;
constexpr int kMostPixels = 3;  // at a time

static constexpr int groups_in_16_bits(int field) { return field == 1 ? 16 : field == 2 ? 5 : 1; }

static inline __m256i load(const void* from) { return _mm256_loadu_si256(static_cast<const __m256i*>(from)); }

// Half h, 8 channels, of field f of the four input channels s.
template <int field, int s, int f, int h>
static inline __attribute__((always_inline)) __m256i field_of(const uint8_t* group) {
  constexpr int bit = (4 * s + f) * field, shift = bit % 8;
  __m256i word = load(group + bit / 8 * 64 + 32 * h);
  if (shift != 0) word = _mm256_srli_epi16(word, shift);
  return _mm256_and_si256(word, _mm256_set1_epi8(static_cast<char>((1 << field) - 1)));
}

static inline void add_words(int32_t* sums, __m256i words) {
  const __m256i more = _mm256_madd_epi16(words, _mm256_set1_epi16(1));
  _mm256_storeu_si256(reinterpret_cast<__m256i*>(sums), _mm256_add_epi32(load(sums), more));
}

static inline __m256i codes_of(const uint8_t* x) {
  int32_t word;
  __builtin_memcpy(&word, x, 4);
  return _mm256_set1_epi32(word);
}

// Sums of m q of 8 channels of each field, for P pixels.
template <int field, int P, int h>
static inline void half_of_pixels(const uint8_t* const* x, const uint8_t* weights, int64_t groups, int32_t* sums) {
  for (int64_t g = 0; g < groups;) {
    const int64_t end = groups - g < groups_in_16_bits(field) ? groups : g + groups_in_16_bits(field);
    __m256i sum[4 * P];
    For<0, 4 * P>::each([&](auto i) __attribute__((always_inline)) { sum[i] = _mm256_setzero_si256(); });
    for (; g < end; ++g) {
      const uint8_t* const group = weights + g * 128 * field;
      For<0, 4>::each([&](auto s) __attribute__((always_inline)) {
        For<0, 4>::each([&](auto f) __attribute__((always_inline)) {
          const __m256i w = field_of<field, decltype(s)::value, decltype(f)::value, h>(group);
          For<0, P>::each([&](auto p) __attribute__((always_inline)) {
            const __m256i codes = codes_of(x[p] + g * kLinearGroup + 4 * s);
            sum[4 * p + f] = _mm256_add_epi16(sum[4 * p + f], _mm256_maddubs_epi16(codes, w));
          });
        });
      });
    }
    For<0, 4 * P>::each([&](auto i) __attribute__((always_inline)) {
      add_words(sums + i / 4 * kFusedChannels + i % 4 * 16 + 8 * h, sum[i]);
    });
  }
}

// Both halves at once, so that the weights are met once.
template <int field>
static __attribute__((noinline)) void one_pixel(const uint8_t* x, const uint8_t* weights, int64_t groups,
                                                int32_t* sums) {
  for (int64_t g = 0; g < groups;) {
    const int64_t end = groups - g < groups_in_16_bits(field) ? groups : g + groups_in_16_bits(field);
    __m256i sum[8];
    For<0, 8>::each([&](auto i) __attribute__((always_inline)) { sum[i] = _mm256_setzero_si256(); });
    for (; g < end; ++g, x += kLinearGroup) {
      const uint8_t* const group = weights + g * 128 * field;
      For<0, 4>::each([&](auto s) __attribute__((always_inline)) {
        const __m256i codes = codes_of(x + 4 * s);
        For<0, 8>::each([&](auto i) __attribute__((always_inline)) {
          constexpr int f = decltype(i)::value / 2, h = decltype(i)::value % 2;
          const __m256i w = field_of<field, decltype(s)::value, f, h>(group);
          sum[i] = _mm256_add_epi16(sum[i], _mm256_maddubs_epi16(codes, w));
        });
      });
    }
    For<0, 8>::each([&](auto i) __attribute__((always_inline)) { add_words(sums + i / 2 * 16 + i % 2 * 8, sum[i]); });
  }
}

template <int field, int P>
static __attribute__((noinline)) void some_pixels(const uint8_t* const* x, const uint8_t* weights, int64_t groups,
                                                  int32_t* sums) {
  half_of_pixels<field, P, 0>(x, weights, groups, sums);
  half_of_pixels<field, P, 1>(x, weights, groups, sums);
}

template <int field>
static void multiply(const uint8_t* const* x, int pixels, const uint8_t* weights, int64_t groups, int32_t* sums) {
  __builtin_memset(sums, 0, static_cast<unsigned>(pixels) * kFusedChannels * 4);
  if (pixels == 1) return one_pixel<field>(x[0], weights, groups, sums);
  if (pixels == 2) return some_pixels<field, 2>(x, weights, groups, sums);
  some_pixels<field, 3>(x, weights, groups, sums);
}

#include "fused_linear_plain.inl"

// 32 products are 2 operations for each pixel, at about three a cycle, and 2 more that pixels share.
static double cost(const FusedSpec* spec, Machine machine) {
  if (!is_linear(spec) || field_bits(spec->weight_bits) > kMostField) return -1;
  const LinearMachine& on = linear_machine(machine);
  const double pixels = static_cast<double>(spec->height) * spec->width;
  const double shared = pixels < kMostPixels ? 1 : pixels / kMostPixels;
  const double vectors = static_cast<double>(linear_blocks(spec) * linear_groups(spec)) * 32;
  const double products = vectors * on.cycle / 3 * (2.3 * pixels + 1.9 * shared);
  const double weights = weight_nanoseconds(spec, on);
  return (products > weights ? products : weights) + 2 * linear_rest(spec, on, pixels);
}

}  // namespace

}  // namespace fused_linear_avx2

extern const FusedKernel kFusedLinearAvx2 = {"linear avx2",
                                             fused_linear_avx2::cost,
                                             fused_linear_avx2::linear_bytes,
                                             fused_linear_avx2::prepare,
                                             fused_linear_avx2::scratch_bytes,
                                             fused_linear_avx2::run,
                                             true};

}  // namespace bitorch
