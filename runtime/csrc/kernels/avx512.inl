// AVX-512 with BW, VL, DQ and VNNI: what both AVX-512 kernel files share. Included inside a namespace of each file's
// own.
//
// A block of 32 output channels is two vectors of 16 lanes of int32 (or float32). A tile keeps all its accumulators in
// registers, 8 pixels x 2 vectors: a step loads two vectors of weights and broadcasts one dword of each pixel.
//
//                       weights of the step, 2 x 64 bytes, one dword per output channel
//                       w0 [c0  c1  ... c15]   w1 [c16 c17 ... c31]
//   pixel 0, dword x0   sum[0][0]              sum[0][1]                 sum[p][v] += dword x[p] of all 16 lanes, times
//   pixel 1, dword x1   sum[1][0]              sum[1][1]                 w[v], lane by lane: output channels are lanes,
//     ...                 ...                    ...                     so nothing is ever added across lanes, and the
//   pixel 7, dword x7   sum[7][0]              sum[7][1]                 results lie as they are stored
//
// Why 8 x 2: 16 sums, 2 weights and the broadcasts fit 32 registers; 16 sums that do not wait for each other hide the
// latency of a multiply-add, 4 or 5 cycles, at up to two a cycle. And it needs few loads: 2 vectors and 8 broadcasts
// for 16 products. A broadcast of a dword is a load and no more, 0.5 cycles on Zen 4, where a whole vector takes 1: a
// tile of 4 pixels x 4 vectors, with as many sums, was measured a quarter slower there than 7 x 2.

constexpr int kLanes = 16;
constexpr int kRegisterPixels = 8;

static inline __m512i load_tile(const int32_t* tile) { return _mm512_load_si512(tile); }

static inline __m512i broadcast_step(const uint8_t* from) {
  int32_t word;
  __builtin_memcpy(&word, from, 4);
  return _mm512_set1_epi32(word);
}

static inline __mmask16 lane_mask(int lanes) {
  return lanes >= kLanes ? static_cast<__mmask16>(0xffff) : lanes <= 0 ? 0 : static_cast<__mmask16>((1u << lanes) - 1);
}

// ---- Tiles ----

// How many of the pixels left to take at once.
static inline int next_pixels(int left) {
  const int rounds = (left + kRegisterPixels - 1) / kRegisterPixels;
  return (left + rounds - 1) / rounds;
}

// Kernel::run<P, V> for P pixels at a time, as even as they can be divided: 49 are 7 x 7 rather than 6 x 8 + 1. V
// vectors of 16 channels each.
template <class Kernel, int V>
static void for_each_group(const DotTile* t, int32_t* tile) {
  for (int first = 0, count; first < t->pixels; first += count) {
    count = next_pixels(t->pixels - first);
    switch (count) {
      case 1:
        Kernel::template run<1, V>(t, first, tile);
        break;
      case 2:
        Kernel::template run<2, V>(t, first, tile);
        break;
      case 3:
        Kernel::template run<3, V>(t, first, tile);
        break;
      case 4:
        Kernel::template run<4, V>(t, first, tile);
        break;
      case 5:
        Kernel::template run<5, V>(t, first, tile);
        break;
      case 6:
        Kernel::template run<6, V>(t, first, tile);
        break;
      case 7:
        Kernel::template run<7, V>(t, first, tile);
        break;
      default:
        Kernel::template run<8, V>(t, first, tile);
    }
  }
}

template <class Kernel>
static void dot_by_groups(const DotTile* t, void* tile) {
  if (t->channels <= kLanes) return for_each_group<Kernel, 1>(t, static_cast<int32_t*>(tile));
  for_each_group<Kernel, 2>(t, static_cast<int32_t*>(tile));
}

// ---- Dot products with one instruction per vector and step ----
//
// The inner loop of 8 x 2 is 31 instructions: 16 multiply-adds, 2 loads, 8 broadcasts, 5 to count and address. The unit
// that multiplies binds: one vector a cycle on Zen 4, two on Ice Lake servers. So bytes, 64 products each, are bounded
// by 64 products a cycle on Zen 4 (59 to 63 were measured) and 128 on Ice Lake; words by half of that, floats by a
// quarter.

struct BytesProduct {
  using Vector = __m512i;
  static inline Vector zero() { return _mm512_setzero_si512(); }
  static inline Vector step(Vector sum, const uint8_t* x, const uint8_t* w) {
    return _mm512_dpbusd_epi32(sum, broadcast_step(x), _mm512_load_si512(w));
  }
  static inline void store(int32_t* to, Vector sum) { _mm512_store_si512(to, sum); }
};

