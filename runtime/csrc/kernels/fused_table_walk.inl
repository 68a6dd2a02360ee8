// What kernels of tables for 3 x 3 convolutions of stride 1 share: in which parts a band is taken, and what becomes of
// its sums. Included inside a namespace of the kernel file's own, after fused_lanes.inl.

constexpr int kTaps = 9;
constexpr int kTableBytes = 64;            // a table, and the indices of a tap for 64 channels or 32
constexpr int kSumBytes = 128;             // the 16-bit sums of 64 channels of a pixel
constexpr int kMostParts = 4;              // of 64 channels, that share expanded tables
constexpr int kLeastChannels = 48;         // of the output: a vector of 64 lanes
constexpr int64_t kRowsBytes = 128 << 10;  // of sums: they stay in the second-level cache
constexpr int64_t kStripBytes = 16 << 10;  // of tables: in the first-level one

static inline int64_t rounded_up(int64_t x, int64_t to) { return (x + to - 1) / to * to; }
static inline int smaller(int a, int b) { return a < b ? a : b; }

// Codes of D by comparing 16-bit lanes.
static inline bool has_lane_codes(const FusedSpec* s) {
  return s->epilogue.wants_codes && s->epilogue.codes_from_int && s->epilogue.bits <= 4 && sums_fit_lanes<2>(s);
}

static inline int log_step(const FusedSpec* s) { return s->code_step / 2; }  // of 1, 2, 4

// What does not depend on how tables are indexed: whether the layer can be served at all.
static bool tables_serve(const FusedSpec* s) {
  const bool window = s->kernel_h == 3 && s->kernel_w == 3 && s->stride_h == 1 && s->stride_w == 1 &&
                      s->dilation_h == 1 && s->dilation_w == 1 && s->groups == 1;
  const bool step = s->code_step == 1 || s->code_step == 2 || s->code_step == 4;
  const FusedEpilogue* e = &s->epilogue;
  const bool codes = !e->wants_codes || e->bits <= 4 || e->rule == kFusedLine;
  const bool classes = border_classes(s) <= 1024 && s->largest_border < 1 << 22;
  return window && step && codes && classes && s->out_channels >= kLeastChannels &&
         s->largest_sum + s->largest_border < int64_t{1} << 31 &&
         (!has_lane_codes(s) || lane_thresholds_bytes<2>(s) < 1 << 24);
}

// ---- Rows and columns of the image that are taken at a time ----

struct TablesNeed {
  int32_t pairs;        // of groups of input channels
  int32_t pixel_bytes;  // of a pair of groups of a staged pixel
  int32_t carried;      // bytes from strip to strip, of a row and 64 channels
  int32_t int_bytes;    // of 32-bit sums beside the 16-bit ones: 0 or 256
};

struct TablesScratch {
  int32_t rows, columns;  // output rows; columns of the input that they need
  int32_t strip;          // columns whose tables are expanded at a time
  int32_t parts;          // of output channels that are summed up at a time
  int64_t pair_stride, group_stride, part_sums, part_ints;
  int64_t tables, carried, sums, ints, pixel_sums, offsets,
      bytes;  // offsets into the scratch; staged pixels come first

  // As many rows as fit the second-level cache, and as even as they can be divided; at least two columns.
  TablesScratch(const FusedSpec* s, TablesNeed need) {
    columns = s->width + 2;
    parts = smaller(padded_channels(s) / 64, kMostParts);
    const int64_t fit = kRowsBytes / (static_cast<int64_t>(s->width) * (kSumBytes + need.int_bytes) * parts);
    const int64_t most = fit < 1 ? 1 : fit < s->height ? fit : s->height;
    const int64_t bands = (s->height + most - 1) / most;
    rows = static_cast<int32_t>((s->height + bands - 1) / bands);
    const int64_t narrow = kStripBytes / ((rows + 2) * 2 * kTableBytes);
    strip = narrow < 3 ? 3 : narrow < columns ? static_cast<int32_t>(narrow) : columns;
    // Odd numbers of lines: the same pixel of all groups must not lie in the same sets of the cache.
    pair_stride = odd_lines(static_cast<int64_t>(rows + 2) * columns * need.pixel_bytes);
    group_stride = odd_lines(static_cast<int64_t>(rows + 2) * strip * kTableBytes);
    part_sums = static_cast<int64_t>(rows) * s->width * kSumBytes;
    tables = need.pairs * pair_stride;
    carried = tables + 2 * group_stride;
    sums = carried + static_cast<int64_t>(parts) * need.carried * rows;
    part_ints = static_cast<int64_t>(rows) * s->width * need.int_bytes;
    ints = sums + parts * part_sums;
    pixel_sums = ints + parts * part_ints;
    offsets = pixel_sums + rounded_up(static_cast<int64_t>(rows + 2) * columns * 4, 64);
    bytes = offsets + rounded_up(static_cast<int64_t>(rows) * s->width * 8, 64);
  }
  static int64_t odd_lines(int64_t bytes) { return (rounded_up(bytes, 64) / 64 | 1) * 64; }
};

