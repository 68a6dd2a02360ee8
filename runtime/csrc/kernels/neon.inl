// What both NEON tables share: everything but the product of bytes, for which the dotprod extension has an instruction.
// Included after generic.inl inside a namespace of each kernel file's own that is unnamed, since members of templates
// are not static: no two copies can be merged.
//
// Dot products run over 16 channels (four vectors of four) and up to kGroup pixels at a time: 16 accumulators, which
// leaves half of the 32 registers for weights, codes and products. Result lanes are output channels, so a dword of
// codes is broadcast and no sum crosses lanes.
//
//                        weights of the step, 4 x 16 bytes, one dword per output channel
//                        w0 [c0 c1 c2 c3]  w1 [c4 .. c7]  w2 [c8 .. c11]  w3 [c12 .. c15]
//   pixel 0, dword x0    sum[0][0]         sum[0][1]      sum[0][2]       sum[0][3]
//     ...
//   pixel 3, dword x3    sum[3][0]         sum[3][1]      sum[3][2]       sum[3][3]
//
// So 4 + 4 loads feed 16 products. Figures below are counted from the instructions, not measured.

constexpr int kGroup = 4;    // pixels that share one load of the weights
constexpr int kVectors = 4;  // vectors of four channels in half a block
constexpr int kHalf = 16;    // channels in half a block
constexpr int kPixelsPerCall = 8;

static inline uint32x4_t broadcast_u32(const uint8_t* from) {
  return vld1q_dup_u32(reinterpret_cast<const uint32_t*>(from));
}

// Four bytes as the first lane of a vector, for multiplications by a lane: a load that needs no broadcast.
static inline float32x2_t first_lane(const uint8_t* from) { return vset_lane_f32(load_f32(from), vdup_n_f32(0.0f), 0); }

static inline bool four_in_a_row(const int32_t* step) {
  return step[1] - step[0] == 4 && step[2] - step[0] == 8 && step[3] - step[0] == 12;
}

// Calls Kernel::run<pixels> for each half block and each group of pixels.
template <class Kernel>
static inline void for_each_group(const DotTile* t, void* tile) {
  for (int channel = 0; channel < t->channels; channel += kHalf) {
    for (int pixel = 0; pixel < t->pixels; pixel += kGroup) {
      switch (t->pixels - pixel) {
        case 1:
          Kernel::template run<1>(t, pixel, channel, tile);
          break;
        case 2:
          Kernel::template run<2>(t, pixel, channel, tile);
          break;
        case 3:
          Kernel::template run<3>(t, pixel, channel, tile);
          break;
        default:
          Kernel::template run<kGroup>(t, pixel, channel, tile);
      }
    }
  }
}

// ---- Dot products ----

// 128 products of one bit are 3 operations: and, count, add. A step of the whole tile is 64 instructions, 48 of them
// those.
//
// Bit counts of bytes (0 .. 8) are added in bytes for at most 31 steps (31 * 8 = 248), then widened. All pairs of
// planes with i + j = shift share these sums, so that few steps per plane pair do not mean many widenings.
struct Popcount {
  static constexpr int kMaxCounts = 31;

  template <int P>
  static inline void flush(uint8x16_t (&count)[P][kVectors], int shift, bool first, uint32_t* tile) {
    const int32x4_t left = vdupq_n_s32(shift);
    for (int p = 0; p < P; ++p) {
      for (int v = 0; v < kVectors; ++v) {
        uint32_t* sum = tile + p * kBlock + v * 4;
        const uint32x4_t wide = vshlq_u32(vpaddlq_u16(vpaddlq_u8(count[p][v])), left);
        vst1q_u32(sum, first ? wide : vaddq_u32(vld1q_u32(sum), wide));
        count[p][v] = vdupq_n_u8(0);
      }
    }
  }