struct WordsProduct {
  using Vector = __m512i;
  static inline Vector zero() { return _mm512_setzero_si512(); }
  static inline Vector step(Vector sum, const uint8_t* x, const uint8_t* w) {
    return _mm512_dpwssd_epi32(sum, broadcast_step(x), _mm512_load_si512(w));
  }
  static inline void store(int32_t* to, Vector sum) { _mm512_store_si512(to, sum); }
};

struct FloatProduct {
  using Vector = __m512;
  static inline Vector zero() { return _mm512_setzero_ps(); }
  static inline Vector step(Vector sum, const uint8_t* x, const uint8_t* w) {
    return _mm512_fmadd_ps(_mm512_castsi512_ps(broadcast_step(x)), _mm512_load_ps(w), sum);
  }
  static inline void store(int32_t* to, Vector sum) { _mm512_store_ps(to, sum); }
};

// P pixels from `first` on x V vectors of channels; the weights of a step are 2 x 64 bytes.
template <class Product>
struct ProductTile {
  template <int P, int V>
  static void run(const DotTile* t, int first, int32_t* tile) {
    const uint8_t* x[P];
    typename Product::Vector sum[P][V];
#pragma GCC unroll 8
    for (int p = 0; p < P; ++p) {
      x[p] = t->pixel[first + p];
#pragma GCC unroll 2
      for (int v = 0; v < V; ++v) sum[p][v] = Product::zero();
    }
    const uint8_t* w = static_cast<const uint8_t*>(t->weights);
    const int32_t* step = t->step;
    const int32_t* const end = step + t->steps;
    for (; step != end; ++step, w += 128) {
      const int64_t at = *step;
#pragma GCC unroll 8
      for (int p = 0; p < P; ++p) {
#pragma GCC unroll 2
        for (int v = 0; v < V; ++v) sum[p][v] = Product::step(sum[p][v], x[p] + at, w + 64 * v);
      }
    }
    tile += first * kBlock;
#pragma GCC unroll 8
    for (int p = 0; p < P; ++p) {
#pragma GCC unroll 2
      for (int v = 0; v < V; ++v) Product::store(tile + p * kBlock + v * kLanes, sum[p][v]);
    }
  }
};

// Depthwise: four pixels at a time share the weights of a step. Lanes are channels of both input and output, so no code
// is used twice and each product pays for a load of its own, and for widening it.
template <class Tile>
static inline void depthwise_pixels(const DotTile* t, const Tile& tile) {
  int first = 0;
  for (; first + 4 <= t->pixels; first += 4) tile.template run<4>(first);
  for (; first < t->pixels; ++first) tile.template run<1>(first);
}

// A dword lane holds one code and one weight in int16, so dpwssd multiplies the two and adds nothing else: 2 operations
// (widen, multiply-add) for 16 products.
struct DepthwiseInts {
  const DotTile* t;
  int32_t* tile;

  template <int P>
  inline void run(int first) const {
    const __mmask16 mask[2] = {lane_mask(t->channels), lane_mask(t->channels - kLanes)};
    const int32_t* w = static_cast<const int32_t*>(t->weights);
    __m512i sum[P][2];
#pragma GCC unroll 4
    for (int p = 0; p < P; ++p) sum[p][0] = sum[p][1] = _mm512_setzero_si512();
    for (int s = 0; s < t->steps; ++s, w += kBlock) {
      const __m512i weights[2] = {_mm512_load_si512(w), _mm512_load_si512(w + kLanes)};
#pragma GCC unroll 4
      for (int p = 0; p < P; ++p) {
        const uint8_t* x = t->pixel[first + p] + t->step[s];
#pragma GCC unroll 2
        for (int v = 0; v < 2; ++v) {
          const __m512i codes = _mm512_cvtepu8_epi32(_mm_maskz_loadu_epi8(mask[v], x + v * kLanes));
          sum[p][v] = _mm512_dpwssd_epi32(sum[p][v], codes, weights[v]);
        }
      }
    }
#pragma GCC unroll 4
    for (int p = 0; p < P; ++p) {
#pragma GCC unroll 2
      for (int v = 0; v < 2; ++v) _mm512_store_si512(tile + (first + p) * kBlock + v * kLanes, sum[p][v]);
    }
  }
};

// Where a whole sum fits in int16: 32 channels in one vector, 3 operations (widen, multiply, add) for 32 products,
// which at two a cycle, as on Zen 4, are 21 products a cycle at most. The weights were narrowed, once per tile.
constexpr int kShortSteps = 64;

