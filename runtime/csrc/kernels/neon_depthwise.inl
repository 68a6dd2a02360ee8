// Sums of depthwise_blocks.inl with NEON. Text of neon.cpp and neon_dotprod.cpp, after neon.inl.
//
//   bytes   weights of one bit: -1 turns all bits of a code around, which is -q - 1:
//             D = sum over taps of (q xor s) + the number of taps with s, s = 0 or 255
//   words   SMLAL on bytes, whose codes have no more than 7 bits; on codes of 8 bits MLA in 16 bits, as they are
//   ints    SMLAL on 16 bits
//
// A tap of 16 channels is a load and two multiplications, which add up as they go: pairs of taps would only have to be
// brought together. Channels stay in their order.

static int32_t dw_word_lane(int32_t c) { return c; }
static int32_t dw_int_lane(int32_t c) { return c; }

struct DwCodes {
  uint8x16_t low, high;
};
static inline void put_codes(const CodeStage* t, int pixel, DwCodes codes) {
  store_codes(t, pixel, codes.low, codes.high);
}
static void int_to_float(const FloatStage* t, void* tile) { generic_int_to_float(t, tile); }

// Bytes: [tap][32] of s, then how many there are; else [tap][32] weights of 8 or 16 bits.
static int64_t dw_weight_bytes(const FusedSpec* s, DwKind kind) {
  const int64_t taps = int64_t{s->kernel_h} * s->kernel_w;
  return (kind == kDwBytes ? taps + 1 : kind == kDwWords ? taps : 2 * taps) * kBlock;
}

static void dw_put_weights(const FusedSpec* s, DwKind kind, const uint8_t* m, int c, uint8_t* to) {
  const int taps = s->kernel_h * s->kernel_w;
  for (int k = 0; k < taps; ++k) {
    const auto code = static_cast<int16_t>(s->code_step * m[k] + s->lowest_code);
    if (kind == kDwBytes) {
      to[k * kBlock + c] = m[k] == 0 ? 255 : 0;
      to[taps * kBlock + c] = static_cast<uint8_t>(to[taps * kBlock + c] + (m[k] == 0));
    } else if (kind == kDwWords) {
      to[k * kBlock + c] = static_cast<uint8_t>(code);
    } else {
      __builtin_memcpy(to + 2 * (k * kBlock + c), &code, 2);
    }
  }
}

// ---- Sums ----

template <int kernel>
static void dw_sum_bytes(const uint8_t* in, const DwWindow* window, const uint8_t* weights, int pixels, int live,
                         uint8_t* sums) {
  constexpr int kTaps = kernel * kernel;
  const DwWindow w = *window;
  for (int h = 0; h < kBlock; h += kHalf, weights += kHalf, in += kHalf, sums += kHalf) {
    const uint8x16_t flipped = vld1q_u8(weights + kTaps * kBlock);
    for (int r = 0; r < live; ++r) {
      uint8_t* to = sums + r * kDwPixels * kBlock;
      const uint8_t* at = in + r * w.in_row;
      for (int p = 0; p < pixels; ++p, at += w.in_pixel, to += kBlock) {
        uint8x16_t sum = flipped;
#pragma GCC unroll 9
        for (int k = 0; k < kTaps; ++k) {
          const uint8x16_t codes = vld1q_u8(at + k / kernel * w.row + w.tap[k % kernel]);
          sum = vaddq_u8(sum, veorq_u8(codes, vld1q_u8(weights + k * kBlock)));
        }
        vst1q_u8(to, sum);
      }
    }
  }
}

