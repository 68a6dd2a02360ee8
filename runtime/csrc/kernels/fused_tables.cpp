// Fused products by tables for 3 x 3 convolutions of stride 1, AVX-512 with VBMI: "tables9".
//
// W1 .. W3 x A1 .. A4. A table holds the 64 sums of the subsets of six codes of one pixel, so that one look-up serves
// 64 output channels with 384 products of a bit by a code (avx512_tables.inl). The order of loops is what makes this
// kernel: for some rows of the image
//
//   rows of codes -> triples                    once per row                                    fused_table_stage.inl
//   for blocks of up to 4 x 64 output channels
//     for pairs of groups of six input channels
//       triples -> tables, in the first-level cache
//       for each 64 channels, for each plane of weight bits
//         for all rows and columns: 18 look-ups, one pixel's 16-bit sums        fused_table_rows.inl
//     for all pixels: codes, floats                                             fused_lanes.inl, fused_ints.inl
//
// Indices are read once for all pixels of the rows and stay in registers; a table is loaded once for nine look-ups.
// The 16-bit sums begin with what the codes' own sum contributes, so that they end as x of fused_lanes.inl.

// GCC 12 takes the undefined operands inside its own AVX-512 intrinsics for uninitialised variables (GCC bug 105593).
#pragma GCC diagnostic ignored "-Wmaybe-uninitialized"
#pragma GCC diagnostic ignored "-Wuninitialized"

#include <immintrin.h>

#include <cstdint>

#include "../core/fused.h"
#include "../core/kernels.h"

namespace bitorch {

namespace fused_tables {

namespace {

#include "fused_loops.inl"

#include "fused_ints.inl"

#include "fused_lanes.inl"

#include "fused_table_stage.inl"

#include "fused_table_rows.inl"

constexpr int kTaps = 9;
constexpr int kPartBytes = 64, kSumBytes = 128;  // of 64 channels: indices of a tap, sums of a pixel
constexpr int kMostParts = 4;                    // that share expanded tables
constexpr int kMostWeightBits = 3, kMostActivationBits = 4;
constexpr int kLeastChannels = 48;         // of the output: a vector of 64 lanes
constexpr int64_t kRowsBytes = 128 << 10;  // of sums: they stay in the second-level cache
constexpr int64_t kStripBytes = 16 << 10;  // of tables: in the first-level one

static inline int64_t rounded_up(int64_t x, int64_t to) { return (x + to - 1) / to * to; }
static inline int smaller(int a, int b) { return a < b ? a : b; }

// Codes of D by comparing 16-bit lanes.
static inline bool has_lane_codes(const FusedSpec* s) {
  return s->epilogue.wants_codes && s->epilogue.codes_from_int && s->epilogue.bits <= 4;
}

// ---- What prepare() leaves ----

struct TablesLayout {
  int32_t groups, pairs, parts, planes;
  int64_t pair_index;  // bytes of index vectors of one pair, all planes of one part
  int64_t flush;       // offset of TableFlush [part][pair][plane][2], after the indices [part][pair][plane][18][64]
  int64_t thresholds, bytes;  // offset, and of everything