struct DepthwiseShorts {
  const DotTile* t;
  const __m512i* weights;  // [steps]
  int32_t* tile;

  template <int P>
  inline void run(int first) const {
    const __mmask32 mask = t->channels == kBlock ? ~__mmask32{0} : (__mmask32{1} << t->channels) - 1;
    __m512i sum[P];
#pragma GCC unroll 4
    for (int p = 0; p < P; ++p) sum[p] = _mm512_setzero_si512();
    for (int s = 0; s < t->steps; ++s) {
      const int64_t at = t->step[s];
#pragma GCC unroll 4
      for (int p = 0; p < P; ++p) {
        const __m512i codes = _mm512_cvtepu8_epi16(_mm256_maskz_loadu_epi8(mask, t->pixel[first + p] + at));
        sum[p] = _mm512_add_epi16(sum[p], _mm512_mullo_epi16(codes, weights[s]));
      }
    }
#pragma GCC unroll 4
    for (int p = 0; p < P; ++p) {
      int32_t* to = tile + (first + p) * kBlock;
      _mm512_store_si512(to, _mm512_cvtepi16_epi32(_mm512_castsi512_si256(sum[p])));
      _mm512_store_si512(to + kLanes, _mm512_cvtepi16_epi32(_mm512_extracti64x4_epi64(sum[p], 1)));
    }
  }
};

static void dot_depthwise(const DotTile* t, void* out) {
  int32_t* tile = static_cast<int32_t*>(out);
  const int64_t largest =
      static_cast<int64_t>(t->steps) * ((1 << t->weight_bits) - 1) * ((1 << t->activation_bits) - 1);
  if (largest > INT16_MAX || t->steps > kShortSteps) return depthwise_pixels(t, DepthwiseInts{t, tile});
  __m512i weights[kShortSteps];
  const int32_t* w = static_cast<const int32_t*>(t->weights);
  for (int s = 0; s < t->steps; ++s, w += kBlock) {
    const __m256i low = _mm512_cvtepi32_epi16(_mm512_load_si512(w)),
                  high = _mm512_cvtepi32_epi16(_mm512_load_si512(w + kLanes));
    weights[s] = _mm512_inserti64x4(_mm512_castsi256_si512(low), high, 1);
  }
  depthwise_pixels(t, DepthwiseShorts{t, weights, tile});
}

struct DepthwiseFloats {
  const DotTile* t;
  float* tile;

  template <int P>
  inline void run(int first) const {
    const __mmask16 mask[2] = {lane_mask(t->channels), lane_mask(t->channels - kLanes)};
    const float* w = static_cast<const float*>(t->weights);
    __m512 sum[P][2];
#pragma GCC unroll 4
    for (int p = 0; p < P; ++p) sum[p][0] = sum[p][1] = _mm512_setzero_ps();
    for (int s = 0; s < t->steps; ++s, w += kBlock) {
      const __m512 weights[2] = {_mm512_load_ps(w), _mm512_load_ps(w + kLanes)};
#pragma GCC unroll 4
      for (int p = 0; p < P; ++p) {
        const uint8_t* x = t->pixel[first + p] + t->step[s];
#pragma GCC unroll 2
        for (int v = 0; v < 2; ++v) {
          sum[p][v] = _mm512_fmadd_ps(_mm512_maskz_loadu_ps(mask[v], x + v * kLanes * 4), weights[v], sum[p][v]);
        }
      }
    }
#pragma GCC unroll 4
    for (int p = 0; p < P; ++p) {
#pragma GCC unroll 2
      for (int v = 0; v < 2; ++v) _mm512_store_ps(tile + (first + p) * kBlock + v * kLanes, sum[p][v]);
    }
  }
};

static void dot_depthwise_float(const DotTile* t, void* out) {
  depthwise_pixels(t, DepthwiseFloats{t, static_cast<float*>(out)});
}

// ---- From accumulators to results ----

// Corrections known at compile time: kNone the shift alone, kSums window sums as well, kAll whatever there is.
enum Terms { kNone, kSums, kAll };

static inline Terms terms_of(const Correction* c) {
  return c->border != nullptr ? kAll : c->add != nullptr ? kSums : kNone;
}

template <Terms terms>
static inline __m512i corrected(const Correction* c, __m128i shift, int p, int v, const int32_t* tile) {
  __m512i d = _mm512_sll_epi32(load_tile(tile + p * kBlock + v * kLanes), shift);
  if (terms == kSums || (terms == kAll && c->add != nullptr)) d = _mm512_add_epi32(d, _mm512_set1_epi32(c->add[p]));
  if (terms == kAll && c->border != nullptr) d = _mm512_add_epi32(d, _mm512_loadu_si512(c->border[p] + v * kLanes));
  return d;
}

