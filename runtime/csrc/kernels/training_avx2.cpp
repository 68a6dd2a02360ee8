// The training kernels with AVX2 and FMA.
//
// There is no instruction that adds four products of bytes to 32 bits. What stands for it depends on the largest
// |product| of a job, as the few bits of training leave room in 16 bits:
//   words    vpmaddubsw and vpaddw: two products a step in each word, widened by vpmaddwd when no more steps fit
//   dwords   where fewer than four steps fit: vpmaddubsw, vpmaddwd by ones and vpaddd
//   wide     where not even one does: even and odd bytes as words, two vpmaddwd and two vpaddd
// A step of 32 products takes two, three and four instructions: 2.8, 1.8 and 1.1 times as many products a cycle as
// floats have, measured on Zen 3.
#include <immintrin.h>

#include <cstdint>

#include "../core/training_kernels.h"

namespace bitorch {

namespace training_avx2 {

namespace {

constexpr int kVector = 8;
constexpr int kStepBytes = 4 * kTileChannels;

__m256i load(const void* from) { return _mm256_load_si256(static_cast<const __m256i*>(from)); }
__m256i load_anywhere(const void* from) { return _mm256_loadu_si256(static_cast<const __m256i*>(from)); }
void store(void* to, __m256i value) { _mm256_store_si256(static_cast<__m256i*>(to), value); }
void store_anywhere(void* to, __m256i value) { _mm256_storeu_si256(static_cast<__m256i*>(to), value); }

// All ones in the first n lanes.
__m256i first8(int64_t n) {
  const auto lanes = static_cast<int32_t>(n < kVector ? n : kVector);
  return _mm256_cmpgt_epi32(_mm256_set1_epi32(lanes), _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7));
}

// The first n floats, if there are as many; masked stores take many cycles.
void store_floats(float* to, int64_t n, __m256 value) {
  if (n >= kVector) {
    _mm256_storeu_ps(to, value);
  } else {
    _mm256_maskstore_ps(to, first8(n), value);
  }
}

int32_t dword(const uint8_t* from) {
  int32_t value;
  __builtin_memcpy(&value, from, sizeof value);
  return value;
}

__m256i twice_and(__m256i sum, __m256i more) { return _mm256_add_epi32(_mm256_add_epi32(sum, sum), more); }

#include "training_avx2_bytes.inl"
#include "training_avx2_finish.inl"
#include "training_avx2_products.inl"

}  // namespace

}  // namespace training_avx2

constexpr TrainingKernels kAvx2Training = {
    "avx2",
    training_avx2::quantize,
    training_avx2::take_codes,
    training_avx2::largest,
    training_avx2::gradient_codes,
    training_avx2::interleave,
    training_avx2::dots,
    training_avx2::finish_forward,
    training_avx2::finish_gradient,
    training_avx2::weight_dots,
    training_avx2::transpose,
    training_avx2::outer,
    nullptr,
};

}  // namespace bitorch
