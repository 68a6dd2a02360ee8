// Plain C++ versions of everything in a KernelTable but the dot products of codes, in loops that compilers vectorise
// with the flags of whichever kernel file includes this text. It is included inside a namespace of each kernel file's
// own, so that every copy is compiled for that file's instruction set and no two copies can be merged; all of it is
// static.
//
// Integer arithmetic runs on uint32_t, where it is exact modulo 2^32 and cannot overflow. Loops over the channels of a
// block run over all kBlock columns wherever memory allows, since fixed counts vectorise without remainders; columns
// from `channels` on hold no results.

static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "kernels load bit planes as little-endian words");

static inline uint32_t load_u32(const uint8_t* from) {
  uint32_t value;
  __builtin_memcpy(&value, from, 4);
  return value;
}

static inline uint64_t load_u64(const uint8_t* from) {
  uint64_t value;
  __builtin_memcpy(&value, from, 8);
  return value;
}

static inline void store_u64(uint8_t* to, uint64_t value) { __builtin_memcpy(to, &value, 8); }

static inline float load_f32(const uint8_t* from) {
  float value;
  __builtin_memcpy(&value, from, 4);
  return value;
}

// x * multiply + offset, rounded once. Without an instruction for it: in double the product is exact, and the sum is
// rounded to odd (to an odd last bit wherever it is not exact), from where rounding to float gives what one rounding
// would. The C library's fmaf takes nine times as long on such a machine.
static inline float fused(float x, float multiply, float offset) {
#if defined(__FP_FAST_FMAF) || defined(__FMA__) || defined(__ARM_FEATURE_FMA)
  return __builtin_fmaf(x, multiply, offset);
#else
  const double product = static_cast<double>(x) * static_cast<double>(multiply), addend = static_cast<double>(offset);
  const double sum = product + addend;
  const double part = sum - product;
  const double rest = (product - (sum - part)) + (addend - part);  // product + addend = sum + rest, exactly
  const double side = rest * sum;  // below 0: the sum was rounded away from 0. NaN at infinities, which stay
  int64_t bits;
  __builtin_memcpy(&bits, &sum, 8);
  bits = (bits - (side < 0 ? 1 : 0)) | (side < 0 || side > 0 ? 1 : 0);
  double odd;
  __builtin_memcpy(&odd, &bits, 8);
  return static_cast<float>(odd);
#endif
}

static inline int32_t count_bits(uint64_t word) {
#if defined(__POPCNT__) || defined(__aarch64__)
  return __builtin_popcountll(word);
#else  // bits are added in pairs, nibbles and bytes, and the bytes by one multiplication
  word -= word >> 1 & 0x5555555555555555u;
  word = (word & 0x3333333333333333u) + (word >> 2 & 0x3333333333333333u);
  word = (word + (word >> 4)) & 0x0f0f0f0f0f0f0f0fu;
  return static_cast<int32_t>(word * 0x0101010101010101u >> 56);
#endif
}

// Eight bits <-> eight bytes of 0 or 1. Bit k of the low byte is the lowest bit of byte k.
static inline uint64_t spread_bits(uint8_t bits) {
  const uint64_t separate = bits * 0x0101010101010101u & 0x8040201008040201u;
  return (separate + 0x7f7f7f7f7f7f7f7fu) >> 7 & 0x0101010101010101u;  // no byte carries: at most 0x80 + 0x7f
}

static inline uint8_t gather_bits(uint64_t ones) { return static_cast<uint8_t>(ones * 0x0102040810204080u >> 56); }

// ---- Dot products ----

static inline void generic_dot_depthwise(const DotTile* t, void* out) {
  const int32_t* weights = static_cast<const int32_t*>(t->weights);
  uint32_t* tile = static_cast<uint32_t*>(out);
  for (int p = 0; p < t->pixels; ++p) {
    uint32_t* sum = tile + p * kBlock;
    for (int c = 0; c < kBlock; ++c) sum[c] = 0;
    for (int s = 0; s < t->steps; ++s) {
      const uint8_t* x = t->pixel[p] + t->step[s];
      const int32_t* w = weights + static_cast<int64_t>(s) * kBlock;
      for (int c = 0; c < t->channels; ++c) sum[c] += static_cast<uint32_t>(w[c] * x[c]);  // int16 times uint8
    }
  }
}