  template <int P>
  static inline void run(const DotTile* t, int pixel, int channel, void* out) {
    uint32_t* tile = static_cast<uint32_t*>(out) + pixel * kBlock + channel;
    uint8x16_t count[P][kVectors];
    for (int p = 0; p < P; ++p) {
      for (int v = 0; v < kVectors; ++v) count[p][v] = vdupq_n_u8(0);
    }
    bool first = true;
    for (int shift = 0; shift < t->weight_bits + t->activation_bits - 1; ++shift) {
      int room = kMaxCounts;
      for (int j = 0; j < t->weight_bits; ++j) {
        const int i = shift - j;
        if (i < 0 || i >= t->activation_bits) continue;
        const uint32_t* w =
            static_cast<const uint32_t*>(t->weights) + static_cast<int64_t>(j) * t->steps * kBlock + channel;
        const uint8_t* x[P];
        for (int p = 0; p < P; ++p) x[p] = t->pixel[pixel + p] + i * t->plane_bytes;
        for (int s = 0; s < t->steps;) {
          const int end = t->steps - s < room ? t->steps : s + room;
          room -= end - s;
          for (; s < end; ++s, w += kBlock) {
            uint8x16_t weights[kVectors];
            for (int v = 0; v < kVectors; ++v) weights[v] = vreinterpretq_u8_u32(vld1q_u32(w + v * 4));
            for (int p = 0; p < P; ++p) {
              const uint8x16_t codes = vreinterpretq_u8_u32(broadcast_u32(x[p] + t->step[s]));
              for (int v = 0; v < kVectors; ++v)
                count[p][v] = vaddq_u8(count[p][v], vcntq_u8(vandq_u8(weights[v], codes)));
            }
          }
          if (room == 0) {
            flush<P>(count, shift, first, tile);
            first = false;
            room = kMaxCounts;
          }
        }
      }
      if (room < kMaxCounts) {
        flush<P>(count, shift, first, tile);
        first = false;
      }
    }
  }
};

static void dot_popcount(const DotTile* t, void* tile) { for_each_group<Popcount>(t, tile); }

// Four steps that follow each other in memory, as input channels do, load four floats of a pixel at once and multiply
// by one lane of them each: 4 loads of pixels and 16 of weights for 64 multiply-adds.
//
// The same order of additions for every pixel, whatever its place in the tile. Without the pragmas, GCC 12 unrolls too
// late to keep the sums in registers.
struct Float {
  template <int P, int lane>
  static inline void step(float32x4_t (&sum)[P][kVectors], const float* w, const float32x4_t (&x)[P]) {
#pragma GCC unroll 4
    for (int v = 0; v < kVectors; ++v) {
      const float32x4_t weights = vld1q_f32(w + lane * kBlock + v * 4);
#pragma GCC unroll 4
      for (int p = 0; p < P; ++p) sum[p][v] = vfmaq_laneq_f32(sum[p][v], weights, x[p], lane);
    }
  }

  template <int P>
  static inline void run(const DotTile* t, int pixel, int channel, void* out) {
    float* tile = static_cast<float*>(out) + pixel * kBlock + channel;
    const float* w = static_cast<const float*>(t->weights) + channel;
    const uint8_t* const* from = t->pixel + pixel;
    float32x4_t sum[P][kVectors];
#pragma GCC unroll 4
    for (int p = 0; p < P; ++p) {
#pragma GCC unroll 4
      for (int v = 0; v < kVectors; ++v) sum[p][v] = vdupq_n_f32(0.0f);
    }
    for (int s = 0; s < t->steps;) {
      float32x4_t x[P];
      if (s + 4 <= t->steps && four_in_a_row(t->step + s)) {
#pragma GCC unroll 4
        for (int p = 0; p < P; ++p) x[p] = vreinterpretq_f32_u8(vld1q_u8(from[p] + t->step[s]));
        step<P, 0>(sum, w, x);
        step<P, 1>(sum, w, x);
        step<P, 2>(sum, w, x);
        step<P, 3>(sum, w, x);
        s += 4;
        w += 4 * kBlock;
      } else {
#pragma GCC unroll 4
        for (int p = 0; p < P; ++p) x[p] = vcombine_f32(first_lane(from[p] + t->step[s]), vdup_n_f32(0.0f));
        step<P, 0>(sum, w, x);
        s += 1;
        w += kBlock;
      }
    }
#pragma GCC unroll 4
    for (int p = 0; p < P; ++p) {
#pragma GCC unroll 4
      for (int v = 0; v < kVectors; ++v) vst1q_f32(tile + p * kBlock + v * 4, sum[p][v]);
    }
  }
};

static void dot_float(const DotTile* t, void* tile) { for_each_group<Float>(t, tile); }