// -lowest_code * S = code_step * shift + parity of a pixel.
struct LaneOffset {
  int32_t shift, parity;
};

struct TablesBand {
  const FusedSpec* spec;
  const FusedBand* band;
  const TablesScratch* scratch;
  const uint8_t* thresholds;  // of has_lane_codes()

  const uint8_t* prepared() const { return static_cast<const uint8_t*>(band->prepared); }
  int32_t* pixel_sums() const { return reinterpret_cast<int32_t*>(band->scratch + scratch->pixel_sums); }
  LaneOffset* offsets() const { return reinterpret_cast<LaneOffset*>(band->scratch + scratch->offsets); }
};

// The sum of a pixel's codes.
static inline int32_t planes_sum(const uint8_t* pixel, int64_t plane_bytes, int channels, int bits) {
  int64_t sum = 0;
  for (int i = bits - 1; i >= 0; --i) {
    const uint8_t* plane = pixel + i * plane_bytes;
    int64_t ones = 0;
    for (int c = 0; c < channels; c += 64) {
      uint64_t word;
      __builtin_memcpy(&word, plane + c / 8, 8);
      const int left = channels - c;
      ones += static_cast<int64_t>(_mm_popcnt_u64(left < 64 ? _bzhi_u64(word, static_cast<unsigned>(left)) : word));
    }
    sum = 2 * sum + ones;
  }
  return static_cast<int32_t>(sum);
}

static inline int32_t bytes_sum(const uint8_t* pixel, int channels) {
  __m512i sum = _mm512_setzero_si512();
  for (int c = 0; c < channels; c += 64) {
    const __m512i codes = _mm512_maskz_loadu_epi8(first_lanes(channels - c), pixel + c);
    sum = _mm512_add_epi64(sum, _mm512_sad_epu8(codes, _mm512_setzero_si512()));
  }
  return static_cast<int32_t>(_mm512_reduce_add_epi64(sum));
}

static void sum_input_row(const TablesBand* t, const uint8_t* row, int32_t* sums) {
  const FusedSpec* s = t->spec;
  const FusedBand* b = t->band;
  for (int x = 0; x < t->scratch->columns; ++x, row += b->pixel_bytes) {
    sums[x] = s->input_planes ? planes_sum(row, b->plane_bytes, s->in_channels, s->activation_bits)
                              : bytes_sum(row, s->in_channels);
  }
}

// Of output rows y .. y + rows - 1 of the band.
static void set_offsets(const TablesBand* t, int y, int rows) {
  const FusedSpec* s = t->spec;
  const int columns = t->scratch->columns, slots = t->scratch->rows + 2;
  LaneOffset* offset = t->offsets();
  for (int i = 0; i < rows; ++i) {
    const int32_t* row[3];
    for (int k = 0; k < 3; ++k) row[k] = t->pixel_sums() + (y + i + k) % slots * columns;
    for (int x = 0; x < s->width; ++x, ++offset) {
      int32_t sum = 0;
      for (int k = 0; k < 3; ++k) sum += row[k][x] + row[k][x + 1] + row[k][x + 2];
      sum *= -s->lowest_code;
      *offset = {sum / s->code_step, sum % s->code_step};
    }
  }
}

// One pair of groups, in the strip of `columns` columns from `column` on.
struct TablesStrip {
  int32_t rows, first_part, parts, pair, column, columns;
};

// calls look_up(strip) after expand(strip) for all input channels, and after_pair(pair).
template <class Expand, class LookUp, class AfterPair>
static inline void for_each_strip(const TablesScratch* s, int pairs, int rows, int first, int parts,
                                  const Expand& expand, const LookUp& look_up, const AfterPair& after_pair) {
  for (int pair = 0; pair < pairs; ++pair) {
    for (int column = 0; column < s->columns; column += s->strip) {
      const TablesStrip strip = {rows, first, parts, pair, column, smaller(s->strip, s->columns - column)};
      expand(&strip);
      look_up(&strip);
    }
    after_pair(pair);
  }
}

// ---- What the sums become ----

enum TablesSumKind {
  kPairsOfBytes,  // whole, high: of channels 32 + i, and with 256 times it channels i
  kWords,         // channels in order
  kInts,          // channels in order, without the offset
};

// Pixels of one row, 64 channels, as fused_ints.inl and fused_lanes.inl ask for them.
template <TablesSumKind kind>
struct TableSums {
  const uint8_t* sums;
  const LaneOffset* offset;
  const int32_t* const* border;  // [pixels], of channel 0; or null
  __m128i log_step;
  int32_t step, first_channel;