  explicit TablesLayout(const FusedSpec* s) {
    groups = (s->in_channels + kGroupChannels - 1) / kGroupChannels;
    pairs = (groups + 1) / 2;
    parts = (s->out_channels + 63) / 64;
    planes = s->weight_bits;
    pair_index = static_cast<int64_t>(planes) * 2 * kTaps * kPartBytes;
    flush = parts * pairs * pair_index;
    thresholds = rounded_up(flush + static_cast<int64_t>(parts) * pairs * planes * 2, 64);
    bytes = thresholds + (has_lane_codes(s) ? lane_thresholds_bytes<2>(s) : 0);
  }
};

static int64_t prepared_bytes(const FusedSpec* spec) { return TablesLayout(spec).bytes; }

// Lanes of bytes: channels 0 .. 31 are the even ones, so that the lower bytes of 16-bit lanes are they in order.
static inline int lane_of(int channel) { return channel < 32 ? 2 * channel : 2 * (channel - 32) + 1; }

// index [18][64] of one part, pair and plane.
static void fill_indices(const FusedSpec* spec, const uint8_t* m, int part, int pair, int plane, uint8_t* index) {
  const int64_t k = spec->in_channels;
  for (int c = 0; c < 64 && part * 64 + c < spec->out_channels; ++c) {
    const uint8_t* of_channel = m + (part * 64 + c) * kTaps * k;
    for (int i = 0; i < 2 * kGroupChannels && 2 * kGroupChannels * pair + i < k; ++i) {
      const uint8_t* weight = of_channel + 2 * kGroupChannels * pair + i;
      uint8_t* to = index + i / kGroupChannels * kTaps * kPartBytes + lane_of(c);
      for (int tap = 0; tap < kTaps; ++tap) {
        to[tap * kPartBytes] =
            static_cast<uint8_t>(to[tap * kPartBytes] | (weight[tap * k] >> plane & 1) << i % kGroupChannels);
      }
    }
  }
}

// The largest sum, over lanes, of the taps named by bits of `taps`.
static int most_bits(const uint8_t* index, uint32_t taps) {
  int most = 0;
  for (int lane = 0; lane < kPartBytes; ++lane) {
    int bits = 0;
    for (uint32_t left = taps; left != 0; left &= left - 1)
      bits += __builtin_popcount(index[__builtin_ctz(left) * kPartBytes + lane]);
    if (bits > most) most = bits;
  }
  return most;
}

// Taps of a group: rows of three. Columns f, g, h of fused_table_rows.inl are 2, 1, 0.
static TableFlush flush_of(const uint8_t* index, int n_a) {
  constexpr uint32_t kColumn = 1 | 1 << 3 | 1 << 6;
  if (most_bits(index, (1 << kTaps) - 1) * n_a <= 255) return kWhole;
  if (most_bits(index, kColumn | kColumn << 1) * n_a <= 255) return kTwoColumns;
  for (int i = 0; i < 3; ++i) {
    if (most_bits(index, kColumn << i) * n_a > 255) return kHalves;
  }
  return kColumns;
}

static bool prepare(const FusedSpec* spec, const uint8_t* m, void* prepared) {
  const TablesLayout layout(spec);
  uint8_t* index = static_cast<uint8_t*>(prepared);
  uint8_t* flush = index + layout.flush;
  const int n_a = (1 << spec->activation_bits) - 1;
  for (int part = 0; part < layout.parts; ++part) {
    for (int pair = 0; pair < layout.pairs; ++pair) {
      for (int plane = 0; plane < layout.planes; ++plane, index += 2 * kTaps * kPartBytes, flush += 2) {
        fill_indices(spec, m, part, pair, plane, index);
        const bool both = 2 * pair + 1 < layout.groups;
        flush[0] = flush_of(index, n_a);
        flush[1] = flush_of(index + kTaps * kPartBytes, n_a);
        if (both && most_bits(index, (1 << 2 * kTaps) - 1) * n_a <= 255) flush[0] = kPair;
      }
    }
  }
  if (has_lane_codes(spec)) set_lane_thresholds<2>(spec, static_cast<uint8_t*>(prepared) + layout.thresholds);
  return true;
}

// ---- Rows and columns of the image that are taken at a time ----

struct TablesScratch {
  int32_t rows, columns;  // output rows; columns of the input that they need
  int32_t strip;          // columns whose tables are expanded at a time
  int32_t parts;          // of output channels that are summed up at a time
  int64_t pair_stride, group_stride, part_sums;
  int64_t tables, carried, sums, pixel_sums, offsets, bytes;  // offsets into the scratch; triples come first