template <Terms terms>
static void finish_int_with(const IntStage* t, int32_t* tile) {
  const __m128i shift = _mm_cvtsi32_si128(t->correction.shift);
  for (int p = 0; p < t->pixels; ++p) {
    for (int v = 0; v < 2; ++v) {
      _mm512_store_si512(tile + p * kBlock + v * kLanes, corrected<terms>(&t->correction, shift, p, v, tile));
    }
  }
}

static void finish_int(const IntStage* t, int32_t* tile) {
  switch (terms_of(&t->correction)) {
    case kNone:
      return finish_int_with<kNone>(t, tile);
    case kSums:
      return finish_int_with<kSums>(t, tile);
    case kAll:
      return finish_int_with<kAll>(t, tile);
  }
}

// The float stage of 16 channels of all pixels, with what belongs to the channels in registers. Input: the values of
// one pixel before it. What is not a channel is computed too: left alone, it could be subnormal floats, slow in what
// follows.
template <bool norm, class Input>
static inline void scale_channels(const FloatStage* t, int v, float* tile, const Input& input) {
  const __m512 multiply = _mm512_loadu_ps(t->multiply + v * kLanes), offset = _mm512_loadu_ps(t->offset + v * kLanes);
  const __m512 norm_multiply = norm ? _mm512_loadu_ps(t->norm_multiply + v * kLanes) : _mm512_setzero_ps();
  const __m512 norm_offset = norm ? _mm512_loadu_ps(t->norm_offset + v * kLanes) : _mm512_setzero_ps();
  const __m512 least = _mm512_set1_ps(t->relu ? 0.0f : -__builtin_inff());
  const __mmask16 mask = lane_mask(t->channels - v * kLanes);
  const float* const* residual = t->residual;
  float* const* out = t->out;
  for (int p = 0; p < t->pixels; ++p) {
    __m512 y = _mm512_add_ps(_mm512_mul_ps(input(p), multiply), offset);
    if (norm) y = _mm512_fmadd_ps(y, norm_multiply, norm_offset);
    if (residual != nullptr) y = _mm512_add_ps(y, _mm512_maskz_loadu_ps(mask, residual[p] + v * kLanes));
    y = _mm512_max_ps(least, y);  // y where it is NaN
    _mm512_store_ps(tile + p * kBlock + v * kLanes, y);
    if (out != nullptr) _mm512_mask_storeu_ps(out[p] + v * kLanes, mask, y);
  }
}

template <class Input>
static inline void scale_channels(const FloatStage* t, int v, float* tile, const Input& input) {
  if (t->norm_multiply != nullptr) return scale_channels<true>(t, v, tile, input);
  scale_channels<false>(t, v, tile, input);
}

template <Terms terms>
static void int_to_float_with(const FloatStage* t, void* tile) {
  const Correction correction = t->correction;
  const __m128i shift = _mm_cvtsi32_si128(correction.shift);
  for (int v = 0; v < 2; ++v) {
    scale_channels(t, v, static_cast<float*>(tile), [=, &correction](int p) {
      return _mm512_cvtepi32_ps(corrected<terms>(&correction, shift, p, v, static_cast<const int32_t*>(tile)));
    });
  }
}

static void int_to_float(const FloatStage* t, void* tile) {
  switch (terms_of(&t->correction)) {
    case kNone:
      return int_to_float_with<kNone>(t, tile);
    case kSums:
      return int_to_float_with<kSums>(t, tile);
    case kAll:
      return int_to_float_with<kAll>(t, tile);
  }
}

static void float_to_float(const FloatStage* t, void* out) {
  float* tile = static_cast<float*>(out);
  for (int v = 0; v < 2; ++v) {
    scale_channels(t, v, tile, [=](int p) { return _mm512_load_ps(tile + p * kBlock + v * kLanes); });
  }
}

// ---- Codes ----

// What the codes are made from. An object of it holds what does not change from pixel to pixel.
template <Terms terms, bool negate>
struct IntInput {
  using Number = int32_t;
  const CodeStage* t;
  const int32_t* tile;
  __m128i shift;
  __m512i sign[2];

