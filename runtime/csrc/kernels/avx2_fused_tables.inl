// Fused convolutions by tables with AVX2: W1, W2 x A1 .. A4, windows of any size and stride. Text of avx2.cpp.
//
// The tables and look-ups of avx2_tables.inl, with sums in the narrowest lanes that hold what they end as:
//   -lowest_code * S = code_step * shift + parity,  0 <= parity < code_step,  of a pixel (S: sum of its window's codes)
//   x = sum of m q - shift,   D = code_step * x - parity,   D >= T  <=>  x >= ceil((T + parity) / code_step)
// Bytes where |D| stays small, as in narrow 1 x 1 layers: sums then never leave the bytes they are added up in, which
// may wrap on the way. Else 16 bits, `whole` and `odd` as in avx2_tables.inl. Codes of up to 4 bits are counted in the
// same lanes, against thresholds made at load for either parity; everything else goes on from D in a tile of int32
// through the stages, in the first-level cache.

constexpr int kFusedPixels = 64;  // of a row, that are finished together
constexpr int kFusedParts = 2;    // of 32 channels, that share the load of a table
constexpr int kFusedTile = 4;     // pixels whose sums are in registers at a time
constexpr int kFusedWeightBits = 2, kFusedActivationBits = 4, kFusedCodeBits = 4;

struct FusedShape {
  int32_t tables, taps, steps, parts, planes, levels, slots, columns;
  int32_t lane_bytes;  // 1, 2; 0: not served
  bool lane_codes;
  int64_t threshold_part, threshold_parity, threshold_class;  // int8 or int16 [class][parity][part][level][32]
  int64_t thresholds, stage_thresholds, prepared;             // offsets into what prepare() leaves, and all of it
  int64_t row_tables, sums, offsets, scratch;                 // bytes of a row of tables; offsets into the scratch

  explicit FusedShape(const FusedSpec* s) {
    const FusedEpilogue* e = &s->epilogue;
    tables = (s->in_channels + kTableChannels - 1) / kTableChannels;
    taps = s->kernel_h * s->kernel_w;
    steps = taps * tables;
    parts = (s->out_channels + kBlock - 1) / kBlock;
    planes = s->weight_bits;
    levels = e->wants_codes ? (1 << e->bits) - 1 : 0;
    slots = (s->kernel_h - 1) * s->dilation_h + 1;
    columns = (s->width - 1) * s->stride_w + (s->kernel_w - 1) * s->dilation_w + 1;
    lane_bytes = s->largest_sum <= s->code_step * 126 ? 1 : s->largest_sum <= s->code_step * 32766 ? 2 : 0;
    lane_codes = e->wants_codes && e->codes_from_int && e->bits <= kFusedCodeBits;
    threshold_part = int64_t{levels} * kBlock * lane_bytes;
    threshold_parity = parts * threshold_part;
    threshold_class = s->code_step * threshold_parity;
    const int64_t classes = e->border == nullptr ? 1 : int64_t{e->row_classes} * e->column_classes;
    thresholds = int64_t{parts} * planes * steps * kBlock;
    stage_thresholds = thresholds + (lane_codes ? (classes * threshold_class + 63) / 64 * 64 : 0);
    const bool of_y = e->wants_codes && !e->codes_from_int && e->rule == kFusedThresholds;
    prepared = stage_thresholds + (of_y ? int64_t{parts} * levels * kBlock * 4 : 0);
    row_tables = int64_t{columns} * tables * kTableBytes;
    sums = slots * row_tables;
    offsets = (sums + int64_t{slots} * columns * 4 + 63) / 64 * 64;
    scratch = offsets + kFusedPixels * 8;
  }
};

static int64_t fused_prepared_bytes(const FusedSpec* s) { return FusedShape(s).prepared; }
static int64_t fused_scratch_bytes(const FusedSpec* s) { return FusedShape(s).scratch; }

