// The loops that core/training_norm_kernels.h describes, with AVX2. Sums go over pixels with up to 32 channels in four
// vectors; runs go over numbers whatever their channel, as the arrays of channels are periodic; windows go over pixels
// in the order of memory.
//
// With AVX-512 every access has a mask, which is free there. Here a store with one takes as long as a dozen without, so
// whole vectors and the last channels or numbers are different code.
#include <immintrin.h>

#include <cstdint>

#include "../core/training_norm_kernels.h"

namespace bitorch {

namespace training_norm_avx2 {

namespace {

constexpr int kVector = 8;

__m256i first8(int64_t n) {
  const __m256i lanes = _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7);
  return _mm256_cmpgt_epi32(_mm256_set1_epi32(static_cast<int>(n < kVector ? n : kVector)), lanes);
}

// 8 numbers of 0 .. 255 as bytes, in the lower half.
__m128i narrow(__m256i of) {
  const __m128i words = _mm_packs_epi32(_mm256_castsi256_si128(of), _mm256_extracti128_si256(of, 1));
  return _mm_packus_epi16(words, words);
}

// 4 x 8 of them.
__m256i narrow(const __m256i* of) {
  const __m256i bytes = _mm256_packus_epi16(_mm256_packs_epi32(of[0], of[1]), _mm256_packs_epi32(of[2], of[3]));
  return _mm256_permutevar8x32_epi32(bytes, _mm256_setr_epi32(0, 4, 1, 5, 2, 6, 3, 7));
}

// Jobs are copied where loops store, or pointers would be read again behind each store, as vectors may alias anything.

// The first `count` of 8 bytes, in the lower half.
__m128i load_bytes(const uint8_t* from, int64_t count) {
  if (count >= kVector) return _mm_loadl_epi64(reinterpret_cast<const __m128i*>(from));
  uint64_t bytes = 0;
  for (int64_t i = 0; i < count; ++i) bytes |= static_cast<uint64_t>(from[i]) << (8 * i);
  return _mm_cvtsi64_si128(static_cast<int64_t>(bytes));
}

// How a vector of 8 numbers lies in memory: whole, or the first 1 to 7 of them.
struct Whole {
  __m256 load(const float* from) const { return _mm256_loadu_ps(from); }
  void store(float* to, __m256 x) const { _mm256_storeu_ps(to, x); }
  __m128i bytes(const uint8_t* from) const { return load_bytes(from, kVector); }
  void store_bytes(uint8_t* to, __m128i x) const { _mm_storel_epi64(reinterpret_cast<__m128i*>(to), x); }
};

struct First {
  explicit First(int64_t n) : there(first8(n)), count(n) {}
  __m256 load(const float* from) const { return _mm256_maskload_ps(from, there); }
  void store(float* to, __m256 x) const { _mm256_maskstore_ps(to, there, x); }
  __m128i bytes(const uint8_t* from) const { return load_bytes(from, count); }
  void store_bytes(uint8_t* to, __m128i x) const {
    const auto of = static_cast<uint64_t>(_mm_cvtsi128_si64(x));
    for (int64_t i = 0; i < count; ++i) to[i] = static_cast<uint8_t>(of >> (8 * i));
  }

  __m256i there;
  int64_t count;
};

// Channels of a sum: kCount vectors from `channel` on, the last of 1 to 8 channels.
template <int kCount>
struct Vectors {
  Vectors(int64_t channels, int64_t channel)
      : count(channels - channel - kVector * (kCount - 1)), there(first8(count)) {}
  __m256 load(const float* from, int v) const {
    return v < kCount - 1 ? _mm256_loadu_ps(from + kVector * v) : _mm256_maskload_ps(from + kVector * v, there);
  }
  __m128i bytes(const uint8_t* from, int v) const {
    return load_bytes(from + kVector * v, v < kCount - 1 ? kVector : count);
  }
  void store(float* to, const __m256* x) const {
#pragma GCC unroll 4
    for (int v = 0; v < kCount - 1; ++v) _mm256_storeu_ps(to + kVector * v, x[v]);
    _mm256_maskstore_ps(to + kVector * (kCount - 1), there, x[kCount - 1]);
  }