  IntInput(const CodeStage* stage, const void* from) : t(stage), tile(static_cast<const int32_t*>(from)) {
    shift = _mm_cvtsi32_si128(t->correction.shift);
    for (int v = 0; v < 2; ++v) sign[v] = negate ? _mm512_loadu_si512(t->negate + v * kLanes) : _mm512_setzero_si512();
  }
  inline __m512i load(int p, int v) const {
    const __m512i d = corrected<terms>(&t->correction, shift, p, v, tile);
    return negate ? _mm512_sub_epi32(_mm512_xor_si512(d, sign[v]), sign[v]) : d;
  }
  static inline __mmask16 reaches(__m512i x, __m512i threshold) { return _mm512_cmpge_epi32_mask(x, threshold); }
  static inline __m512 to_float(__m512i x) { return _mm512_cvtepi32_ps(x); }
};

template <bool negate>
struct FloatInput {
  using Number = float;
  const float* tile;
  __m512i sign[2];

  FloatInput(const CodeStage* t, const void* from) : tile(static_cast<const float*>(from)) {
    for (int v = 0; v < 2; ++v) {
      sign[v] = negate ? _mm512_slli_epi32(_mm512_loadu_si512(t->negate + v * kLanes), 31) : _mm512_setzero_si512();
    }
  }
  inline __m512i load(int p, int v) const {
    const __m512i y = _mm512_load_si512(tile + p * kBlock + v * kLanes);
    return negate ? _mm512_xor_si512(y, sign[v]) : y;
  }
  // False for NaN.
  static inline __mmask16 reaches(__m512i x, __m512i threshold) {
    return _mm512_cmp_ps_mask(_mm512_castsi512_ps(x), _mm512_castsi512_ps(threshold), _CMP_GE_OQ);
  }
  static inline __m512 to_float(__m512i x) { return _mm512_castsi512_ps(x); }
};

// Up to 32 bits of one plane of one pixel.
static inline void store_plane(uint8_t* out, uint32_t bits, int channels) {
  if (channels == kBlock) {
    __builtin_memcpy(out, &bits, 4);
    return;
  }
  if (channels == kLanes) {
    __builtin_memcpy(out, &bits, 2);
    return;
  }
  bits &= (1u << channels) - 1;
  for (int c = 0; c < channels; c += 8) *out++ = static_cast<uint8_t>(bits >> c);
}

static inline uint32_t join(__mmask16 low, __mmask16 high) { return _cvtmask32_u32(_mm512_kunpackw(high, low)); }

// V vectors of 16 channels.
template <class Input, int V>
static void codes_1bit(const CodeStage* t, const void* tile) {
  const Input input(t, tile);
  const int32_t* thresholds = static_cast<const int32_t*>(t->thresholds);
  const __m512i t0 = _mm512_loadu_si512(thresholds), t1 = _mm512_loadu_si512(thresholds + kLanes);
  for (int p = 0; p < t->pixels; ++p) {
    const __mmask16 low = Input::reaches(input.load(p, 0), t0);
    const __mmask16 high = V == 2 ? Input::reaches(input.load(p, 1), t1) : 0;
    store_plane(t->out[p], join(low, high), t->channels);
  }
}

// Thresholds rise, so k3 is within k2 within k1: the high bit is k2, the low bit k1 and not k2, or k3.
template <class Input, int V>
static void codes_2bit(const CodeStage* t, const void* tile) {
  const Input input(t, tile);
  const int32_t* thresholds = static_cast<const int32_t*>(t->thresholds);
  __m512i level[3][V];
  for (int j = 0; j < 3; ++j) {
    for (int v = 0; v < V; ++v) level[j][v] = _mm512_loadu_si512(thresholds + j * kBlock + v * kLanes);
  }
  for (int p = 0; p < t->pixels; ++p) {
    __mmask16 k[3][2];
    for (int v = 0; v < V; ++v) {
      const __m512i x = input.load(p, v);
      for (int j = 0; j < 3; ++j) k[j][v] = Input::reaches(x, level[j][v]);
    }
    for (int j = 0; j < 3 && V == 1; ++j) k[j][1] = 0;
    const uint32_t k1 = join(k[0][0], k[0][1]), k2 = join(k[1][0], k[1][1]), k3 = join(k[2][0], k[2][1]);
    store_plane(t->out[p], k1 ^ k2 ^ k3, t->channels);
    store_plane(t->out[p] + t->out_plane_bytes, k2, t->channels);
  }
}

