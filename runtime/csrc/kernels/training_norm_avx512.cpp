// The loops that core/training_norm_kernels.h describes, with AVX-512. Sums go over pixels with up to 64 channels in
// four vectors; runs go over numbers whatever their channel, as the arrays of channels are periodic.

// GCC 12 takes the undefined operands inside its own AVX-512 intrinsics for uninitialised variables (GCC bug 105593).
#pragma GCC diagnostic ignored "-Wmaybe-uninitialized"
#pragma GCC diagnostic ignored "-Wuninitialized"

#include <immintrin.h>

#include <cstdint>

#include "../core/training_norm_kernels.h"

namespace bitorch {

namespace training_norm_avx512 {

namespace {

constexpr int kVector = 16;

__mmask16 first16(int64_t n) { return static_cast<__mmask16>(n >= 16 ? 0xffff : n <= 0 ? 0 : (1u << n) - 1); }
__mmask64 first64(int64_t n) { return n >= 64 ? ~__mmask64{0} : (__mmask64{1} << n) - 1; }

// 4 x 16 numbers of 32 bits as 64 bytes, saturated.
__m512i narrow(const __m512i* of) {
  const __m512i bytes = _mm512_packus_epi16(_mm512_packs_epi32(of[0], of[1]), _mm512_packs_epi32(of[2], of[3]));
  return _mm512_permutexvar_epi32(_mm512_setr_epi32(0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15), bytes);
}

// The channel of the number that follows a run of `step` % channels numbers.
int64_t further(int64_t channel, int64_t step, int64_t channels) {
  const int64_t next = channel + step;
  return next >= channels ? next - channels : next;
}

void moments(const ChannelMoments* m) {
  const __m512 count = _mm512_set1_ps(static_cast<float>(m->pixels));
  for (int64_t c = 0; c < m->channels; c += 4 * kVector) {
    __mmask16 there[4];
    __m512 mean[4], sum[4], squares[4];
#pragma GCC unroll 4
    for (int v = 0; v < 4; ++v) {
      there[v] = first16(m->channels - c - kVector * v);
      mean[v] = sum[v] = squares[v] = _mm512_setzero_ps();
    }
    const float* x = m->x + c;
    for (int64_t p = 0; p < m->pixels; ++p, x += m->channels) {
#pragma GCC unroll 4
      for (int v = 0; v < 4; ++v) mean[v] = _mm512_add_ps(mean[v], _mm512_maskz_loadu_ps(there[v], x + kVector * v));
    }
#pragma GCC unroll 4
    for (int v = 0; v < 4; ++v) mean[v] = _mm512_div_ps(mean[v], count);
    x = m->x + c;
    for (int64_t p = 0; p < m->pixels; ++p, x += m->channels) {
#pragma GCC unroll 4
      for (int v = 0; v < 4; ++v) {
        const __m512 d = _mm512_sub_ps(_mm512_maskz_loadu_ps(there[v], x + kVector * v), mean[v]);
        sum[v] = _mm512_add_ps(sum[v], d);
        squares[v] = _mm512_fmadd_ps(d, d, squares[v]);
      }
    }
#pragma GCC unroll 4
    for (int v = 0; v < 4; ++v) {
      const int64_t at = c + kVector * v;
      _mm512_mask_storeu_ps(m->mean + at, there[v], mean[v]);
      _mm512_mask_storeu_ps(m->sum + at, there[v], sum[v]);
      _mm512_mask_storeu_ps(m->squares + at, there[v], squares[v]);
    }
  }
}

void quantize(const AffineQuantize* q) {
  const __m512 zero = _mm512_setzero_ps(), one = _mm512_set1_ps(1), factor = _mm512_set1_ps(q->levels);
  const int64_t step = 64 % q->channels;
  const uint64_t all = q->positive ? 0 : ~uint64_t{0};
  for (int64_t i = 0, channel = 0; i < q->n; i += 64, channel = further(channel, step, q->channels)) {
    __m512i whole[4];
    uint64_t same = 0, above = all;
#pragma GCC unroll 4
    for (int k = 0; k < 4; ++k) {
      const __mmask16 there = first16(q->n - i - kVector * k);
      const int64_t at = channel + kVector * k;
      const __m512 x = _mm512_maskz_loadu_ps(there, q->x + i + kVector * k);
      const __m512 v = _mm512_fmadd_ps(x, _mm512_loadu_ps(q->scale + at), _mm512_loadu_ps(q->shift + at));
      const __m512 clipped = _mm512_min_ps(_mm512_max_ps(v, zero), one);
      // Within the range a number is what it is clipped to.
      same |= static_cast<uint64_t>(_mm512_mask_cmp_ps_mask(there, v, clipped, _CMP_EQ_OQ)) << (kVector * k);
      above |= static_cast<uint64_t>(_mm512_cmp_ps_mask(v, zero, _CMP_GT_OQ)) << (kVector * k);
      whole[k] = _mm512_cvtps_epi32(_mm512_mul_ps(clipped, factor));
    }
    _mm512_mask_storeu_epi8(q->codes + i, first64(q->n - i), narrow(whole));
    if (q->inside == nullptr) continue;
    const uint64_t bits = same & above;
    if (q->n - i >= 64) {
      __builtin_memcpy(q->inside + i / 8, &bits, 8);
    } else {
      for (int64_t b = 0; 8 * b < q->n - i; ++b) q->inside[i / 8 + b] = static_cast<uint8_t>(bits >> (8 * b));
    }
  }
}

void pool(const AffinePool* p) {
  for (int64_t c = 0; c < p->channels; c += kVector) {
    const __mmask16 there = first16(p->channels - c);
    const __m512 scale = _mm512_maskz_loadu_ps(there, p->scale + c), shift = _mm512_maskz_loadu_ps(there, p->shift + c);
    const float *upper = p->upper + c, *lower = p->lower + c;
    for (int64_t i = 0; i < p->pixels; ++i, upper += 2 * p->channels, lower += 2 * p->channels) {
      const float* of[4] = {upper, upper + p->channels, lower, lower + p->channels};
      __m512 largest = _mm512_fmadd_ps(_mm512_maskz_loadu_ps(there, of[0]), scale, shift);
      __m512i winner = _mm512_setzero_si512();
#pragma GCC unroll 3
      for (int k = 1; k < 4; ++k) {
        const __m512 v = _mm512_fmadd_ps(_mm512_maskz_loadu_ps(there, of[k]), scale, shift);
        const auto wins =
            static_cast<__mmask16>(_mm512_cmp_ps_mask(v, largest, _CMP_GT_OQ) | _mm512_cmp_ps_mask(v, v, _CMP_UNORD_Q));
        largest = _mm512_mask_mov_ps(largest, wins, v);
        winner = _mm512_mask_mov_epi32(winner, wins, _mm512_set1_epi32(k));
      }
      _mm512_mask_storeu_ps(p->largest + i * p->channels + c, there, largest);
      _mm512_mask_cvtepi32_storeu_epi8(p->winners + i * p->channels + c, there, winner);
    }
  }
}

void products(const ChannelProducts* r) {
  for (int64_t c = 0; c < r->channels; c += 4 * kVector) {
    __mmask16 there[4];
    __m512 mean[4], sum[4], products[4];
#pragma GCC unroll 4
    for (int v = 0; v < 4; ++v) {
      there[v] = first16(r->channels - c - kVector * v);
      mean[v] = _mm512_maskz_loadu_ps(there[v], r->mean + c + kVector * v);
      sum[v] = products[v] = _mm512_setzero_ps();
    }
    for (int64_t p = 0; p < r->pixels; ++p) {
#pragma GCC unroll 4
      for (int v = 0; v < 4; ++v) {
        const int64_t at = p * r->channels + c + kVector * v;
        const __m512 g = _mm512_maskz_loadu_ps(there[v], r->g + at);
        const __m512 d = _mm512_sub_ps(_mm512_maskz_loadu_ps(there[v], r->x + at), mean[v]);
        sum[v] = _mm512_add_ps(sum[v], g);
        products[v] = _mm512_fmadd_ps(g, d, products[v]);
      }
    }
#pragma GCC unroll 4
    for (int v = 0; v < 4; ++v) {
      _mm512_mask_storeu_ps(r->sum + c + kVector * v, there[v], sum[v]);
      _mm512_mask_storeu_ps(r->products + c + kVector * v, there[v], products[v]);
    }
  }
}

__m512i winners_of(const uint8_t* from, __mmask16 there) {
  return _mm512_cvtepu8_epi32(_mm_maskz_loadu_epi8(there, from));
}

void pool_products(const PoolProducts* r) {
  for (int64_t c = 0; c < r->channels; c += kVector) {
    const __mmask16 there = first16(r->channels - c);
    const __m512 mean = _mm512_maskz_loadu_ps(there, r->mean + c);
    __m512 sum = _mm512_setzero_ps(), products = sum;
    for (int64_t p = 0; p < r->pixels; ++p) {
      const int64_t at = p * r->channels + c, window = 2 * p * r->channels + c;
      const float* of[4] = {r->upper + window, r->upper + window + r->channels, r->lower + window,
                            r->lower + window + r->channels};
      const __m512i winner = winners_of(r->winners + at, there);
      __m512 x = _mm512_maskz_loadu_ps(there, of[0]);
#pragma GCC unroll 3
      for (int k = 1; k < 4; ++k) {
        const __mmask16 wins = _mm512_mask_cmpeq_epi32_mask(there, winner, _mm512_set1_epi32(k));
        x = _mm512_mask_loadu_ps(x, wins, of[k]);
      }
      const __m512 g = _mm512_maskz_loadu_ps(there, r->g + at);
      sum = _mm512_add_ps(sum, g);
      products = _mm512_fmadd_ps(g, _mm512_sub_ps(x, mean), products);
    }
    _mm512_mask_storeu_ps(r->sum + c, there, sum);
    _mm512_mask_storeu_ps(r->products + c, there, products);
  }
}

void gradient(const NormGradient* d) {
  const int64_t step = kVector % d->channels;
  for (int64_t i = 0, channel = 0; i < d->n; i += kVector, channel = further(channel, step, d->channels)) {
    const __mmask16 there = first16(d->n - i);
    const __m512 x = _mm512_sub_ps(_mm512_maskz_loadu_ps(there, d->x + i), _mm512_loadu_ps(d->mean + channel));
    const __m512 rest = _mm512_fmadd_ps(_mm512_loadu_ps(d->b + channel), x, _mm512_loadu_ps(d->c + channel));
    const __m512 g = d->g == nullptr ? _mm512_setzero_ps() : _mm512_maskz_loadu_ps(there, d->g + i);
    _mm512_mask_storeu_ps(d->out + i, there, _mm512_fmadd_ps(_mm512_loadu_ps(d->a + channel), g, rest));
  }
}

void pool_gradient(const PoolGradient* d) {
  for (int64_t c = 0; c < d->channels; c += kVector) {
    const __mmask16 there = first16(d->channels - c);
    const __m512 mean = _mm512_maskz_loadu_ps(there, d->mean + c), of_g = _mm512_maskz_loadu_ps(there, d->a + c);
    const __m512 of_x = _mm512_maskz_loadu_ps(there, d->b + c), constant = _mm512_maskz_loadu_ps(there, d->c + c);
    for (int64_t p = 0; p < d->pixels; ++p) {
      const int64_t at = p * d->channels + c, window = 2 * p * d->channels + c;
      const __m512 g = _mm512_maskz_loadu_ps(there, d->g + at);
      const __m512i winner = winners_of(d->winners + at, there);
#pragma GCC unroll 4
      for (int k = 0; k < 4; ++k) {
        const int64_t to = window + k % 2 * d->channels;
        const __mmask16 wins = _mm512_cmpeq_epi32_mask(winner, _mm512_set1_epi32(k));
        const __m512 x = _mm512_sub_ps(_mm512_maskz_loadu_ps(there, (k < 2 ? d->upper : d->lower) + to), mean);
        const __m512 rest = _mm512_fmadd_ps(of_x, x, constant);
        const __m512 out = _mm512_fmadd_ps(of_g, _mm512_maskz_mov_ps(wins, g), rest);
        _mm512_mask_storeu_ps((k < 2 ? d->out_upper : d->out_lower) + to, there, out);
      }
    }
  }
}

}  // namespace

}  // namespace training_norm_avx512

constexpr TrainingNormKernels kAvx512TrainingNorm = {
    "avx512",
    training_norm_avx512::moments,
    training_norm_avx512::quantize,
    training_norm_avx512::pool,
    training_norm_avx512::products,
    training_norm_avx512::pool_products,
    training_norm_avx512::gradient,
    training_norm_avx512::pool_gradient,
};

}  // namespace bitorch