// Bit `plane` of up to 4 weights.
static inline uint8_t fused_bits(const uint8_t* m, int64_t count, int plane) {
  static_assert(kTableChannels == 4, "a load of 4 bytes");
  uint32_t weights = 0;
  if (count >= kTableChannels) {
    __builtin_memcpy(&weights, m, 4);
  } else {
    for (int64_t i = 0; i < count; ++i) weights |= uint32_t{m[i]} << 8 * i;
  }
  // The product adds bit 0 of byte i at bit 24 + i, and nothing else reaches those.
  return static_cast<uint8_t>((weights >> plane & 0x01010101u) * 0x01020408u >> 24 & 15);
}

// index [part][plane][tap][table][32], of m [channel][tap][in_channels]
static void fused_fill_indices(const FusedSpec* s, const FusedShape* f, const uint8_t* m, uint8_t* index) {
  for (int64_t c = 0; c < s->out_channels; ++c) {
    for (int j = 0; j < f->planes; ++j) {
      const uint8_t* weight = m + c * f->taps * s->in_channels;
      uint8_t* to = index + (c / kBlock * f->planes + j) * f->steps * kBlock + c % kBlock;
      for (int64_t tap = 0; tap < f->taps; ++tap, weight += s->in_channels) {
        for (int64_t k = 0; k < s->in_channels; k += kTableChannels, to += kBlock) {
          *to = fused_bits(weight + k, s->in_channels - k, j);
        }
      }
    }
  }
}

// The threshold of x, and 16-bit ones of even channels before those of odd ones.
static void fused_put_threshold(const FusedShape* f, int64_t x, uint8_t* row, int channel) {
  const int64_t most = f->lane_bytes == 1 ? 127 : 32767;
  x = x > most ? most : x < -most - 1 ? -most - 1 : x;
  if (f->lane_bytes == 1) {
    row[channel] = static_cast<uint8_t>(x);
    return;
  }
  const int16_t word = static_cast<int16_t>(x);
  __builtin_memcpy(row + 2 * (channel % 2 * 16 + channel / 2), &word, 2);
}

static void fused_fill_thresholds(const FusedSpec* s, const FusedShape* f, uint8_t* to) {
  const FusedEpilogue* e = &s->epilogue;
  const int64_t padded = (s->out_channels + kFusedChannels - 1) / kFusedChannels * kFusedChannels;
  const int64_t classes = e->border == nullptr ? 1 : int64_t{e->row_classes} * e->column_classes;
  for (int64_t k = 0; k < classes; ++k) {
    for (int parity = 0; parity < s->code_step; ++parity) {
      for (int64_t c = 0; c < int64_t{f->parts} * kBlock; ++c) {
        uint8_t* row = to + k * f->threshold_class + parity * f->threshold_parity + c / kBlock * f->threshold_part;
        for (int j = 0; j < f->levels; ++j, row += kBlock * f->lane_bytes) {
          const int64_t d = static_cast<const int32_t*>(e->thresholds)[j * padded + c];
          const int64_t t = d - (e->border == nullptr ? 0 : e->border[k * padded + c]) + parity;
          const int64_t x = t >= 0 ? (t + s->code_step - 1) / s->code_step : -(-t / s->code_step);
          fused_put_threshold(f, x, row, static_cast<int>(c % kBlock));
        }
      }
    }
  }
}

static bool fused_prepare(const FusedSpec* s, const uint8_t* m, void* prepared) {
  const FusedShape f(s);
  const FusedEpilogue* e = &s->epilogue;
  uint8_t* to = static_cast<uint8_t*>(prepared);
  fused_fill_indices(s, &f, m, to);
  if (f.lane_codes) fused_fill_thresholds(s, &f, to + f.thresholds);
  if (f.prepared == f.stage_thresholds) return true;
  const int64_t padded = (s->out_channels + kFusedChannels - 1) / kFusedChannels * kFusedChannels;
  float* thresholds = reinterpret_cast<float*>(to + f.stage_thresholds);
  for (int part = 0; part < f.parts; ++part) {
    for (int j = 0; j < f.levels; ++j, thresholds += kBlock) {
      __builtin_memcpy(thresholds, static_cast<const float*>(e->thresholds) + j * padded + part * kBlock, 4 * kBlock);
    }
  }
  return true;
}

// ---- Sums ----