static inline void store_codes(const CodeStage* t, int p, __m512i low, __m512i high) {
  if (t->planes) {
    for (int i = 0; i < t->bits; ++i) {
      const __m512i bit = _mm512_set1_epi32(1 << i);
      store_plane(t->out[p] + i * t->out_plane_bytes,
                  join(_mm512_test_epi32_mask(low, bit), _mm512_test_epi32_mask(high, bit)), t->channels);
    }
    return;
  }
  // Narrowed in registers: the narrowing stores are microcode on Zen 4.
  const __m256i bytes = _mm256_set_m128i(_mm512_cvtepi32_epi8(high), _mm512_cvtepi32_epi8(low));
  if (t->channels == kBlock) {
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(t->out[p]), bytes);
  } else {
    _mm256_mask_storeu_epi8(t->out[p], (1u << t->channels) - 1, bytes);
  }
}

// max first: it gives its second operand, 0, for NaN.
static inline __m512 clamp_to_codes(__m512 v, __m512 n) {
  return _mm512_min_ps(_mm512_max_ps(v, _mm512_setzero_ps()), n);
}

static inline __m512i affine_code(__m512 x, __m512 multiply, __m512 offset, __m512 n) {
  return _mm512_cvtps_epi32(clamp_to_codes(_mm512_add_ps(_mm512_mul_ps(x, multiply), offset), n));
}

template <class Input>
static void codes_affine(const CodeStage* t, const void* tile) {
  const Input input(t, tile);
  const __m512 n = _mm512_set1_ps(static_cast<float>((1 << t->bits) - 1));
  const __m512 m0 = _mm512_loadu_ps(t->multiply), m1 = _mm512_loadu_ps(t->multiply + kLanes);
  const __m512 b0 = _mm512_loadu_ps(t->offset), b1 = _mm512_loadu_ps(t->offset + kLanes);
  for (int p = 0; p < t->pixels; ++p) {
    store_codes(t, p, affine_code(Input::to_float(input.load(p, 0)), m0, b0, n),
                affine_code(Input::to_float(input.load(p, 1)), m1, b1, n));
  }
}

// One or two bits in bytes: few thresholds, kept in registers.
template <class Input, int n>
static void codes_few(const CodeStage* t, const void* tile) {
  const Input input(t, tile);
  const int32_t* thresholds = static_cast<const int32_t*>(t->thresholds);
  const __m512i one = _mm512_set1_epi32(1);
  __m512i level[n][2];
  for (int j = 0; j < n; ++j) {
    for (int v = 0; v < 2; ++v) level[j][v] = _mm512_loadu_si512(thresholds + j * kBlock + v * kLanes);
  }
  for (int p = 0; p < t->pixels; ++p) {
    __m512i code[2];
    for (int v = 0; v < 2; ++v) {
      const __m512i x = input.load(p, v);
      code[v] = _mm512_maskz_mov_epi32(Input::reaches(x, level[0][v]), one);
      for (int j = 1; j < n; ++j)
        code[v] = _mm512_mask_add_epi32(code[v], Input::reaches(x, level[j][v]), code[v], one);
    }
    store_codes(t, p, code[0], code[1]);
  }
}

template <class Input>
static void codes_compared(const CodeStage* t, const void* tile) {
  const Input input(t, tile);
  const int32_t* thresholds = static_cast<const int32_t*>(t->thresholds);
  const int n = (1 << t->bits) - 1;
  const __m512i one = _mm512_set1_epi32(1);
  for (int p = 0; p < t->pixels; ++p) {
    __m512i code[2];
    for (int v = 0; v < 2; ++v) {
      const __m512i x = input.load(p, v);
      code[v] = _mm512_setzero_si512();
      for (int j = 0; j < n; ++j) {
        const __mmask16 k = Input::reaches(x, _mm512_loadu_si512(thresholds + j * kBlock + v * kLanes));
        code[v] = _mm512_mask_add_epi32(code[v], k, code[v], one);
      }
    }
    store_codes(t, p, code[0], code[1]);
  }
}

// The lanes where the line comes too near to a half decide by their thresholds: rare, so one by one.
template <class Input>
static __m512i settle_lanes(const CodeStage* t, __mmask16 lanes, __m512i x, __m512i code, int v) {
  alignas(64) typename Input::Number numbers[kLanes];
  alignas(64) int32_t codes[kLanes];
  _mm512_store_si512(numbers, x);
  _mm512_store_si512(codes, code);
  const int n = (1 << t->bits) - 1;
  for (uint32_t left = lanes; left != 0; left &= left - 1) {
    const int lane = __builtin_ctz(left);
    codes[lane] =
        count_reached(static_cast<const typename Input::Number*>(t->thresholds), v * kLanes + lane, numbers[lane], n);
  }
  return _mm512_load_si512(codes);
}