// Vectors spelled out keep the sums of half a block in registers; loops over arrays do not.
typedef float FourFloats __attribute__((vector_size(16)));

static inline void generic_dot_float(const DotTile* t, void* out) {
  constexpr int kVectorsAtOnce = 4;
  float* tile = static_cast<float*>(out);
  for (int p = 0; p < t->pixels; ++p) {
    for (int first = 0; first < kBlock; first += 4 * kVectorsAtOnce) {
      const float* w = static_cast<const float*>(t->weights) + first;
      FourFloats sum[kVectorsAtOnce] = {};
      for (int s = 0; s < t->steps; ++s, w += kBlock) {
        const float x = load_f32(t->pixel[p] + t->step[s]);
#pragma GCC unroll 4
        for (int v = 0; v < kVectorsAtOnce; ++v) {
          FourFloats weights;
          __builtin_memcpy(&weights, w + 4 * v, sizeof(weights));
          sum[v] += weights * x;
        }
      }
#pragma GCC unroll 4
      for (int v = 0; v < kVectorsAtOnce; ++v) {
        __builtin_memcpy(tile + p * kBlock + first + 4 * v, &sum[v], sizeof(sum[v]));
      }
    }
  }
}

static inline void generic_dot_depthwise_float(const DotTile* t, void* out) {
  const float* weights = static_cast<const float*>(t->weights);
  for (int p = 0; p < t->pixels; ++p) {
    float sum[kBlock] = {};
    for (int s = 0; s < t->steps; ++s) {
      const uint8_t* from = t->pixel[p] + t->step[s];
      const float* w = weights + static_cast<int64_t>(s) * kBlock;
      if (t->channels == kBlock) {
        for (int c = 0; c < kBlock; ++c) sum[c] += w[c] * load_f32(from + 4 * c);
      } else {
        for (int c = 0; c < t->channels; ++c) sum[c] += w[c] * load_f32(from + 4 * c);
      }
    }
    __builtin_memcpy(static_cast<float*>(out) + p * kBlock, sum, sizeof(sum));
  }
}

// ---- Rows of codes ----

static inline void generic_max_bytes(uint8_t* out, const uint8_t* in, int64_t n) {
  for (int64_t i = 0; i < n; ++i) out[i] = in[i] > out[i] ? in[i] : out[i];
}

// A NaN already in `out` stays, because no comparison with it is true.
static inline void generic_max_floats(float* out, const float* in, int64_t n) {
  for (int64_t i = 0; i < n; ++i) {
    const float x = in[i], y = out[i];
    out[i] = (x > y) | (x != x) ? x : y;
  }
}

static inline void generic_max_of_floats(float* out, const float* const* in, int count, int64_t n) {
  __builtin_memcpy(out, in[0], static_cast<unsigned long>(n) * 4);
  for (int k = 1; k < count; ++k) generic_max_floats(out, in[k], n);
}

// From the highest plane down, the first plane in which two codes differ decides which one is the maximum; until then
// the planes are equal, and in that plane the maximum has a 1.
static inline void generic_max_planes(uint8_t* out, int64_t out_plane_bytes, const uint8_t* in, int64_t in_plane_bytes,
                                      int64_t n, int bits) {
  constexpr int kChunk = 64;
  for (int64_t start = 0; start < n; start += kChunk) {
    const int count = static_cast<int>(n - start < kChunk ? n - start : kChunk);
    uint8_t out_wins[kChunk] = {}, in_wins[kChunk] = {};
    for (int i = bits - 1; i >= 0; --i) {
      uint8_t* plane = out + i * out_plane_bytes + start;
      const uint8_t* other = in + i * in_plane_bytes + start;
      for (int k = 0; k < count; ++k) {
        const uint8_t x = plane[k], y = other[k];
        plane[k] = static_cast<uint8_t>((x & ~in_wins[k]) | (y & ~out_wins[k]));
        const uint8_t decided = out_wins[k] | in_wins[k];
        out_wins[k] = static_cast<uint8_t>(out_wins[k] | (x & ~y & ~decided));
        in_wins[k] = static_cast<uint8_t>(in_wins[k] | (y & ~x & ~decided));
      }
    }
  }
}