// What is summed up for the pixels of a row: x in bytes [part][pixel][32], or whole and odd [part][pixel][2][16].
struct FusedSums {
  const FusedSpec* spec;
  const FusedShape* shape;
  const uint8_t* rows[64];  // of tables, by tap row; windows of more rows are not served
  const uint8_t* index;     // of the first part
  int32_t first_x;          // of the output
  const int32_t* shift;     // [pixels]
  alignas(32) uint8_t lanes[kFusedParts][kFusedPixels][2 * kBlock];
};

// In place: else compilers copy a sum before they add to it, and then find no register for the last one.
#ifdef BITORCH_NO_ASM
#define BITORCH_ADD_BYTES(sum, x) (sum) = _mm256_add_epi8(sum, x)
#else
#define BITORCH_ADD_BYTES(sum, x) __asm__("vpaddb %1,%0,%0" : "+x"(sum) : "x"(x))
#endif

// The look-ups of `count` steps whose tables lie one behind the other. Not inlined: beside more loops GCC finds too few
// registers for pointers and sums.
template <int parts>
static __attribute__((noinline)) void fused_look_up(const uint8_t* const* table, const uint8_t* w, int64_t part_bytes,
                                                    int64_t count, __m256i (&sums)[kFusedTile][parts]) {
  const uint8_t *x[kFusedTile], *indices[parts];
  __m256i sum[kFusedTile][parts];
#pragma GCC unroll 4
  for (int p = 0; p < kFusedTile; ++p) {
    x[p] = table[p] + count * kTableBytes;
#pragma GCC unroll 2
    for (int b = 0; b < parts; ++b) sum[p][b] = pin(sums[p][b]);
  }
#pragma GCC unroll 2
  for (int b = 0; b < parts; ++b) indices[b] = w + b * part_bytes + count * kBlock;
  for (int64_t at = -count * kTableBytes; at != 0; at += kTableBytes) {
    __m256i index[parts];
#pragma GCC unroll 2
    for (int b = 0; b < parts; ++b) index[b] = pin(load(indices[b] + 2 * at));
#pragma GCC unroll 4
    for (int p = 0; p < kFusedTile; p += 2) {
      __m256i found[2][parts];
#pragma GCC unroll 2
      for (int i = 0; i < 2; ++i) {
        const __m256i entries =
            _mm256_broadcastsi128_si256(_mm_load_si128(reinterpret_cast<const __m128i*>(x[p + i] + at)));
#pragma GCC unroll 2
        for (int b = 0; b < parts; ++b) found[i][b] = pin(_mm256_shuffle_epi8(entries, index[b]));
      }
#pragma GCC unroll 2
      for (int i = 0; i < 2; ++i) {
#pragma GCC unroll 2
        for (int b = 0; b < parts; ++b) BITORCH_ADD_BYTES(sum[p + i][b], found[i][b]);
      }
    }
  }
#pragma GCC unroll 4
  for (int p = 0; p < kFusedTile; ++p) {
#pragma GCC unroll 2
    for (int b = 0; b < parts; ++b) sums[p][b] = sum[p][b];
  }
}

template <int parts>
static inline __attribute__((always_inline)) void fused_clear(__m256i (&sum)[kFusedTile][parts]) {
#pragma GCC unroll 4
  for (int p = 0; p < kFusedTile; ++p) {
#pragma GCC unroll 2
    for (int b = 0; b < parts; ++b) sum[p][b] = _mm256_setzero_si256();
  }
}

// Full bytes go to 16 bits, 2^plane times.
template <int parts>
static inline __attribute__((always_inline)) void fused_flush(FusedSums* t, int pixel, int plane,
                                                              const __m256i (&sum)[kFusedTile][parts]) {
  const __m128i shift = _mm_cvtsi32_si128(plane);
#pragma GCC unroll 4
  for (int p = 0; p < kFusedTile; ++p) {
#pragma GCC unroll 2
    for (int b = 0; b < parts; ++b) {
      uint8_t* to = t->lanes[b][pixel + p];
      const __m256i odd = _mm256_srli_epi16(sum[p][b], 8);
      store(to, _mm256_add_epi16(load(to), _mm256_sll_epi16(sum[p][b], shift)));
      store(to + kBlock, _mm256_add_epi16(load(to + kBlock), _mm256_sll_epi16(odd, shift)));
    }
  }
}