template <class Input>
static void codes_guided(const CodeStage* t, const void* tile) {
  const Input input(t, tile);
  const __m512 n = _mm512_set1_ps(static_cast<float>((1 << t->bits) - 1)), margin = _mm512_set1_ps(t->margin);
  __m512 multiply[2], offset[2];
  for (int v = 0; v < 2; ++v) {
    multiply[v] = _mm512_loadu_ps(t->multiply + v * kLanes);
    offset[v] = _mm512_loadu_ps(t->offset + v * kLanes);
  }
  const __mmask16 used[2] = {lane_mask(t->channels), lane_mask(t->channels - kLanes)};
  for (int p = 0; p < t->pixels; ++p) {
    __m512i code[2];
    for (int v = 0; v < 2; ++v) {
      const __m512i x = input.load(p, v);
      const __m512 y = clamp_to_codes(_mm512_add_ps(_mm512_mul_ps(Input::to_float(x), multiply[v]), offset[v]), n);
      code[v] = _mm512_cvtps_epi32(y);
      const __m512 distance = _mm512_abs_ps(_mm512_sub_ps(y, _mm512_cvtepi32_ps(code[v])));
      const __mmask16 unsure = _mm512_mask_cmp_ps_mask(used[v], distance, margin, _CMP_GE_OQ);
      if (__builtin_expect(unsure != 0, 0)) code[v] = settle_lanes<Input>(t, unsure, x, code[v], v);
    }
    store_codes(t, p, code[0], code[1]);
  }
}

template <class Input>
static void codes_with(const CodeStage* t, const void* tile) {
  if (t->rule == kAffine) return codes_affine<Input>(t, tile);
  if (t->rule == kGuided) return codes_guided<Input>(t, tile);
  const bool half = t->channels <= kLanes;
  if (t->planes && t->bits == 1) return half ? codes_1bit<Input, 1>(t, tile) : codes_1bit<Input, 2>(t, tile);
  if (t->planes && t->bits == 2) return half ? codes_2bit<Input, 1>(t, tile) : codes_2bit<Input, 2>(t, tile);
  if (t->bits == 1) return codes_few<Input, 1>(t, tile);
  if (t->bits == 2) return codes_few<Input, 3>(t, tile);
  codes_compared<Input>(t, tile);
}

static void int_to_codes(const CodeStage* t, const void* tile) {
  const Terms terms = terms_of(&t->correction);
  if (t->negate != nullptr) {
    // Where D leaves as well, which has been corrected then.
    return terms == kNone ? codes_with<IntInput<kNone, true>>(t, tile) : codes_with<IntInput<kAll, true>>(t, tile);
  }
  switch (terms) {
    case kNone:
      return codes_with<IntInput<kNone, false>>(t, tile);
    case kSums:
      return codes_with<IntInput<kSums, false>>(t, tile);
    case kAll:
      return codes_with<IntInput<kAll, false>>(t, tile);
  }
}

static void float_to_codes(const CodeStage* t, const void* tile) {
  if (t->negate != nullptr) return codes_with<FloatInput<true>>(t, tile);
  codes_with<FloatInput<false>>(t, tile);
}

// ---- Rows ----

// Pixels of whole 8-byte words; the rest is left to the general code.
static void pixel_sums(const PixelSums* t) {
  const int64_t bytes = t->bytes;
  if (t->planes == 0 || bytes != t->pixel_bytes || bytes % 8 != 0) return generic_pixel_sums(t);
  for (int32_t x = 0; x < t->pixels; ++x) {
    int64_t sum = 0;
    for (int i = t->bits - 1; i >= 0; --i) {
      const uint8_t* from = t->row + x * bytes + i * t->plane_bytes;
      int64_t ones = 0;
      for (int64_t b = 0; b < bytes; b += 8) ones += static_cast<int64_t>(_mm_popcnt_u64(load_u64(from + b)));
      sum = 2 * sum + ones;
    }
    t->sums[x] = static_cast<int32_t>(sum);
  }
}

// Up to 64 codes.
static inline __m512i codes_of_planes(const uint8_t* in, int64_t plane_bytes, int64_t channels, int bits) {
  __m512i codes = _mm512_setzero_si512();
  for (int i = 0; i < bits; ++i) {
    uint64_t plane = 0;
    if (channels >= 64) {
      plane = load_u64(in + i * plane_bytes);
    } else {
      for (int64_t b = 0; b < (channels + 7) / 8; ++b)
        plane |= static_cast<uint64_t>(in[i * plane_bytes + b]) << (8 * b);
    }
    codes = _mm512_or_si512(codes, _mm512_maskz_set1_epi8(plane, static_cast<char>(1 << i)));
  }
  return codes;
}