static inline void generic_add_ints(int32_t* out, const int32_t* in, int64_t stride, int64_t n) {
  if (stride == 1) {
    for (int64_t i = 0; i < n; ++i) out[i] += in[i];
  } else if (stride == 2) {
    for (int64_t i = 0; i < n; ++i) out[i] += in[2 * i];
  } else {
    for (int64_t i = 0; i < n; ++i) out[i] += in[stride * i];
  }
}

static inline void generic_add_bytes(int32_t* out, const uint8_t* in, int64_t n) {
  for (int64_t i = 0; i < n; ++i) out[i] = static_cast<int32_t>(static_cast<uint32_t>(out[i]) + in[i]);
}

static inline void generic_add_floats(float* out, const float* in, int64_t n) {
  for (int64_t i = 0; i < n; ++i) out[i] += in[i];
}

static inline void generic_add_pixels(float* out, const float* in, int64_t step, int64_t pixels, int64_t n) {
  for (int64_t p = 0; p < pixels; ++p, in += step) generic_add_floats(out, in, n);
}

static inline void generic_multiply_pixels(float* out, const float* in, const float* by, int64_t pixels, int64_t n) {
  for (int64_t p = 0; p < pixels; ++p, out += n, in += n) {
    for (int64_t c = 0; c < n; ++c) out[c] = in[c] * by[c];
  }
}

// One loop for each set of parts.
enum AffineParts { kDivide = 1, kScale = 2, kNorm = 4, kResidual = 8, kAffineLoops = 16 };

template <int parts>
static void affine_loop(const AffineRow* t) {
  const float low = t->low, high = t->high;
  for (int64_t i = 0; i < t->n; i += t->period) {
    const int64_t count = t->n - i < t->period ? t->n - i : t->period;
    const float* __restrict x = t->x + i;
    const float* __restrict residual = parts & kResidual ? t->residual + i : nullptr;
    const float* __restrict divide = t->divide;
    const float* __restrict multiply = t->multiply;
    const float* __restrict offset = t->offset;
    const float* __restrict norm_multiply = t->norm_multiply;
    const float* __restrict norm_offset = t->norm_offset;
    float* __restrict out = t->out + i;
    for (int64_t c = 0; c < count; ++c) {
      float y = x[c];
      if (parts & kDivide) y = y / divide[c];
      if (parts & kScale) {
        y = y * multiply[c];
        y = y + offset[c];
      }
      if (parts & kNorm) y = fused(y, norm_multiply[c], norm_offset[c]);
      if (parts & kResidual) y = y + residual[c];
      y = low > y ? low : y;  // false for NaN, which stays
      out[c] = high < y ? high : y;
    }
  }
}

static void generic_affine(const AffineRow* t) {
  static constexpr void (*kLoops[kAffineLoops])(const AffineRow*) = {
      affine_loop<0>,  affine_loop<1>,  affine_loop<2>,  affine_loop<3>, affine_loop<4>,  affine_loop<5>,
      affine_loop<6>,  affine_loop<7>,  affine_loop<8>,  affine_loop<9>, affine_loop<10>, affine_loop<11>,
      affine_loop<12>, affine_loop<13>, affine_loop<14>, affine_loop<15>};
  kLoops[(t->divide ? kDivide : 0) | (t->multiply ? kScale : 0) | (t->norm_multiply ? kNorm : 0) |
         (t->residual ? kResidual : 0)](t);
}

static inline void generic_planes_to_bytes(uint8_t* out, const uint8_t* in, int64_t plane_bytes, int64_t channels,
                                           int bits) {
  for (int64_t c = 0; c < channels; c += 8) {
    uint64_t codes = 0;
    for (int i = 0; i < bits; ++i) codes |= spread_bits(in[i * plane_bytes + c / 8]) << i;
    if (channels - c >= 8) {
      store_u64(out + c, codes);
    } else {
      for (int64_t k = c; k < channels; ++k, codes >>= 8) out[k] = static_cast<uint8_t>(codes);
    }
  }
}

static inline void generic_bytes_to_planes(uint8_t* out, int64_t plane_bytes, const uint8_t* in, int64_t channels,
                                           int bits) {
  for (int64_t c = 0; c < channels; c += 8) {
    uint64_t codes = 0;
    if (channels - c >= 8) {
      codes = load_u64(in + c);
    } else {
      for (int64_t k = channels - 1; k >= c; --k) codes = codes << 8 | in[k];
    }
    for (int i = 0; i < bits; ++i) out[i * plane_bytes + c / 8] = gather_bits(codes >> i & 0x0101010101010101u);
  }
}