// All steps of one weight plane: into bytes that may wrap, or flushed as often as bytes are full.
template <int parts, bool bytes>
static void fused_plane(FusedSums* t, int pixel, int plane, const int64_t (&at)[kFusedTile],
                        __m256i (&sum)[kFusedTile][parts]) {
  const FusedSpec* s = t->spec;
  const FusedShape* f = t->shape;
  const int64_t plane_bytes = int64_t{f->steps} * kBlock, part_bytes = f->planes * plane_bytes;
  const int byte_steps = 255 / (kTableChannels * ((1 << s->activation_bits) - 1));
  const uint8_t* w = t->index + plane * plane_bytes;
  int room = byte_steps;
  for (int y = 0; y < s->kernel_h; ++y) {
    for (int x = 0; x < s->kernel_w; ++x, w += int64_t{f->tables} * kBlock) {
      const uint8_t* table[kFusedTile];
      const int64_t column = int64_t{x} * s->dilation_w * f->tables * kTableBytes;
      for (int p = 0; p < kFusedTile; ++p) table[p] = t->rows[y] + at[p] + column;
      if (bytes) {
        fused_look_up<parts>(table, w, part_bytes, f->tables, sum);
        continue;
      }
      for (int k = 0; k < f->tables;) {
        const int count = smaller(room, f->tables - k);
        fused_look_up<parts>(table, w + int64_t{k} * kBlock, part_bytes, count, sum);
        k += count;
        for (const uint8_t*& from : table) from += count * kTableBytes;
        room -= count;
        if (room > 0) continue;
        fused_flush<parts>(t, pixel, plane, sum);
        fused_clear<parts>(sum);
        room = byte_steps;
      }
    }
  }
  if (!bytes) fused_flush<parts>(t, pixel, plane, sum);
}

// x of some pixels from `pixel` on; the last one may be repeated.
template <int parts, bool bytes>
static void fused_tile(FusedSums* t, int pixel, int pixels) {
  const FusedSpec* s = t->spec;
  int64_t at[kFusedTile];
  for (int p = 0; p < kFusedTile; ++p) {
    const int64_t x = t->first_x + smaller(pixel + p, pixels - 1);
    at[p] = x * s->stride_w * t->shape->tables * kTableBytes;
    const int shift = t->shift[smaller(pixel + p, pixels - 1)];
    for (int b = 0; b < parts && !bytes; ++b) {
      store(t->lanes[b][pixel + p], _mm256_set1_epi16(static_cast<int16_t>(-shift * 257)));
      store(t->lanes[b][pixel + p] + kBlock, _mm256_set1_epi16(static_cast<int16_t>(-shift)));
    }
  }
  __m256i sum[kFusedTile][parts];
  fused_clear<parts>(sum);
  for (int j = t->shape->planes - 1; j >= 0; --j) {
    fused_plane<parts, bytes>(t, pixel, j, at, sum);
    if (!bytes) fused_clear<parts>(sum);
#pragma GCC unroll 4
    for (int p = 0; p < kFusedTile && bytes && j > 0; ++p) {
#pragma GCC unroll 2
      for (int b = 0; b < parts; ++b) sum[p][b] = _mm256_add_epi8(sum[p][b], sum[p][b]);
    }
  }
#pragma GCC unroll 4
  for (int p = 0; p < kFusedTile && bytes; ++p) {
    const __m256i shift = _mm256_set1_epi8(static_cast<char>(t->shift[smaller(pixel + p, pixels - 1)]));
#pragma GCC unroll 2
    for (int b = 0; b < parts; ++b) store(t->lanes[b][pixel + p], _mm256_sub_epi8(sum[p][b], shift));
  }
}

static __attribute__((noinline)) void fused_sums(FusedSums* t, int parts, int pixels) {
  const bool bytes = t->shape->lane_bytes == 1;
  for (int p = 0; p < pixels; p += kFusedTile) {
    if (parts == 2) {
      bytes ? fused_tile<2, true>(t, p, pixels) : fused_tile<2, false>(t, p, pixels);
    } else {
      bytes ? fused_tile<1, true>(t, p, pixels) : fused_tile<1, false>(t, p, pixels);
    }
  }
}

// ---- What the sums become ----