// Eight channels from `channel` on, P pixels.
template <int P>
static inline void depthwise_eight(const DotTile* t, int pixel, int channel, uint32_t* out) {
  int32x4_t low[P], high[P];
  for (int p = 0; p < P; ++p) low[p] = high[p] = vdupq_n_s32(0);
  const int32_t* w = static_cast<const int32_t*>(t->weights) + channel;
  for (int s = 0; s < t->steps; ++s, w += kBlock) {
    const int16x4_t w_low = vmovn_s32(vld1q_s32(w)), w_high = vmovn_s32(vld1q_s32(w + 4));
    for (int p = 0; p < P; ++p) {
      const int16x8_t x = vreinterpretq_s16_u16(vmovl_u8(vld1_u8(t->pixel[pixel + p] + t->step[s] + channel)));
      low[p] = vmlal_s16(low[p], w_low, vget_low_s16(x));
      high[p] = vmlal_s16(high[p], w_high, vget_high_s16(x));
    }
  }
  for (int p = 0; p < P; ++p) {
    uint32_t* sum = out + (pixel + p) * kBlock + channel;
    vst1q_u32(sum, vreinterpretq_u32_s32(low[p]));
    vst1q_u32(sum + 4, vreinterpretq_u32_s32(high[p]));
  }
}

// Reads exactly `channels` codes of a pixel: the last eight channels are an overlapping group, fewer than eight are
// done one by one.
static void dot_depthwise(const DotTile* t, void* tile) {
  if (t->channels < 8) return generic_dot_depthwise(t, tile);
  uint32_t* out = static_cast<uint32_t*>(tile);
  for (int c = 0; c < t->channels; c += 8) {
    const int channel = c + 8 <= t->channels ? c : t->channels - 8;
    int pixel = 0;
    for (; pixel + kGroup <= t->pixels; pixel += kGroup) depthwise_eight<kGroup>(t, pixel, channel, out);
    for (; pixel < t->pixels; ++pixel) depthwise_eight<1>(t, pixel, channel, out);
  }
}

// ---- Codes ----

// 16 codes in bytes, from four vectors of 32-bit lanes
static inline uint8x16_t narrow(const uint32x4_t (&code)[kVectors]) {
  return vcombine_u8(vmovn_u16(vcombine_u16(vmovn_u32(code[0]), vmovn_u32(code[1]))),
                     vmovn_u16(vcombine_u16(vmovn_u32(code[2]), vmovn_u32(code[3]))));
}

// round_half_even(v) in 0 .. n; the conversion saturates and turns NaN into 0
static inline uint32x4_t nearest_code(float32x4_t v, int32x4_t n) {
  return vreinterpretq_u32_s32(vminq_s32(vmaxq_s32(vcvtnq_s32_f32(v), vdupq_n_s32(0)), n));
}

// Plane i of 32 codes, as 32 bits
static inline uint32_t plane_of(uint8x16_t low, uint8x16_t high, int i) {
  const uint8x16_t mask = vdupq_n_u8(static_cast<uint8_t>(1 << i));
  const uint8x16_t place = vreinterpretq_u8_u64(vdupq_n_u64(0x8040201008040201u));
  uint8x16_t sum = vpaddq_u8(vandq_u8(vtstq_u8(low, mask), place), vandq_u8(vtstq_u8(high, mask), place));
  sum = vpaddq_u8(sum, sum);
  sum = vpaddq_u8(sum, sum);
  return vgetq_lane_u32(vreinterpretq_u32_u8(sum), 0);
}

static inline void store_bytes(uint8_t* to, uint32_t word, int count) {
  if (count == 4) {
    __builtin_memcpy(to, &word, 4);
  } else {
    for (int k = 0; k < count; ++k, word >>= 8) to[k] = static_cast<uint8_t>(word);
  }
}