// The code nearest to v, halves to even, in 0 .. n; NaN gives 0. Clamped first, so that adding 1.5 * 2^23 leaves the
// rounded value in the low bits of the float.
static inline uint32_t round_to_code(float v, float n) {
  v = v > 0.0f ? v : 0.0f;
  v = v < n ? v : n;
  v += 12582912.0f;
  uint32_t word;
  __builtin_memcpy(&word, &v, 4);
  return word & 0xff;
}

static inline void generic_quantize_unit(uint8_t* out, const float* in, int64_t n, int bits) {
  const float levels = static_cast<float>((1 << bits) - 1);
  for (int64_t i = 0; i < n; ++i) out[i] = static_cast<uint8_t>(round_to_code(in[i] * levels, levels));
}

static inline void generic_widen_bytes(int16_t* out, const uint8_t* in, int64_t n) {
  for (int64_t i = 0; i < n; ++i) out[i] = in[i];
}

static inline int32_t sum_of_bits(const uint8_t* bytes, int count) {
  int32_t sum = 0;
  int k = 0;
  for (; k + 8 <= count; k += 8) sum += count_bits(load_u64(bytes + k));
  if (k + 4 <= count) {
    sum += count_bits(load_u32(bytes + k));
    k += 4;
  }
  for (; k < count; ++k) sum += count_bits(bytes[k]);
  return sum;
}

// Bit planes of `bytes` bytes, which compilers unroll when they know them.
static inline void sum_planes(const PixelSums* t, int bytes) {
  for (int x = 0; x < t->pixels; ++x) {
    const uint8_t* pixel = t->row + x * t->pixel_bytes;
    int32_t sum = 0;
    for (int i = 0; i < t->bits; ++i) sum += sum_of_bits(pixel + i * t->plane_bytes, bytes) << i;
    t->sums[x] = sum;
  }
}

static inline void sum_bytes(const PixelSums* t, int bytes, int64_t pixel_bytes) {
  for (int x = 0; x < t->pixels; ++x) {
    const uint8_t* pixel = t->row + x * pixel_bytes;
    int32_t sum = 0;
    for (int k = 0; k < bytes; ++k) sum += pixel[k];
    t->sums[x] = sum;
  }
}

static inline void generic_pixel_sums(const PixelSums* t) {
  if (t->planes) {
    switch (t->bytes) {
      case 8:
        return sum_planes(t, 8);
      case 16:
        return sum_planes(t, 16);
      case 32:
        return sum_planes(t, 32);
      default:
        return sum_planes(t, t->bytes);
    }
  }
  if (t->bytes == 3 && t->pixel_bytes == 3) return sum_bytes(t, 3, 3);  // of an image
  sum_bytes(t, t->bytes, t->pixel_bytes);
}

// ---- What follows the dot products ----

// D of one pixel from its accumulators.
static inline void correct(const Correction* correction, int pixel, const uint32_t* accumulator, uint32_t* d) {
  const uint32_t add = correction->add ? static_cast<uint32_t>(correction->add[pixel]) : 0;
  const int shift = correction->shift;
  for (int c = 0; c < kBlock; ++c) d[c] = (accumulator[c] << shift) + add;
  if (correction->border) {
    const int32_t* border = correction->border[pixel];
    for (int c = 0; c < kBlock; ++c) d[c] += static_cast<uint32_t>(border[c]);
  }
}

static inline void generic_finish_int(const IntStage* t, int32_t* out) {
  for (int p = 0; p < t->pixels; ++p) {
    uint32_t d[kBlock];
    __builtin_memcpy(d, out + p * kBlock, sizeof(d));
    correct(&t->correction, p, d, d);
    __builtin_memcpy(out + p * kBlock, d, sizeof(d));
  }
}

// y of one pixel, in place.
static inline void scale(const FloatStage* t, int pixel, float* y) {
  for (int c = 0; c < kBlock; ++c) y[c] = y[c] * t->multiply[c] + t->offset[c];
  if (t->norm_multiply) {
    for (int c = 0; c < kBlock; ++c) y[c] = fused(y[c], t->norm_multiply[c], t->norm_offset[c]);
  }
  if (t->residual) {
    const float* residual = t->residual[pixel];
    for (int c = 0; c < t->channels; ++c) y[c] += residual[c];
  }
  if (t->relu) {
    for (int c = 0; c < kBlock; ++c) y[c] = 0.0f > y[c] ? 0.0f : y[c];  // false for NaN, which stays
  }
  if (t->out) __builtin_memcpy(t->out[pixel], y, static_cast<unsigned>(t->channels) * 4);
}