// Even and odd channels of x in 16 bits.
static inline void fused_words(const uint8_t* lanes, __m256i* even, __m256i* odd) {
  *odd = load(lanes + kBlock);
  *even = _mm256_sub_epi16(load(lanes), _mm256_slli_epi16(*odd, 8));
}

// 32 codes: as many as there are, less the thresholds that are above x.
template <bool bytes>
static inline __m256i fused_codes(const uint8_t* lanes, const uint8_t* threshold, int levels) {
  if (bytes) {
    const __m256i x = load(lanes);
    __m256i code = _mm256_set1_epi8(static_cast<char>(levels));
    for (int j = 0; j < levels; ++j) code = _mm256_add_epi8(code, _mm256_cmpgt_epi8(load(threshold + j * kBlock), x));
    return code;
  }
  __m256i x[2],
      code[2] = {_mm256_set1_epi16(static_cast<int16_t>(levels)), _mm256_set1_epi16(static_cast<int16_t>(levels))};
  fused_words(lanes, x, x + 1);
  for (int j = 0; j < levels; ++j, threshold += 2 * kBlock) {
    code[0] = _mm256_add_epi16(code[0], _mm256_cmpgt_epi16(load(threshold), x[0]));
    code[1] = _mm256_add_epi16(code[1], _mm256_cmpgt_epi16(load(threshold + kBlock), x[1]));
  }
  return _mm256_or_si256(code[0], _mm256_slli_epi16(code[1], 8));
}

// x as a tile of int32.
static inline void fused_ints(const uint8_t* lanes, bool bytes, int32_t* to) {
  if (bytes) {
    for (int v = 0; v < kVectors; ++v) {
      store(to + 8 * v, _mm256_cvtepi8_epi32(_mm_loadl_epi64(reinterpret_cast<const __m128i*>(lanes + 8 * v))));
    }
    return;
  }
  __m256i even, odd;
  fused_words(lanes, &even, &odd);
  const __m256i low = _mm256_unpacklo_epi16(even, odd);   // channels 0 .. 7 and 16 .. 23
  const __m256i high = _mm256_unpackhi_epi16(even, odd);  // channels 8 .. 15 and 24 .. 31
  store(to, _mm256_cvtepi16_epi32(_mm256_castsi256_si128(low)));
  store(to + 8, _mm256_cvtepi16_epi32(_mm256_castsi256_si128(high)));
  store(to + 16, _mm256_cvtepi16_epi32(_mm256_extracti128_si256(low, 1)));
  store(to + 24, _mm256_cvtepi16_epi32(_mm256_extracti128_si256(high, 1)));
}

// Pixels of a row, one part of channels.
struct FusedFinish {
  const FusedSpec* spec;
  const FusedShape* shape;
  const uint8_t* prepared;
  const uint8_t (*lanes)[2 * kBlock];
  int32_t part, channels, pixels;
  int32_t minus_parity[kFusedPixels];
  const int32_t* border[kFusedPixels];  // of the part's first channel
  int64_t thresholds[kFusedPixels];     // of the pixel's class and parity
  uint8_t* codes[kFusedPixels];         // of channel 0, as the following
  float* out[kFusedPixels];
  const float* residual[kFusedPixels];
  int64_t codes_plane;
};

static CodeStage fused_code_stage(const FusedFinish* t, uint8_t** codes) {
  const FusedEpilogue* e = &t->spec->epilogue;
  const int channel = t->part * kBlock;
  CodeStage stage = {};
  for (int p = 0; p < t->pixels; ++p) codes[p] = t->codes[p] + (e->planes ? channel / 8 : channel);
  stage.out = codes;
  stage.out_plane_bytes = t->codes_plane;
  stage.pixels = t->pixels;
  stage.channels = t->channels;
  stage.bits = e->bits;
  stage.planes = e->planes;
  return stage;
}

static void fused_lane_codes(const FusedFinish* t) {
  const FusedShape* f = t->shape;
  uint8_t* codes[kFusedPixels];
  const CodeStage stage = fused_code_stage(t, codes);
  for (int p = 0; p < t->pixels; ++p) {
    const uint8_t* threshold = t->prepared + f->thresholds + t->thresholds[p] + t->part * f->threshold_part;
    put_codes(&stage, p,
              f->lane_bytes == 1 ? fused_codes<true>(t->lanes[p], threshold, f->levels)
                                 : fused_codes<false>(t->lanes[p], threshold, f->levels));
  }
}