// Writes the codes of one pixel: low holds channels 0 .. 15, high channels 16 .. 31.
static inline void store_codes(const CodeStage* t, int pixel, uint8x16_t low, uint8x16_t high) {
  static const uint8_t kIndex[kBlock] = {0,  1,  2,  3,  4,  5,  6,  7,  8,  9,  10, 11, 12, 13, 14, 15,
                                         16, 17, 18, 19, 20, 21, 22, 23, 24, 25, 26, 27, 28, 29, 30, 31};
  uint8_t* out = t->out[pixel];
  if (t->planes) {
    const uint8x16_t channels = vdupq_n_u8(static_cast<uint8_t>(t->channels));
    low = vandq_u8(low, vcltq_u8(vld1q_u8(kIndex), channels));
    high = vandq_u8(high, vcltq_u8(vld1q_u8(kIndex + kHalf), channels));
    const int bytes = (t->channels + 7) / 8;
    for (int i = 0; i < t->bits; ++i) store_bytes(out + i * t->out_plane_bytes, plane_of(low, high, i), bytes);
  } else if (t->channels == kBlock) {
    vst1q_u8(out, low);
    vst1q_u8(out + kHalf, high);
  } else {
    uint8_t bytes[kBlock];
    vst1q_u8(bytes, low);
    vst1q_u8(bytes + kHalf, high);
    __builtin_memcpy(out, bytes, static_cast<unsigned>(t->channels));
  }
}

// D of a vector of channels from its accumulators; border: null or a row of 32.
static inline int32x4_t corrected(const uint32_t* accumulator, int32x4_t shift, uint32x4_t add, const int32_t* border) {
  const uint32x4_t d = vaddq_u32(vshlq_u32(vld1q_u32(accumulator), shift), add);
  return vreinterpretq_s32_u32(border ? vaddq_u32(d, vreinterpretq_u32_s32(vld1q_s32(border))) : d);
}

// Codes of half a block, by the line or by counting thresholds
static inline uint8x16_t affine_half(const CodeStage* t, int channel, const float32x4_t (&x)[kVectors]) {
  const int32x4_t n = vdupq_n_s32((1 << t->bits) - 1);
  uint32x4_t code[kVectors];
  for (int v = 0; v < kVectors; ++v) {
    const float32x4_t product = vmulq_f32(x[v], vld1q_f32(t->multiply + channel + v * 4));
    code[v] = nearest_code(vaddq_f32(product, vld1q_f32(t->offset + channel + v * 4)), n);
  }
  return narrow(code);
}

// Where every v is near an integer, these are the codes. False otherwise (NaN included): the thresholds decide.
static inline bool guided_half(const CodeStage* t, int channel, const float32x4_t (&x)[kVectors], uint8x16_t* codes) {
  const float32x4_t n = vdupq_n_f32(static_cast<float>((1 << t->bits) - 1)), margin = vdupq_n_f32(t->margin);
  uint32x4_t code[kVectors], near = vdupq_n_u32(~0u);
  for (int v = 0; v < kVectors; ++v) {
    const float32x4_t product = vmulq_f32(x[v], vld1q_f32(t->multiply + channel + v * 4));
    const float32x4_t sum = vaddq_f32(product, vld1q_f32(t->offset + channel + v * 4));
    const float32x4_t line = vminq_f32(vmaxq_f32(sum, vdupq_n_f32(0.0f)), n);
    const float32x4_t nearest = vrndnq_f32(line);
    near = vandq_u32(near, vcltq_f32(vabdq_f32(line, nearest), margin));
    code[v] = vcvtq_u32_f32(nearest);
  }
  *codes = narrow(code);
  return vminvq_u32(near) != 0;
}

static inline uint32x4_t at_least(int32x4_t x, const int32_t* threshold) { return vcgeq_s32(x, vld1q_s32(threshold)); }
static inline uint32x4_t at_least(float32x4_t x, const float* threshold) { return vcgeq_f32(x, vld1q_f32(threshold)); }

template <class Vector, class Number>
static inline uint8x16_t count_half(const CodeStage* t, int channel, const Vector (&x)[kVectors],
                                    const Number* threshold) {
  uint32x4_t code[kVectors];
  for (int v = 0; v < kVectors; ++v) code[v] = vdupq_n_u32(0);
  for (int j = 1; j < 1 << t->bits; ++j, threshold += kBlock) {
    for (int v = 0; v < kVectors; ++v)
      code[v] = vsubq_u32(code[v], at_least(x[v], threshold + channel + v * 4));  // minus -1
  }
  return narrow(code);
}