  // As many rows as fit the second-level cache, and as even as they can be divided; at least two columns.
  explicit TablesScratch(const FusedSpec* s) {
    const TablesLayout layout(s);
    columns = s->width + 2;
    parts = smaller(layout.parts, kMostParts);
    const int64_t fit = kRowsBytes / (static_cast<int64_t>(s->width) * kSumBytes * parts);
    const int64_t most = fit < 1 ? 1 : fit < s->height ? fit : s->height;
    const int64_t bands = (s->height + most - 1) / most;
    rows = static_cast<int32_t>((s->height + bands - 1) / bands);
    const int64_t narrow = kStripBytes / ((rows + 2) * 2 * kTableBytes);
    strip = narrow < 3 ? 3 : narrow < columns ? static_cast<int32_t>(narrow) : columns;
    // Odd numbers of lines: the same pixel of all groups must not lie in the same sets of the cache.
    pair_stride = odd_lines(static_cast<int64_t>(rows + 2) * columns * kPairBytes);
    group_stride = odd_lines(static_cast<int64_t>(rows + 2) * strip * kTableBytes);
    part_sums = static_cast<int64_t>(rows) * s->width * kSumBytes;
    tables = layout.pairs * pair_stride;
    carried = tables + 2 * group_stride;
    sums = carried + static_cast<int64_t>(parts) * layout.planes * 2 * rows * kCarriedBytes;
    pixel_sums = sums + parts * part_sums;
    offsets = pixel_sums + rounded_up(static_cast<int64_t>(rows + 2) * columns * 4, 64);
    bytes = offsets + rounded_up(static_cast<int64_t>(rows) * s->width * 8, 64);
  }
  static int64_t odd_lines(int64_t bytes) { return (rounded_up(bytes, 64) / 64 | 1) * 64; }
};

static int64_t scratch_bytes(const FusedSpec* spec) { return TablesScratch(spec).bytes; }

// -lowest_code * S = code_step * shift + parity of a pixel.
struct LaneOffset {
  int32_t shift, parity;
};

struct TablesBand {
  const FusedSpec* spec;
  const FusedBand* band;
  const TablesLayout* layout;
  const TablesScratch* scratch;