// Codes of D or y by the stages; unit: a line of x * n for all channels.
static void fused_staged_codes(const FusedFinish* t, const Correction* correction, const int32_t* tile) {
  const FusedEpilogue* e = &t->spec->epilogue;
  const int channel = t->part * kBlock;
  alignas(32) float unit[kBlock], zero[kBlock] = {};
  for (float& n : unit) n = static_cast<float>(t->shape->levels);
  uint8_t* codes[kFusedPixels];
  CodeStage stage = fused_code_stage(t, codes);
  stage.correction = *correction;
  stage.rule = e->rule == kFusedLine ? kAffine : kCompare;
  stage.multiply = e->line_multiply == nullptr ? unit : e->line_multiply + channel;
  stage.offset = e->line_offset == nullptr ? zero : e->line_offset + channel;
  stage.thresholds = t->prepared + t->shape->stage_thresholds + int64_t{channel} * t->shape->levels * 4;
  e->codes_from_int ? int_to_codes(&stage, tile) : float_to_codes(&stage, tile);
}

static __attribute__((noinline)) void fused_finish(const FusedFinish* t) {
  const FusedEpilogue* e = &t->spec->epilogue;
  if (t->shape->lane_codes) fused_lane_codes(t);
  const bool codes = e->wants_codes && !t->shape->lane_codes;
  if (!codes && !e->wants_float) return;
  alignas(32) int32_t tile[kFusedPixels * kBlock];
  for (int p = 0; p < t->pixels; ++p) fused_ints(t->lanes[p], t->shape->lane_bytes == 1, tile + p * kBlock);
  const Correction correction = {t->minus_parity, e->border == nullptr ? nullptr : t->border, t->spec->code_step / 2};
  if (codes && e->codes_from_int) fused_staged_codes(t, &correction, tile);
  if (!e->has_float) return;
  const int channel = t->part * kBlock;
  const float* residual[kFusedPixels];
  float* out[kFusedPixels];
  for (int p = 0; p < t->pixels; ++p) {
    if (e->has_residual) residual[p] = t->residual[p] + channel;
    if (e->wants_float) out[p] = t->out[p] + channel;
  }
  const bool norm = e->norm_multiply != nullptr;
  const FloatStage stage = {correction,
                            e->multiply + channel,
                            e->offset + channel,
                            norm ? e->norm_multiply + channel : nullptr,
                            norm ? e->norm_offset + channel : nullptr,
                            e->has_residual ? residual : nullptr,
                            t->pixels,
                            t->channels,
                            e->relu,
                            e->wants_float ? out : nullptr};
  int_to_float(&stage, tile);
  if (codes && !e->codes_from_int) fused_staged_codes(t, &correction, tile);
}

// ---- Running ----

// The tables of one pixel. Those of surplus channels hold whatever lies behind; their index bits are zero.
static inline void fused_stage_pixel(const FusedSpec* s, const uint8_t* pixel, int64_t plane_bytes, uint8_t* out) {
  for (int c = 0; c < s->in_channels; c += 32, out += 8 * kTableBytes) {
    const __m256i codes =
        s->input_planes ? codes_of_planes(pixel + c / 8, plane_bytes, s->activation_bits) : load(pixel + c);
    const int left = (s->in_channels - c + kTableChannels - 1) / kTableChannels;
    put_tables(codes, left < 8 ? left : 8, out);
  }
}