static inline uint8x16_t codes_of_ints(const CodeStage* t, int pixel, int channel, const uint32_t* row,
                                       const int32_t* border) {
  const Correction* correction = &t->correction;
  const int32x4_t shift = vdupq_n_s32(correction->shift);
  const uint32x4_t add = vdupq_n_u32(correction->add ? static_cast<uint32_t>(correction->add[pixel]) : 0);
  int32x4_t d[kVectors];
  for (int v = 0; v < kVectors; ++v) {
    const int c = channel + v * 4;
    d[v] = corrected(row + c, shift, add, border ? border + c : nullptr);
  }
  if (t->rule == kAffine) {
    float32x4_t x[kVectors];
    for (int v = 0; v < kVectors; ++v) x[v] = vcvtq_f32_s32(d[v]);
    return affine_half(t, channel, x);
  }
  if (t->negate) {
    for (int v = 0; v < kVectors; ++v) {
      const int32x4_t sign = vld1q_s32(t->negate + channel + v * 4);
      d[v] = vsubq_s32(veorq_s32(d[v], sign), sign);
    }
  }
  if (t->rule == kGuided) {
    float32x4_t x[kVectors];
    for (int v = 0; v < kVectors; ++v) x[v] = vcvtq_f32_s32(d[v]);
    uint8x16_t codes;
    if (guided_half(t, channel, x, &codes)) return codes;
  }
  return count_half(t, channel, d, static_cast<const int32_t*>(t->thresholds));
}

static void int_to_codes(const CodeStage* t, const void* tile) {
  for (int p = 0; p < t->pixels; ++p) {
    const uint32_t* row = static_cast<const uint32_t*>(tile) + p * kBlock;
    const int32_t* border = t->correction.border ? t->correction.border[p] : nullptr;
    const uint8x16_t low = codes_of_ints(t, p, 0, row, border);
    const uint8x16_t high = t->channels > kHalf ? codes_of_ints(t, p, kHalf, row, border) : vdupq_n_u8(0);
    store_codes(t, p, low, high);
  }
}

static inline uint8x16_t codes_of_floats(const CodeStage* t, int channel, const float* row) {
  float32x4_t x[kVectors];
  for (int v = 0; v < kVectors; ++v) x[v] = vld1q_f32(row + channel + v * 4);
  if (t->rule == kAffine) return affine_half(t, channel, x);
  if (t->negate) {
    for (int v = 0; v < kVectors; ++v) {
      const uint32x4_t sign =
          vshlq_n_u32(vld1q_u32(reinterpret_cast<const uint32_t*>(t->negate) + channel + v * 4), 31);
      x[v] = vreinterpretq_f32_u32(veorq_u32(vreinterpretq_u32_f32(x[v]), sign));
    }
  }
  uint8x16_t codes;
  if (t->rule == kGuided && guided_half(t, channel, x, &codes)) return codes;
  return count_half(t, channel, x, static_cast<const float*>(t->thresholds));
}

static void float_to_codes(const CodeStage* t, const void* tile) {
  for (int p = 0; p < t->pixels; ++p) {
    const float* row = static_cast<const float*>(tile) + p * kBlock;
    const uint8x16_t low = codes_of_floats(t, 0, row);
    const uint8x16_t high = t->channels > kHalf ? codes_of_floats(t, kHalf, row) : vdupq_n_u8(0);
    store_codes(t, p, low, high);
  }
}

// ---- Rows ----

static inline uint32_t sum_of_codes(const uint8_t* codes, int count) {
  uint32_t sum = 0;
  int k = 0;
  for (; k + 16 <= count; k += 16) sum += vaddlvq_u8(vld1q_u8(codes + k));
  if (k + 8 <= count) {
    sum += vaddlv_u8(vld1_u8(codes + k));
    k += 8;
  }
  for (; k < count; ++k) sum += codes[k];
  return sum;
}

// The bits of a plane: 8 per byte, so that the counts of 16 bytes fit in one.
static inline uint32_t count_plane(const uint8_t* bytes, int count) {
  uint32_t sum = 0;
  int k = 0;
  for (; k + 16 <= count; k += 16) sum += vaddvq_u8(vcntq_u8(vld1q_u8(bytes + k)));
  if (k + 8 <= count) {
    sum += vaddv_u8(vcnt_u8(vld1_u8(bytes + k)));
    k += 8;
  }
  if (k < count) {
    uint64_t rest = 0;
    for (int shift = 0; k < count; ++k, shift += 8) rest |= static_cast<uint64_t>(bytes[k]) << shift;
    sum += vaddv_u8(vcnt_u8(vcreate_u8(rest)));
  }
  return sum;
}