  const uint8_t* prepared() const { return static_cast<const uint8_t*>(band->prepared); }
  int32_t* pixel_sums() const { return reinterpret_cast<int32_t*>(band->scratch + scratch->pixel_sums); }
  LaneOffset* offsets() const { return reinterpret_cast<LaneOffset*>(band->scratch + scratch->offsets); }
};

// Input row y of the band, from 0, lies in slot y % (rows + 2).
static void stage_input_row(const TablesBand* t, int y) {
  const FusedSpec* s = t->spec;
  const FusedBand* b = t->band;
  const TablesScratch* scratch = t->scratch;
  const int slot = y % (scratch->rows + 2), first = slot * scratch->columns;
  const uint8_t* row = b->input + y * b->row_bytes;
  const TripleRow triples = {row,
                             b->pixel_bytes,
                             b->plane_bytes,
                             b->scratch + first * kPairBytes,
                             scratch->pair_stride,
                             scratch->columns,
                             s->in_channels,
                             s->activation_bits};
  stage_row(&triples, s->input_planes != 0);
  int32_t* sums = t->pixel_sums() + first;
  for (int x = 0; x < scratch->columns; ++x, row += b->pixel_bytes) {
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

static void begin_sums(const TablesBand* t, int parts, int pixels) {
  const LaneOffset* offset = t->offsets();
  uint8_t* to = t->band->scratch + t->scratch->sums;
  for (int p = 0; p < pixels; ++p, to += kSumBytes) {
    const __m512i whole = _mm512_set1_epi16(static_cast<int16_t>(offset[p].shift * -257));
    const __m512i high = _mm512_set1_epi16(static_cast<int16_t>(-offset[p].shift));
    for (int v = 0; v < parts; ++v) {
      _mm512_store_si512(to + v * t->scratch->part_sums, whole);
      _mm512_store_si512(to + v * t->scratch->part_sums + 64, high);
    }
  }
}

template <int shift>
static void look_up_with(TableFlush flush, const TableRows* rows) {
  switch (flush) {
    case kPair:
      return look_up_rows<kPair, shift>(rows);
    case kWhole:
      return look_up_rows<kWhole, shift>(rows);
    case kTwoColumns:
      return look_up_rows<kTwoColumns, shift>(rows);
    case kColumns:
      return look_up_rows<kColumns, shift>(rows);
    case kHalves:
      return look_up_rows<kHalves, shift>(rows);
  }
}

static void look_up_plane(int plane, uint8_t flush, const TableRows* rows) {
  const TableFlush kind = static_cast<TableFlush>(flush);
  if (plane == 0) return look_up_with<0>(kind, rows);
  if (plane == 1) return look_up_with<1>(kind, rows);
  look_up_with<2>(kind, rows);
}

// One pair of groups, in the strip of `columns` columns from `column` on.
struct TablesStrip {
  int32_t rows, first_part, parts, pair, column, columns;
};

static void expand_strip(const TablesBand* t, const TablesStrip* strip, int y) {
  const TablesScratch* s = t->scratch;
  const uint8_t* triples = t->band->scratch + strip->pair * s->pair_stride + strip->column * kPairBytes;
  uint8_t* tables = t->band->scratch + s->tables;
  const int slots = s->rows + 2;
  for (int i = 0; i < strip->rows + 2; ++i, tables += s->strip * kTableBytes) {
    expand_tables(triples + (y + i) % slots * s->columns * kPairBytes, strip->columns, tables, s->group_stride);
  }
}

static void look_up_strip(const TablesBand* t, const TablesStrip* strip) {
  const TablesLayout* l = t->layout;
  const TablesScratch* s = t->scratch;
  uint8_t* scratch = t->band->scratch;
  const int64_t carried_bytes = s->rows * kCarriedBytes;
  const int first_output = strip->column < 2 ? 0 : strip->column - 2;
  TableRows r = {nullptr,        scratch + s->tables,        s->strip * kTableBytes, s->group_stride,
                 nullptr,        t->spec->width * kSumBytes, scratch + s->carried,   strip->rows,
                 strip->columns, strip->column == 0};
  for (int v = 0; v < strip->parts; ++v) {
    const int64_t at = static_cast<int64_t>(strip->first_part + v) * l->pairs + strip->pair;
    const uint8_t* flush = t->prepared() + l->flush + at * l->planes * 2;
    r.index = t->prepared() + at * l->pair_index;
    r.sums = scratch + s->sums + v * s->part_sums + first_output * kSumBytes;
    for (int plane = 0; plane < l->planes; ++plane, flush += 2) {
      for (int g = 0; g < 2; ++g, r.index += kTaps * kPartBytes, r.carried += carried_bytes) {
        const bool summed = g == 1 && (flush[0] == kPair || 2 * strip->pair + 1 == l->groups);
        r.tables = scratch + s->tables + g * s->group_stride;
        if (!summed) look_up_plane(plane, flush[g], &r);
      }
    }
  }
}

// Sums of `parts` parts of channels from part `first` on, over all input channels.
static void sum_parts(const TablesBand* t, int y, int rows, int first, int parts) {
  for (int pair = 0; pair < t->layout->pairs; ++pair) {
    for (int column = 0; column < t->scratch->columns; column += t->scratch->strip) {
      const int columns = smaller(t->scratch->strip, t->scratch->columns - column);
      const TablesStrip strip = {rows, first, parts, pair, column, columns};
      expand_strip(t, &strip, y);
      look_up_strip(t, &strip);
    }
  }
}

// ---- What the sums become ----

// Pixels of one row, 64 channels, as fused_ints.inl and fused_lanes.inl ask for them.
struct TableSums {
  const uint8_t* sums;
  const LaneOffset* offset;
  const int32_t* const* border;  // [pixels], of channel 0; or null
  __m128i log_step;
  int32_t first_channel;

  inline __m512i lanes(int p, int v) const {
    const __m512i high = _mm512_load_si512(sums + p * kSumBytes + 64);
    if (v == 1) return high;
    return _mm512_sub_epi16(_mm512_load_si512(sums + p * kSumBytes), _mm512_slli_epi16(high, 8));
  }
  inline __m512i load(int p, int h) const {
    const __m512i half = lanes(p, h / 2);
    const __m512i x =
        _mm512_cvtepi16_epi32(h % 2 == 0 ? _mm512_castsi512_si256(half) : _mm512_extracti64x4_epi64(half, 1));
    const __m512i d = _mm512_sub_epi32(_mm512_sll_epi32(x, log_step), _mm512_set1_epi32(offset[p].parity));
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
static void finish_pixels(const TablesBand* t, const FinishedPixels* pixels, int count, int channel,
                          const uint8_t* sums, const LaneOffset* offset) {
  const FusedSpec* s = t->spec;
  const int channels = smaller(64, s->out_channels - channel), padded = padded_channels(s);
  const FusedPixels f = {&s->epilogue,  count,       channel,          channels,
                         pixels->codes, pixels->out, pixels->residual, t->band->codes_plane};
  const TableSums of_pixels = {sums, offset, s->epilogue.border == nullptr ? nullptr : pixels->border,
                               _mm_cvtsi32_si128(s->code_step / 2), channel};
  const bool lanes = has_lane_codes(s);
  if (lanes) {
    const LanePixels by_lane = {f, nullptr, pixels->threshold_row, t->prepared() + t->layout->thresholds};
    finish_lane_codes<2>(&by_lane, padded, of_pixels);
  } else {
    finish_int_codes<kLineCodes>(&f, padded, of_pixels);
  }
  finish_y(&f, padded, of_pixels);
}

static void finish_rows(const TablesBand* t, int y, int rows, int first_part, int parts) {
  const int width = t->spec->width;
  FinishedPixels pixels;
  for (int i = 0; i < rows; ++i) {
    for (int x = 0; x < width; x += kAtOnce) {
      const int count = smaller(kAtOnce, width - x);
      const int64_t at = static_cast<int64_t>(i) * width + x;
      pixels.set(t, y + i, x, count, t->offsets() + at);
      for (int v = 0; v < parts; ++v) {
        const uint8_t* sums = t->band->scratch + t->scratch->sums + v * t->scratch->part_sums + at * kSumBytes;
        finish_pixels(t, &pixels, count, (first_part + v) * 64, sums, t->offsets() + at);
      }
    }
  }
}

static void run(const FusedSpec* spec, const FusedBand* band) {
  const TablesLayout layout(spec);
  const TablesScratch scratch(spec);
  const TablesBand t = {spec, band, &layout, &scratch};
  const int last = (band->first_channel + band->channels + 63) / 64;
  int staged = 0;
  for (int y = 0; y < band->rows; y += scratch.rows) {
    const int rows = smaller(scratch.rows, band->rows - y);
    for (; staged < y + rows + 2; ++staged) stage_input_row(&t, staged);
    set_offsets(&t, y, rows);
    for (int first = band->first_channel / 64; first < last; first += scratch.parts) {
      const int parts = smaller(scratch.parts, last - first);
      begin_sums(&t, parts, rows * spec->width);
      sum_parts(&t, y, rows, first, parts);
      finish_rows(&t, y, rows, first, parts);
    }
  }
}

// ---- Cost ----

static bool serves(const FusedSpec* s) {
  const bool window = s->kernel_h == 3 && s->kernel_w == 3 && s->stride_h == 1 && s->stride_w == 1 &&
                      s->dilation_h == 1 && s->dilation_w == 1 && s->groups == 1;
  const bool bits = s->weight_bits <= kMostWeightBits && s->activation_bits <= kMostActivationBits;
  const bool step = s->code_step == 1 || s->code_step == 2 || s->code_step == 4;
  const FusedEpilogue* e = &s->epilogue;
  const bool codes = !e->wants_codes || e->bits <= 4 || e->rule == kFusedLine;
  const bool classes = border_classes(s) <= 1024 && s->largest_border < 1 << 22;
  return window && bits && step && codes && classes && s->out_channels >= kLeastChannels && sums_fit_lanes<2>(s) &&
         (!has_lane_codes(s) || lane_thresholds_bytes<2>(s) < 1 << 24);
}

// Cycles: of a column of 64 channels and a pair of groups, by how its sums are flushed, and of everything beside.
struct TablesRates {
  double gigahertz;
  double column[kMostActivationBits + 1];                // by activation bits: 18 look-ups, or twice 9
  double plane;                                          // more for each weight plane but the first
  double table;                                          // two tables of a column of a pair
  double input;                                          // 24 channels of an input pixel
  double bit, ints, scale, residual, codes, comparison;  // of 64 channels, as in fused_popcount_cost.inl of 16
  double pixel;
};

static TablesRates tables_rates(Machine machine) {
  switch (machine) {
    case Machine::kZen5:
      return {4.2, {0, 12.6, 12.6, 15, 18}, 2, 3, 3.5, 3.6, 13, 12, 4, 8, 4, 8};
    case Machine::kIceLake:
      return {2.9, {0, 20.5, 20.5, 23, 26}, 4, 5.5, 8, 8.6, 28, 24, 8.4, 24, 13.6, 14};
    case Machine::kSapphireRapids:
      return {2.55, {0, 20.5, 20.5, 23, 26}, 4, 5.5, 8, 8.6, 28, 24, 8.4, 24, 13.6, 14};
    default:
      return {3.6, {0, 20.5, 20.5, 23, 27}, 4, 5.5, 7, 6, 20, 20, 6, 24, 12, 12};
  }
}

// Cycles of what becomes of the sums of 64 channels of a pixel.
static double finish_cycles(const FusedSpec* s, const TablesRates& r) {
  const FusedEpilogue* const e = &s->epilogue;
  const double comparisons = e->rule == kFusedThresholds ? ((1 << e->bits) - 1) * r.comparison : 0;
  const bool codes_of_y = e->wants_codes && !e->codes_from_int;
  double cycles = 0;
  if (has_lane_codes(s)) {
    cycles += e->bits * r.bit;
  } else if (e->wants_codes && e->codes_from_int) {
    cycles += r.ints + comparisons;
  }
  if (!e->wants_float && !codes_of_y) return cycles;
  return cycles + r.scale + (e->has_residual ? r.residual : 0) + (codes_of_y ? r.codes + comparisons : 0);
}

static double cost(const FusedSpec* s, Machine machine) {
  if (!serves(s)) return -1;
  const TablesRates r = tables_rates(machine);
  const TablesLayout layout(s);
  const TablesScratch scratch(s);
  const double parts = layout.parts, columns = scratch.columns, bands = (s->height + scratch.rows - 1) / scratch.rows;
  const double blocks = (layout.parts + scratch.parts - 1) / scratch.parts, pairs = 0.5 * layout.groups;
  const double of_column = r.column[s->activation_bits] * layout.planes + r.plane * (layout.planes - 1);
  const double look_ups = s->height * columns * parts * pairs * of_column;
  const double tables = (s->height + 2 * bands) * columns * blocks * pairs * r.table;
  const double inputs = (s->height + 2) * columns * ((s->in_channels + 23) / 24) * r.input;
  const double finish = static_cast<double>(s->height) * s->width * (r.pixel + parts * finish_cycles(s, r));
  return (look_ups + tables + inputs + finish) / r.gigahertz;
}

}  // namespace

static constexpr FusedKernel kernel() {
  return {"tables9 avx512-vbmi", cost, prepared_bytes, prepare, scratch_bytes, run};
}

}  // namespace fused_tables

extern const FusedKernel kFusedTables9 = fused_tables::kernel();

}  // namespace bitorch