static inline void generic_int_to_float(const FloatStage* t, void* tile) {
  for (int p = 0; p < t->pixels; ++p) {
    unsigned char* row = static_cast<unsigned char*>(tile) + p * kBlock * 4;
    uint32_t d[kBlock];
    float y[kBlock];
    __builtin_memcpy(d, row, sizeof(d));
    correct(&t->correction, p, d, d);
    for (int c = 0; c < kBlock; ++c) y[c] = static_cast<float>(static_cast<int32_t>(d[c]));
    scale(t, p, y);
    __builtin_memcpy(row, y, sizeof(y));
  }
}

static inline void generic_float_to_float(const FloatStage* t, void* tile) {
  for (int p = 0; p < t->pixels; ++p) scale(t, p, static_cast<float*>(tile) + p * kBlock);
}

static inline void affine_codes(const CodeStage* t, const float* x, uint32_t* code) {
  const float levels = static_cast<float>((1 << t->bits) - 1);
  for (int c = 0; c < kBlock; ++c) code[c] = round_to_code(x[c] * t->multiply[c] + t->offset[c], levels);
}

// The number of the rising thresholds of channel c that x reaches.
template <typename T>
[[maybe_unused]] static inline int32_t count_reached(const T* thresholds, int c, T x, int levels) {
  int low = 0, high = levels;
  while (low < high) {
    const int middle = (low + high) / 2;
    if (x >= thresholds[middle * kBlock + c]) {
      low = middle + 1;
    } else {
      high = middle;
    }
  }
  return low;
}

// Writes the codes of one pixel.
static inline void write_codes(const CodeStage* t, int pixel, const uint32_t* code) {
  uint8_t bytes[kBlock];
  for (int c = 0; c < kBlock; ++c) bytes[c] = static_cast<uint8_t>(code[c]);
  if (t->planes) {
    generic_bytes_to_planes(t->out[pixel], t->out_plane_bytes, bytes, t->channels, t->bits);
  } else {
    __builtin_memcpy(t->out[pixel], bytes, static_cast<unsigned>(t->channels));
  }
}

static inline void generic_int_to_codes(const CodeStage* t, const void* tile) {
  for (int p = 0; p < t->pixels; ++p) {
    uint32_t d[kBlock], code[kBlock] = {};
    __builtin_memcpy(d, static_cast<const unsigned char*>(tile) + p * kBlock * 4, sizeof(d));
    correct(&t->correction, p, d, d);
    if (t->rule == kAffine) {
      float x[kBlock];
      for (int c = 0; c < kBlock; ++c) x[c] = static_cast<float>(static_cast<int32_t>(d[c]));
      affine_codes(t, x, code);
    } else {
      if (t->negate) {
        for (int c = 0; c < kBlock; ++c) {
          d[c] = (d[c] ^ static_cast<uint32_t>(t->negate[c])) - static_cast<uint32_t>(t->negate[c]);
        }
      }
      const int32_t* threshold = static_cast<const int32_t*>(t->thresholds);
      for (int j = 1; j < 1 << t->bits; ++j, threshold += kBlock) {
        for (int c = 0; c < kBlock; ++c) code[c] += static_cast<int32_t>(d[c]) >= threshold[c];
      }
    }
    write_codes(t, p, code);
  }
}

static inline void generic_float_to_codes(const CodeStage* t, const void* tile) {
  for (int p = 0; p < t->pixels; ++p) {
    float x[kBlock];
    uint32_t code[kBlock] = {};
    __builtin_memcpy(x, static_cast<const unsigned char*>(tile) + p * kBlock * 4, sizeof(x));
    if (t->rule == kAffine) {
      affine_codes(t, x, code);
    } else {
      if (t->negate) {
        for (int c = 0; c < kBlock; ++c) x[c] = t->negate[c] ? -x[c] : x[c];
      }
      const float* threshold = static_cast<const float*>(t->thresholds);
      for (int j = 1; j < 1 << t->bits; ++j, threshold += kBlock) {
        for (int c = 0; c < kBlock; ++c) code[c] += x[c] >= threshold[c];
      }
    }
    write_codes(t, p, code);
  }
}