// The sum of its codes.
static inline int32_t fused_pixel_sum(const FusedSpec* s, const uint8_t* pixel, int64_t plane_bytes) {
  int64_t sum = 0;
  if (s->input_planes) {
    for (int i = s->activation_bits - 1; i >= 0; --i) {
      int64_t ones = 0;
      for (int c = 0; c < s->in_channels; c += 64) {
        const uint64_t word = load_u64(pixel + i * plane_bytes + c / 8);
        const int left = s->in_channels - c;
        ones += _mm_popcnt_u64(left < 64 ? _bzhi_u64(word, static_cast<unsigned>(left)) : word);
      }
      sum = 2 * sum + ones;
    }
    return static_cast<int32_t>(sum);
  }
  __m256i sums = _mm256_setzero_si256();
  const __m256i order = _mm256_setr_epi8(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20, 21,
                                         22, 23, 24, 25, 26, 27, 28, 29, 30, 31);
  for (int c = 0; c < s->in_channels; c += 32) {
    const int left = smaller(32, s->in_channels - c);
    const __m256i used = _mm256_cmpgt_epi8(_mm256_set1_epi8(static_cast<char>(left)), order);
    const __m256i codes = _mm256_and_si256(used, load(pixel + c));
    sums = _mm256_add_epi64(sums, _mm256_sad_epu8(codes, _mm256_setzero_si256()));
  }
  const __m128i two = _mm_add_epi64(_mm256_castsi256_si128(sums), _mm256_extracti128_si256(sums, 1));
  return _mm_cvtsi128_si32(_mm_add_epi64(two, _mm_unpackhi_epi64(two, two)));
}

// Input row y of the band, from 0, lies in slot y % slots.
static __attribute__((noinline)) void fused_stage_row(const FusedSpec* s, const FusedShape* f, const FusedBand* b,
                                                      int y) {
  const uint8_t* pixel = b->input + y * b->row_bytes;
  uint8_t* tables = b->scratch + y % f->slots * f->row_tables;
  int32_t* sums = reinterpret_cast<int32_t*>(b->scratch + f->sums) + int64_t{y % f->slots} * f->columns;
  for (int x = 0; x < f->columns; ++x, pixel += b->pixel_bytes, tables += f->tables * kTableBytes) {
    fused_stage_pixel(s, pixel, b->plane_bytes, tables);
    sums[x] = fused_pixel_sum(s, pixel, b->plane_bytes);
  }
}

// shift and parity of pixels x .. x + pixels - 1 of output row y, and where their numbers come from and go to.
static void fused_set_pixels(const FusedBand* b, int y, int x, FusedSums* sums, int32_t* shift, FusedFinish* t) {
  const FusedSpec* s = t->spec;
  const FusedShape* f = t->shape;
  const FusedEpilogue* e = &s->epilogue;
  const int32_t* all = reinterpret_cast<const int32_t*>(b->scratch + f->sums);
  const int64_t padded = (s->out_channels + kFusedChannels - 1) / kFusedChannels * kFusedChannels;
  sums->first_x = x;
  sums->shift = shift;
  for (int p = 0; p < t->pixels; ++p, ++x) {
    int32_t sum = 0;
    for (int i = 0; i < s->kernel_h; ++i) {
      const int slot = (y * s->stride_h + i * s->dilation_h) % f->slots;
      for (int k = 0; k < s->kernel_w; ++k) {
        sum += all[int64_t{slot} * f->columns + x * s->stride_w + k * s->dilation_w];
      }
    }
    sum *= -s->lowest_code;
    const int parity = sum % s->code_step;
    shift[p] = sum / s->code_step;
    t->minus_parity[p] = -parity;
    int64_t border_class = 0;
    if (e->border != nullptr) border_class = int64_t{e->row_class[b->y0 + y]} * e->column_classes + e->column_class[x];
    if (e->border != nullptr) t->border[p] = e->border + border_class * padded;
    t->thresholds[p] = border_class * f->threshold_class + parity * f->threshold_parity;
    if (e->wants_codes) t->codes[p] = b->codes + y * b->codes_row + x * b->codes_pixel;
    if (e->wants_float) t->out[p] = b->out + (y * b->out_row + x * b->out_pixel) / 4;
    if (e->has_residual) t->residual[p] = b->residual + (y * b->residual_row + x * b->residual_pixel) / 4;
  }
}