template <int kernel, bool eight_bits>
static void dw_sum_words(const uint8_t* in, const DwWindow* window, const uint8_t* weights, int pixels, int live,
                         uint8_t* sums) {
  constexpr int kTaps = kernel * kernel;
  const DwWindow w = *window;
  for (int h = 0; h < kBlock; h += kHalf, weights += kHalf, in += kHalf, sums += 2 * kHalf) {
    for (int r = 0; r < live; ++r) {
      uint8_t* to = sums + r * 2 * kDwPixels * kBlock;
      const uint8_t* at = in + r * w.in_row;
      for (int p = 0; p < pixels; ++p, at += w.in_pixel, to += 2 * kBlock) {
        int16x8_t low = vdupq_n_s16(0), high = vdupq_n_s16(0);
#pragma GCC unroll 9
        for (int k = 0; k < kTaps; ++k) {
          const uint8x16_t codes = vld1q_u8(at + k / kernel * w.row + w.tap[k % kernel]);
          const int8x16_t weight = vreinterpretq_s8_u8(vld1q_u8(weights + k * kBlock));
          if (eight_bits) {
            low = vmlaq_s16(low, vreinterpretq_s16_u16(vmovl_u8(vget_low_u8(codes))), vmovl_s8(vget_low_s8(weight)));
            high = vmlaq_s16(high, vreinterpretq_s16_u16(vmovl_high_u8(codes)), vmovl_high_s8(weight));
          } else {
            low = vmlal_s8(low, vreinterpret_s8_u8(vget_low_u8(codes)), vget_low_s8(weight));
            high = vmlal_high_s8(high, vreinterpretq_s8_u8(codes), weight);
          }
        }
        vst1q_u8(to, vreinterpretq_u8_s16(low));
        vst1q_u8(to + kHalf, vreinterpretq_u8_s16(high));
      }
    }
  }
}

template <int kernel>
static void dw_sum_ints(const uint8_t* in, const DwWindow* window, const uint8_t* weights, int pixels, int live,
                        uint8_t* sums) {
  constexpr int kTaps = kernel * kernel;
  const DwWindow w = *window;
  for (int h = 0; h < kBlock; h += kHalf, weights += 2 * kHalf, in += kHalf, sums += 4 * kHalf) {
    for (int r = 0; r < live; ++r) {
      uint8_t* to = sums + r * 4 * kDwPixels * kBlock;
      const uint8_t* at = in + r * w.in_row;
      for (int p = 0; p < pixels; ++p, at += w.in_pixel, to += 4 * kBlock) {
        int32x4_t sum[4] = {vdupq_n_s32(0), vdupq_n_s32(0), vdupq_n_s32(0), vdupq_n_s32(0)};
#pragma GCC unroll 9
        for (int k = 0; k < kTaps; ++k) {
          const uint8x16_t codes = vld1q_u8(at + k / kernel * w.row + w.tap[k % kernel]);
          const uint8_t* const weight = weights + 2 * k * kBlock;
          const int16x8_t low = vreinterpretq_s16_u16(vmovl_u8(vget_low_u8(codes)));
          const int16x8_t high = vreinterpretq_s16_u16(vmovl_high_u8(codes));
          const int16x8_t w_low = vreinterpretq_s16_u8(vld1q_u8(weight));
          const int16x8_t w_high = vreinterpretq_s16_u8(vld1q_u8(weight + kHalf));
          sum[0] = vmlal_s16(sum[0], vget_low_s16(low), vget_low_s16(w_low));
          sum[1] = vmlal_high_s16(sum[1], low, w_low);
          sum[2] = vmlal_s16(sum[2], vget_low_s16(high), vget_low_s16(w_high));
          sum[3] = vmlal_high_s16(sum[3], high, w_high);
        }
        for (int v = 0; v < 4; ++v) vst1q_u8(to + v * kHalf, vreinterpretq_u8_s32(sum[v]));
      }
    }
  }
}

template <int kernel>
static DwSum dw_sum_of(const FusedSpec* s, DwKind kind) {
  if (kind == kDwBytes) return dw_sum_bytes<kernel>;
  if (kind == kDwInts) return dw_sum_ints<kernel>;
  return s->activation_bits == 8 ? dw_sum_words<kernel, true> : dw_sum_words<kernel, false>;
}

static DwSum dw_sum(const FusedSpec* s, DwKind kind) {
  return s->kernel_h == 3 ? dw_sum_of<3>(s, kind) : s->kernel_h == 5 ? dw_sum_of<5>(s, kind) : dw_sum_of<7>(s, kind);
}