// ---- Two tensors ----

#include "float_vectors.inl"

#include "pairs.inl"

// ---- Tables of codes ----

typedef uint8_t CodeLanes __attribute__((vector_size(sizeof(Floats))));

// An entry of the table wins over those before it where the code is as large: no gather, and any table for each lane.
template <typename Load>
static inline CodeLanes look_up_lanes(const uint8_t* codes, const uint8_t* table, int64_t period, int entries,
                                      const Load& load) {
  const CodeLanes code = load(codes);
  CodeLanes value = load(table);
  for (int j = 1; j < entries; ++j)
    value = code >= CodeLanes{} + static_cast<uint8_t>(j) ? load(table + j * period) : value;
  return value;
}

static inline void generic_look_up(uint8_t* out, const uint8_t* codes, const uint8_t* table, int64_t n, int64_t period,
                                   int entries) {
  constexpr int64_t kLanes = sizeof(CodeLanes);
  int64_t i = 0;
  for (; i + kLanes <= n; i += kLanes) {
    const CodeLanes y = look_up_lanes(codes + i, table + i, period, entries, [](const uint8_t* from) {
      CodeLanes lanes;
      __builtin_memcpy(&lanes, from, sizeof(lanes));
      return lanes;
    });
    __builtin_memcpy(out + i, &y, sizeof(y));
  }
  if (i < n) {
    const auto count = static_cast<unsigned long>(n - i);
    const CodeLanes y = look_up_lanes(codes + i, table + i, period, entries, [count](const uint8_t* from) {
      CodeLanes lanes = {};
      __builtin_memcpy(&lanes, from, count);
      return lanes;
    });
    __builtin_memcpy(out + i, &y, count);
  }
}

// ---- The table ----
//
// Kernel files start from this one and replace what they do better, member by member, while they are compiled.

static constexpr RowFunctions generic_rows() {
  RowFunctions r = {};
  r.max_bytes = generic_max_bytes;
  r.max_floats = generic_max_floats;
  r.max_of_floats = generic_max_of_floats;
  r.max_planes = generic_max_planes;
  r.add_ints = generic_add_ints;
  r.add_bytes = generic_add_bytes;
  r.add_floats = generic_add_floats;
  r.affine = generic_affine;
  r.planes_to_bytes = generic_planes_to_bytes;
  r.bytes_to_planes = generic_bytes_to_planes;
  r.quantize_unit = generic_quantize_unit;
  r.widen_bytes = generic_widen_bytes;
  r.look_up = generic_look_up;
  return r;
}

// What it is called in profiles, and the most pixels of a call.
static constexpr void set_dot(KernelTable* t, Method method, const char* name, DotFunction function, int tile_pixels) {
  t->dot[method] = function;
  t->dot_name[method] = name;
  t->tile_pixels[method] = tile_pixels;
}

// method[W-1][A-1] in letters: a row for each number of weight bits, from 1 down, a column for each of activation bits.
namespace letters {
constexpr Method P = kPopcount, B = kBytes, W = kWords, T = kTables;
}

template <int N>
static constexpr void set_fused(KernelTable* t, const FusedKernel* const (&kernels)[N]) {
  t->fused = kernels;
  t->fused_count = N;
}

static constexpr void set_choices(KernelTable* t, const Method (&choices)[8][8]) {
  for (int w = 0; w < 8; ++w) {
    for (int a = 0; a < 8; ++a) t->method[w][a] = static_cast<uint8_t>(choices[w][a]);
  }
}

// Everything but products of codes and what chooses between them.
static constexpr KernelTable generic_table(const char* name) {
  KernelTable t = {};
  t.name = name;
  t.finish_int = generic_finish_int;
  t.int_to_float = generic_int_to_float;
  t.float_to_float = generic_float_to_float;
  t.int_to_codes = generic_int_to_codes;
  t.float_to_codes = generic_float_to_codes;
  t.pixel_sums = generic_pixel_sums;
  t.rows = generic_rows();
  t.pixels = {generic_add_pixels, generic_multiply_pixels};
  t.pairs = &kGenericPairs;
  return t;
}