static void planes_to_bytes(uint8_t* out, const uint8_t* in, int64_t plane_bytes, int64_t channels, int bits) {
  int64_t c = 0;
  for (; c + 64 <= channels; c += 64) _mm512_storeu_si512(out + c, codes_of_planes(in + c / 8, plane_bytes, 64, bits));
  if (c == channels) return;
  const __mmask64 keep = (__mmask64{1} << (channels - c)) - 1;
  _mm512_mask_storeu_epi8(out + c, keep, codes_of_planes(in + c / 8, plane_bytes, channels - c, bits));
}

static void bytes_to_planes(uint8_t* out, int64_t plane_bytes, const uint8_t* in, int64_t channels, int bits) {
  for (int64_t c = 0; c < channels; c += 64) {
    const int64_t left = channels - c < 64 ? channels - c : 64;
    const __mmask64 keep = left == 64 ? ~__mmask64{0} : (__mmask64{1} << left) - 1;
    const __m512i codes = _mm512_maskz_loadu_epi8(keep, in + c);
    for (int i = 0; i < bits; ++i) {
      const uint64_t plane = _mm512_test_epi8_mask(codes, _mm512_set1_epi8(static_cast<char>(1 << i)));
      __builtin_memcpy(out + i * plane_bytes + c / 8, &plane, static_cast<unsigned long>((left + 7) / 8));
    }
  }
}

// A NaN is rare: it is only noticed, and the vector that holds one is done again.
static void max_of_floats(float* out, const float* const* in, int count, int64_t n) {
  for (int64_t i = 0; i < n; i += kLanes) {
    const __mmask16 mask = lane_mask(n - i < kLanes ? static_cast<int>(n - i) : kLanes);
    __m512 most = _mm512_maskz_loadu_ps(mask, in[0] + i);
    __mmask16 nan = _mm512_cmp_ps_mask(most, most, _CMP_UNORD_Q);
    for (int k = 1; k < count; ++k) {
      const __m512 x = _mm512_maskz_loadu_ps(mask, in[k] + i);
      nan = static_cast<__mmask16>(nan | _mm512_cmp_ps_mask(x, x, _CMP_UNORD_Q));
      most = _mm512_max_ps(x, most);  // the second operand where they are equal
    }
    if (__builtin_expect(nan != 0, 0)) {
      for (int k = 0; k < count; ++k) {
        const __m512 x = _mm512_maskz_loadu_ps(mask, in[k] + i);
        most = _mm512_mask_mov_ps(most, _mm512_cmp_ps_mask(x, x, _CMP_UNORD_Q), x);
      }
    }
    _mm512_mask_storeu_ps(out + i, mask, most);
  }
}

#include "avx512_compare.inl"

#include "avx512_pixels.inl"

#include "avx512_take.inl"

// What both tables have in common.
static constexpr KernelTable avx512_table(const char* name) {
  KernelTable t = generic_table(name);
  t.norms = &kAvx512Norms;
  t.functions = &kAvx512Functions;
  t.resizes = &kAvx512Resize;
  set_dot(&t, kBytes, "bytes avx512-vnni", dot_by_groups<ProductTile<BytesProduct>>, kMaxTilePixels);
  set_dot(&t, kWords, "words avx512-vnni", dot_by_groups<ProductTile<WordsProduct>>, kMaxTilePixels);
  set_dot(&t, kDepthwise, "depthwise avx512-vnni", dot_depthwise, kMaxTilePixels);
  set_dot(&t, kFloat, "float avx512", dot_by_groups<ProductTile<FloatProduct>>, kMaxTilePixels);
  set_dot(&t, kDepthwiseFloat, "depthwise float avx512", dot_depthwise_float, kMaxTilePixels);
  t.finish_int = finish_int;
  t.int_to_float = int_to_float;
  t.float_to_float = float_to_float;
  t.int_to_codes = int_to_codes;
  t.float_to_codes = float_to_codes;
  t.pixel_sums = pixel_sums;
  t.rows.max_of_floats = max_of_floats;
  t.rows.compare_row = compare_row;
  t.pixels = {add_pixels, multiply_pixels};
  t.rows.take_floats = take_floats;
  t.rows.planes_to_bytes = planes_to_bytes;
  t.rows.bytes_to_planes = bytes_to_planes;
  t.matrices = &kMatrixAvx512;
  return t;
}