// ---- Sums to codes ----

// Eight sums from number `first` on.
static inline int16x8_t dw_eight(const uint8_t* sums, DwKind kind, int first) {
  if (kind == kDwWords) return vreinterpretq_s16_u8(vld1q_u8(sums + 2 * first));
  const int32x4_t low = vreinterpretq_s32_u8(vld1q_u8(sums + 4 * first));
  return vqmovn_high_s32(vqmovn_s32(low), vreinterpretq_s32_u8(vld1q_u8(sums + 4 * first + 16)));
}

static inline uint8x16_t dw_byte_half(const uint8_t* sums, DwKind kind, const uint8_t* thresholds, int levels, int h) {
  const int8x16_t d = kind == kDwBytes
                          ? vreinterpretq_s8_u8(vld1q_u8(sums + h))
                          : vqmovn_high_s16(vqmovn_s16(dw_eight(sums, kind, h)), dw_eight(sums, kind, h + 8));
  uint8x16_t code = vdupq_n_u8(0);
  for (int j = 0; j < levels; ++j) {
    const int8x16_t threshold = vreinterpretq_s8_u8(vld1q_u8(thresholds + j * kBlock + h));
    code = vsubq_u8(code, vcgeq_s8(d, threshold));  // minus -1
  }
  return code;
}
static inline DwCodes dw_byte_codes(const uint8_t* sums, DwKind kind, const uint8_t* thresholds, int levels) {
  return {dw_byte_half(sums, kind, thresholds, levels, 0), dw_byte_half(sums, kind, thresholds, levels, kHalf)};
}

static inline uint8x8_t dw_word_quarter(const uint8_t* sums, DwKind kind, const uint8_t* thresholds, int levels,
                                        int c) {
  const int16x8_t d = dw_eight(sums, kind, c);
  uint16x8_t code = vdupq_n_u16(0);
  for (int j = 0; j < levels; ++j) {
    const int16x8_t threshold = vreinterpretq_s16_u8(vld1q_u8(thresholds + 2 * (j * kBlock + c)));
    code = vsubq_u16(code, vcgeq_s16(d, threshold));
  }
  return vmovn_u16(code);
}
static inline DwCodes dw_word_codes(const uint8_t* sums, DwKind kind, const uint8_t* thresholds, int levels) {
  const auto half = [&](int c) {
    return vcombine_u8(dw_word_quarter(sums, kind, thresholds, levels, c),
                       dw_word_quarter(sums, kind, thresholds, levels, c + 8));
  };
  return {half(0), half(kHalf)};
}

static inline int32x4_t dw_four(const uint8_t* sums, DwKind kind, int first) {
  if (kind == kDwInts) return vreinterpretq_s32_u8(vld1q_u8(sums + 4 * first));
  return vmovl_s16(vreinterpret_s16_u8(vld1_u8(sums + 2 * first)));
}

static inline DwCodes dw_line_codes(const uint8_t* sums, DwKind kind, const float* line, int levels) {
  const int32x4_t n = vdupq_n_s32(levels);
  uint8x16_t half[2];
  for (int h = 0; h < 2; ++h) {
    uint32x4_t code[kVectors];
    for (int v = 0; v < kVectors; ++v) {
      const int c = h * kHalf + 4 * v;
      const float32x4_t scaled = vmulq_f32(vcvtq_f32_s32(dw_four(sums, kind, c)), vld1q_f32(line + c));
      code[v] = nearest_code(vaddq_f32(scaled, vld1q_f32(line + kBlock + c)), n);
    }
    half[h] = narrow(code);
  }
  return {half[0], half[1]};
}

static inline void dw_ints(DwKind kind, const uint8_t* sums, int32_t* tile) {
  for (int c = 0; c < kBlock && kind == kDwBytes; ++c) tile[c] = static_cast<int8_t>(sums[c]);
  for (int c = 0; c < kBlock && kind != kDwBytes; c += 4) vst1q_s32(tile + c, dw_four(sums, kind, c));
}