  int64_t count;  // of the last
  __m256i there;
};

// Sum::add<n>(job, c) for all channels, n vectors from c on at a time.
template <class Sum, class Job>
void add_channels(const Job* job) {
  for (int64_t c = 0; c < job->channels; c += 4 * kVector) {
    const int64_t rest = job->channels - c;
    if (rest > 3 * kVector) {
      Sum::template add<4>(job, c);
    } else if (rest > 2 * kVector) {
      Sum::template add<3>(job, c);
    } else if (rest > kVector) {
      Sum::template add<2>(job, c);
    } else {
      Sum::template add<1>(job, c);
    }
  }
}

struct Moments {
  template <int kCount>
  static void add(const ChannelMoments* m, int64_t c) {
    const Vectors<kCount> vectors(m->channels, c);
    __m256 mean[kCount], sum[kCount], squares[kCount];
#pragma GCC unroll 4
    for (int v = 0; v < kCount; ++v) mean[v] = sum[v] = squares[v] = _mm256_setzero_ps();
    const float* x = m->x + c;
    for (int64_t p = 0; p < m->pixels; ++p, x += m->channels) {
#pragma GCC unroll 4
      for (int v = 0; v < kCount; ++v) mean[v] = _mm256_add_ps(mean[v], vectors.load(x, v));
    }
    const __m256 count = _mm256_set1_ps(static_cast<float>(m->pixels));
#pragma GCC unroll 4
    for (int v = 0; v < kCount; ++v) mean[v] = _mm256_div_ps(mean[v], count);
    x = m->x + c;
    for (int64_t p = 0; p < m->pixels; ++p, x += m->channels) {
#pragma GCC unroll 4
      for (int v = 0; v < kCount; ++v) {
        const __m256 d = _mm256_sub_ps(vectors.load(x, v), mean[v]);
        sum[v] = _mm256_add_ps(sum[v], d);
        squares[v] = _mm256_fmadd_ps(d, d, squares[v]);
      }
    }
    vectors.store(m->mean + c, mean);
    vectors.store(m->sum + c, sum);
    vectors.store(m->squares + c, squares);
  }
};

void moments(const ChannelMoments* m) { add_channels<Moments>(m); }

struct Products {
  template <int kCount>
  static void add(const ChannelProducts* r, int64_t c) {
    const Vectors<kCount> vectors(r->channels, c);
    __m256 mean[kCount], sum[kCount], products[kCount];
#pragma GCC unroll 4
    for (int v = 0; v < kCount; ++v) {
      mean[v] = vectors.load(r->mean + c, v);
      sum[v] = products[v] = _mm256_setzero_ps();
    }
    const float *g = r->g + c, *x = r->x + c;
    for (int64_t p = 0; p < r->pixels; ++p, g += r->channels, x += r->channels) {
#pragma GCC unroll 4
      for (int v = 0; v < kCount; ++v) {
        const __m256 of_g = vectors.load(g, v);
        sum[v] = _mm256_add_ps(sum[v], of_g);
        products[v] = _mm256_fmadd_ps(of_g, _mm256_sub_ps(vectors.load(x, v), mean[v]), products[v]);
      }
    }
    vectors.store(r->sum + c, sum);
    vectors.store(r->products + c, products);
  }
};

void products(const ChannelProducts* r) { add_channels<Products>(r); }

// The channel of the number that follows a run of `step` % channels numbers.
int64_t further(int64_t channel, int64_t step, int64_t channels) {
  const int64_t next = channel + step;
  return next >= channels ? next - channels : next;
}

// Codes of 32 numbers from `channel` on, and the bits of those within the range.
uint32_t quantize32(const AffineQuantize& q, const float* x, int64_t channel, uint8_t* codes) {
  const __m256 one = _mm256_set1_ps(1), levels = _mm256_set1_ps(q.levels);
  const __m256 least = _mm256_set1_ps(q.positive ? 0x1p-149f : 0);  // no float is between 0 and the first
  __m256i whole[4];
  uint32_t inside = 0;
#pragma GCC unroll 4
  for (int k = 0; k < 4; ++k) {
    const int64_t at = channel + kVector * k;
    const __m256 v =
        _mm256_fmadd_ps(_mm256_loadu_ps(x + kVector * k), _mm256_loadu_ps(q.scale + at), _mm256_loadu_ps(q.shift + at));
    const __m256 is_in = _mm256_and_ps(_mm256_cmp_ps(v, least, _CMP_GE_OQ), _mm256_cmp_ps(v, one, _CMP_LE_OQ));
    inside |= static_cast<uint32_t>(_mm256_movemask_ps(is_in)) << (kVector * k);
    // Below 0 numbers saturate at 0 as they become bytes; so does a NaN, of which this is the least integer.
    whole[k] = _mm256_cvtps_epi32(_mm256_min_ps(levels, _mm256_mul_ps(v, levels)));
  }
  _mm256_storeu_si256(reinterpret_cast<__m256i*>(codes), narrow(whole));
  return inside;
}

void quantize(const AffineQuantize* job) {
  const AffineQuantize q = *job;
  const int64_t step = 32 % q.channels;
  int64_t i = 0, channel = 0;
  for (; i + 32 <= q.n; i += 32, channel = further(channel, step, q.channels)) {
    const uint32_t inside = quantize32(q, q.x + i, channel, q.codes + i);
    if (q.inside != nullptr) __builtin_memcpy(q.inside + i / 8, &inside, 4);
  }
  const int64_t rest = q.n - i;
  if (rest == 0) return;
  float x[32] = {};
  uint8_t codes[32];
  for (int64_t k = 0; k < rest; ++k) x[k] = q.x[i + k];
  const uint32_t inside = quantize32(q, x, channel, codes) & ((1u << rest) - 1);
  for (int64_t k = 0; k < rest; ++k) q.codes[i + k] = codes[k];
  if (q.inside == nullptr) return;
  for (int64_t k = 0; k < rest; k += 8) q.inside[(i + k) / 8] = static_cast<uint8_t>(inside >> k);
}

template <class Lanes>
void pool8(const AffinePool& p, int64_t pixel, int64_t c, const Lanes& lanes) {
  const int64_t at = pixel * p.channels + c, window = 2 * pixel * p.channels + c;
  const float* of[4] = {p.upper + window, p.upper + window + p.channels, p.lower + window,
                        p.lower + window + p.channels};
  const __m256 scale = lanes.load(p.scale + c), shift = lanes.load(p.shift + c);
  __m256 largest = _mm256_fmadd_ps(lanes.load(of[0]), scale, shift);
  __m256i winner = _mm256_setzero_si256();
#pragma GCC unroll 3
  for (int k = 1; k < 4; ++k) {
    const __m256 v = _mm256_fmadd_ps(lanes.load(of[k]), scale, shift);
    const __m256 wins = _mm256_or_ps(_mm256_cmp_ps(v, largest, _CMP_GT_OQ), _mm256_cmp_ps(v, v, _CMP_UNORD_Q));
    largest = _mm256_blendv_ps(largest, v, wins);
    winner = _mm256_blendv_epi8(winner, _mm256_set1_epi32(k), _mm256_castps_si256(wins));
  }
  lanes.store(p.largest + at, largest);
  lanes.store_bytes(p.winners + at, narrow(winner));
}

void pool(const AffinePool* job) {
  const AffinePool p = *job;
  const int64_t whole = p.channels / kVector * kVector;
  const First rest(p.channels - whole);
  for (int64_t i = 0; i < p.pixels; ++i) {
    for (int64_t c = 0; c < whole; c += kVector) pool8(p, i, c, Whole{});
    if (whole < p.channels) pool8(p, i, whole, rest);
  }
}

// The sign of each lane is the lowest bit, or the one above it, of a winner.
__m256 sign_of_bit0(__m256i winner) { return _mm256_castsi256_ps(_mm256_slli_epi32(winner, 31)); }
__m256 sign_of_bit1(__m256i winner) { return _mm256_castsi256_ps(_mm256_slli_epi32(winner, 30)); }

struct WindowProducts {
  template <int kCount>
  static void add(const PoolProducts* r, int64_t c) {
    const Vectors<kCount> vectors(r->channels, c);
    __m256 mean[kCount], sum[kCount], products[kCount];
#pragma GCC unroll 4
    for (int v = 0; v < kCount; ++v) {
      mean[v] = vectors.load(r->mean + c, v);
      sum[v] = products[v] = _mm256_setzero_ps();
    }
    for (int64_t p = 0; p < r->pixels; ++p) {
      const int64_t at = p * r->channels + c, window = 2 * p * r->channels + c;
      const float *upper = r->upper + window, *lower = r->lower + window;
#pragma GCC unroll 4
      for (int v = 0; v < kCount; ++v) {
        const __m256i winner = _mm256_cvtepu8_epi32(vectors.bytes(r->winners + at, v));
        const __m256 right = sign_of_bit0(winner);
        const __m256 of_upper = _mm256_blendv_ps(vectors.load(upper, v), vectors.load(upper + r->channels, v), right);
        const __m256 of_lower = _mm256_blendv_ps(vectors.load(lower, v), vectors.load(lower + r->channels, v), right);
        const __m256 x = _mm256_blendv_ps(of_upper, of_lower, sign_of_bit1(winner));
        const __m256 g = vectors.load(r->g + at, v);
        sum[v] = _mm256_add_ps(sum[v], g);
        products[v] = _mm256_fmadd_ps(g, _mm256_sub_ps(x, mean[v]), products[v]);
      }
    }
    vectors.store(r->sum + c, sum);
    vectors.store(r->products + c, products);
  }
};

void pool_products(const PoolProducts* r) { add_channels<WindowProducts>(r); }

template <class Lanes>
void gradient8(const NormGradient& d, int64_t i, int64_t channel, const Lanes& lanes) {
  const __m256 x = _mm256_sub_ps(lanes.load(d.x + i), _mm256_loadu_ps(d.mean + channel));
  const __m256 rest = _mm256_fmadd_ps(_mm256_loadu_ps(d.b + channel), x, _mm256_loadu_ps(d.c + channel));
  const __m256 g = d.g == nullptr ? _mm256_setzero_ps() : lanes.load(d.g + i);
  lanes.store(d.out + i, _mm256_fmadd_ps(_mm256_loadu_ps(d.a + channel), g, rest));
}

void gradient(const NormGradient* job) {
  const NormGradient d = *job;
  const int64_t step = kVector % d.channels;
  int64_t i = 0, channel = 0;
  for (; i + kVector <= d.n; i += kVector, channel = further(channel, step, d.channels)) {
    gradient8(d, i, channel, Whole{});
  }
  if (i < d.n) gradient8(d, i, channel, First(d.n - i));
}

template <class Lanes>
void pool_gradient8(const PoolGradient& d, int64_t pixel, int64_t c, const Lanes& lanes) {
  const int64_t at = pixel * d.channels + c, window = 2 * pixel * d.channels + c;
  const __m256 mean = lanes.load(d.mean + c), of_g = lanes.load(d.a + c);
  const __m256 of_x = lanes.load(d.b + c), constant = lanes.load(d.c + c);
  const __m256 g = lanes.load(d.g + at);
  const __m256i winner = _mm256_cvtepu8_epi32(lanes.bytes(d.winners + at));
#pragma GCC unroll 4
  for (int k = 0; k < 4; ++k) {
    const int64_t to = window + k % 2 * d.channels;
    const __m256 wins = _mm256_castsi256_ps(_mm256_cmpeq_epi32(winner, _mm256_set1_epi32(k)));
    const __m256 x = _mm256_sub_ps(lanes.load((k < 2 ? d.upper : d.lower) + to), mean);
    const __m256 rest = _mm256_fmadd_ps(of_x, x, constant);
    lanes.store((k < 2 ? d.out_upper : d.out_lower) + to, _mm256_fmadd_ps(of_g, _mm256_and_ps(wins, g), rest));
  }
}

void pool_gradient(const PoolGradient* job) {
  const PoolGradient d = *job;
  const int64_t whole = d.channels / kVector * kVector;
  const First rest(d.channels - whole);
  for (int64_t p = 0; p < d.pixels; ++p) {
    for (int64_t c = 0; c < whole; c += kVector) pool_gradient8(d, p, c, Whole{});
    if (whole < d.channels) pool_gradient8(d, p, whole, rest);
  }
}

}  // namespace

}  // namespace training_norm_avx2

constexpr TrainingNormKernels kAvx2TrainingNorm = {
    "avx2",
    training_norm_avx2::moments,
    training_norm_avx2::quantize,
    training_norm_avx2::pool,
    training_norm_avx2::products,
    training_norm_avx2::pool_products,
    training_norm_avx2::gradient,
    training_norm_avx2::pool_gradient,
};

}  // namespace bitorch