// Some pixels of a row, all channels of the band.
static void fused_run_pixels(const FusedBand* b, FusedSums* sums, FusedFinish* t) {
  const FusedShape* f = t->shape;
  const int last = b->first_channel + b->channels;
  for (int channel = b->first_channel; channel < last; channel += kFusedParts * kBlock) {
    const int parts = channel + kBlock < last ? 2 : 1;
    sums->index = t->prepared + int64_t{channel / kBlock} * f->planes * f->steps * kBlock;
    fused_sums(sums, parts, t->pixels);
    for (int v = 0; v < parts; ++v) {
      t->part = channel / kBlock + v;
      t->channels = smaller(kBlock, last - t->part * kBlock);
      t->lanes = sums->lanes[v];
      fused_finish(t);
      for (int p = 0; p < t->pixels && t->spec->epilogue.border != nullptr; ++p) t->border[p] += kBlock;
    }
  }
}

static void fused_run(const FusedSpec* s, const FusedBand* b) {
  const FusedShape f(s);
  FusedSums sums;
  FusedFinish finish;
  int32_t shift[kFusedPixels];
  sums.spec = finish.spec = s;
  sums.shape = finish.shape = &f;
  finish.prepared = static_cast<const uint8_t*>(b->prepared);
  finish.codes_plane = b->codes_plane;
  int staged = 0;
  for (int y = 0; y < b->rows; ++y) {
    const int first = y * s->stride_h;
    if (staged < first) staged = first;
    for (; staged < first + f.slots; ++staged) fused_stage_row(s, &f, b, staged);
    for (int i = 0; i < s->kernel_h; ++i) {
      sums.rows[i] = b->scratch + (first + i * s->dilation_h) % f.slots * f.row_tables;
    }
    for (int x = 0; x < s->width; x += kFusedPixels) {
      finish.pixels = smaller(kFusedPixels, s->width - x);
      fused_set_pixels(b, y, x, &sums, shift, &finish);
      for (int p = 0; p < finish.pixels && s->epilogue.border != nullptr; ++p) finish.border[p] += b->first_channel;
      fused_run_pixels(b, &sums, &finish);
    }
  }
}

// ---- Cost ----

static bool fused_serves(const FusedSpec* s) {
  const FusedEpilogue* e = &s->epilogue;
  const FusedShape f(s);
  const int64_t classes = e->border == nullptr ? 1 : int64_t{e->row_classes} * e->column_classes;
  return s->groups == 1 && s->weight_bits <= kFusedWeightBits && s->activation_bits <= kFusedActivationBits &&
         s->kernel_h <= 64 && f.lane_bytes != 0 && s->largest_border < 1 << 22 && classes <= 1024 &&
         f.prepared < 1 << 28 && (!e->wants_codes || e->bits <= kFusedCodeBits || e->rule == kFusedLine);
}

// Cycles: of a look-up of 32 channels, of a flush of them; of 4 channels of an input pixel; of a pixel; of 32 codes by
// a threshold, a plane, by the stages, of 32 floats.
static double fused_cost(const FusedSpec* s, Machine machine) {
  if (!fused_serves(s)) return -1;
  const bool zen5 = machine == Machine::kZen5;
  const double gigahertz = zen5 ? 4.2 : machine == Machine::kSapphireRapids ? 2.5 : 3.3, look_up = zen5 ? 0.5 : 0.75;
  const FusedShape f(s);
  const FusedEpilogue* e = &s->epilogue;
  const int n_a = (1 << s->activation_bits) - 1, byte_steps = 255 / (kTableChannels * n_a);
  const double lanes = f.lane_bytes, pixels = static_cast<double>(s->height) * s->width;
  const double tile = (s->width + kFusedTile - 1) / kFusedTile * kFusedTile / static_cast<double>(s->width);
  double part = f.planes * f.steps * (look_up + (lanes == 2 ? 4.0 / byte_steps : 0)) * tile + 6;
  if (f.lane_codes) part += lanes * f.levels * 1.2 + (e->planes ? e->bits * 2 : 2);
  if (e->has_float || !f.lane_codes) part += 20 + (e->has_residual ? 8 : 0) + (e->wants_codes ? 25 : 0);
  const double inputs = (s->height * s->stride_h + f.slots - 1.0) * f.columns * (5 + f.tables * 2.5);
  return (pixels * (55 + f.parts * part) + inputs) / gigahertz;
}

static constexpr FusedKernel kFusedTables = {"tables4 avx2", fused_cost,          fused_prepared_bytes,
                                             fused_prepare,  fused_scratch_bytes, fused_run};