  inline __attribute__((always_inline)) __m512i lanes(int p, int v) const {
    const __m512i at = _mm512_load_si512(sums + p * kSumBytes + 64 * v);
    if (kind == kWords || v == 1) return at;
    return _mm512_sub_epi16(at, _mm512_slli_epi16(_mm512_load_si512(sums + p * kSumBytes + 64), 8));
  }
  inline __m512i scaled(int p, int h) const {
    if (kind == kInts) {
      const __m512i sum = _mm512_sll_epi32(_mm512_load_si512(sums + 2 * p * kSumBytes + 64 * h), log_step);
      return _mm512_sub_epi32(sum, _mm512_set1_epi32(step * offset[p].shift + offset[p].parity));
    }
    const __m512i half = lanes(p, h / 2);
    const __m512i x =
        _mm512_cvtepi16_epi32(h % 2 == 0 ? _mm512_castsi512_si256(half) : _mm512_extracti64x4_epi64(half, 1));
    return _mm512_sub_epi32(_mm512_sll_epi32(x, log_step), _mm512_set1_epi32(offset[p].parity));
  }
  inline __attribute__((always_inline)) __m512i load(int p, int h) const {
    const __m512i d = scaled(p, h);
    if (border == nullptr) return d;
    return _mm512_add_epi32(d, _mm512_loadu_si512(border[p] + first_channel + 16 * h));
  }
};

constexpr int kAtOnce = 64;  // pixels of a row

// What belongs to some pixels of output row y of the band, from x on.
struct FinishedPixels {
  uint8_t* codes[kAtOnce];
  float* out[kAtOnce];
  const float* residual[kAtOnce];
  const int32_t* border[kAtOnce];
  int32_t threshold_row[kAtOnce];

  void set(const TablesBand* t, int y, int x, int count, const LaneOffset* offset) {
    const FusedBand* b = t->band;
    const FusedEpilogue* e = &t->spec->epilogue;
    const int padded = padded_channels(t->spec), row_bytes = static_cast<int>(lane_row_bytes<2>(t->spec));
    const int row_class = e->border == nullptr ? 0 : e->row_class[b->y0 + y] * e->column_classes;
    for (int p = 0; p < count; ++p) {
      const int64_t at = x + p;
      const int border_class = e->border == nullptr ? 0 : row_class + e->column_class[at];
      if (e->border != nullptr) border[p] = e->border + static_cast<int64_t>(border_class) * padded;
      threshold_row[p] = (border_class * t->spec->code_step + offset[p].parity) * row_bytes;
      if (e->wants_codes) codes[p] = b->codes + y * b->codes_row + at * b->codes_pixel;
      if (e->wants_float) out[p] = b->out + (y * b->out_row + at * b->out_pixel) / 4;
      if (e->has_residual) residual[p] = b->residual + (y * b->residual_row + at * b->residual_pixel) / 4;
    }
  }
};

// Output row y of the band, from x on, for 64 channels.
template <TablesSumKind kind>
static void finish_pixels(const TablesBand* t, const FinishedPixels* pixels, int count, int channel,
                          const uint8_t* sums, const LaneOffset* offset) {
  const FusedSpec* s = t->spec;
  const FusedEpilogue* e = &s->epilogue;
  const int channels = smaller(64, s->out_channels - channel), padded = padded_channels(s);
  const FusedPixels f = {
      e, count, channel, channels, pixels->codes, pixels->out, pixels->residual, t->band->codes_plane};
  const int32_t* const* border = e->border == nullptr ? nullptr : pixels->border;
  const TableSums<kind> of_pixels = {sums, offset, border, _mm_cvtsi32_si128(log_step(s)), s->code_step, channel};
  if constexpr (kind == kInts) {
    if (e->rule == kFusedThresholds) {
      finish_int_codes<kThresholdCodes>(&f, padded, of_pixels);
    } else {
      finish_int_codes<kLineCodes>(&f, padded, of_pixels);
    }
  } else if (has_lane_codes(s)) {
    const LanePixels by_lane = {f, nullptr, pixels->threshold_row, t->thresholds};
    finish_lane_codes<2>(&by_lane, padded, of_pixels);
  } else {
    finish_int_codes<kLineCodes>(&f, padded, of_pixels);
  }
  finish_y(&f, padded, of_pixels);
}

template <TablesSumKind kind>
static void finish_rows(const TablesBand* t, int y, int rows, int first_part, int parts) {
  const int width = t->spec->width;
  const int64_t pixel = kind == kInts ? 2 * kSumBytes : kSumBytes;
  const uint8_t* all = t->band->scratch + (kind == kInts ? t->scratch->ints : t->scratch->sums);
  const int64_t part_bytes = kind == kInts ? t->scratch->part_ints : t->scratch->part_sums;
  FinishedPixels pixels;
  for (int i = 0; i < rows; ++i) {
    for (int x = 0; x < width; x += kAtOnce) {
      const int count = smaller(kAtOnce, width - x);
      const int64_t at = static_cast<int64_t>(i) * width + x;
      pixels.set(t, y + i, x, count, t->offsets() + at);
      for (int v = 0; v < parts; ++v) {
        finish_pixels<kind>(t, &pixels, count, (first_part + v) * 64, all + v * part_bytes + at * pixel,
                            t->offsets() + at);
      }
    }
  }
}