static void pixel_sums(const PixelSums* t) {
  for (int x = 0; x < t->pixels; ++x) {
    const uint8_t* pixel = t->row + x * t->pixel_bytes;
    uint32_t sum = 0;
    if (t->planes) {
      for (int i = 0; i < t->bits; ++i) sum += count_plane(pixel + i * t->plane_bytes, t->bytes) << i;
    } else {
      sum = sum_of_codes(pixel, t->bytes);
    }
    t->sums[x] = static_cast<int32_t>(sum);
  }
}

static void quantize_unit(uint8_t* out, const float* in, int64_t n, int bits) {
  const float levels = static_cast<float>((1 << bits) - 1);
  const int32x4_t most = vdupq_n_s32((1 << bits) - 1);
  int64_t i = 0;
  for (; i + 16 <= n; i += 16) {
    uint32x4_t code[kVectors];
    for (int v = 0; v < kVectors; ++v) code[v] = nearest_code(vmulq_n_f32(vld1q_f32(in + i + v * 4), levels), most);
    vst1q_u8(out + i, narrow(code));
  }
  generic_quantize_unit(out + i, in + i, n - i, bits);
}

static void bytes_to_planes(uint8_t* out, int64_t plane_bytes, const uint8_t* in, int64_t channels, int bits) {
  int64_t c = 0;
  for (; c + kBlock <= channels; c += kBlock) {
    const uint8x16_t low = vld1q_u8(in + c), high = vld1q_u8(in + c + kHalf);
    for (int i = 0; i < bits; ++i) store_bytes(out + i * plane_bytes + c / 8, plane_of(low, high, i), 4);
  }
  generic_bytes_to_planes(out + c / 8, plane_bytes, in + c, channels - c, bits);
}

static void planes_to_bytes(uint8_t* out, const uint8_t* in, int64_t plane_bytes, int64_t channels, int bits) {
  const uint8x16_t place = vreinterpretq_u8_u64(vdupq_n_u64(0x8040201008040201u));
  int64_t c = 0;
  for (; c + 16 <= channels; c += 16) {
    uint8x16_t codes = vdupq_n_u8(0);
    for (int i = 0; i < bits; ++i) {
      const uint8_t* byte = in + i * plane_bytes + c / 8;
      const uint8x16_t spread = vcombine_u8(vdup_n_u8(byte[0]), vdup_n_u8(byte[1]));
      codes = vorrq_u8(codes, vandq_u8(vtstq_u8(spread, place), vdupq_n_u8(static_cast<uint8_t>(1 << i))));
    }
    vst1q_u8(out + c, codes);
  }
  generic_planes_to_bytes(out + c, in + c / 8, plane_bytes, channels - c, bits);
}

struct DotNames {
  const char *popcount, *bytes, *depthwise, *floats, *depthwise_floats;
};

// What both tables have in common; stages and rows that are not named here are loops that compilers vectorise well.
static constexpr KernelTable neon_table(const char* name, const DotNames& names, DotFunction dot_bytes) {
  KernelTable t = generic_table(name);
  t.norms = &kNeonNorms;
  t.functions = &kPortableFunctions;
  t.resizes = &kPortableResize;  // which has NEON as well: it is part of the baseline
  set_dot(&t, kPopcount, names.popcount, dot_popcount, kPixelsPerCall);
  set_dot(&t, kBytes, names.bytes, dot_bytes, kPixelsPerCall);
  set_dot(&t, kDepthwise, names.depthwise, dot_depthwise, kPixelsPerCall);
  set_dot(&t, kFloat, names.floats, dot_float, kPixelsPerCall);
  set_dot(&t, kDepthwiseFloat, names.depthwise_floats, generic_dot_depthwise_float, kMaxTilePixels);
  t.int_to_codes = int_to_codes;
  t.float_to_codes = float_to_codes;
  t.pixel_sums = pixel_sums;
  t.rows.planes_to_bytes = planes_to_bytes;
  t.rows.bytes_to_planes = bytes_to_planes;
  t.rows.quantize_unit = quantize_unit;
  return t;
}
