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

#include "fused_table_walk.inl"

#include "fused_table_stage.inl"

#include "fused_table_rows.inl"

#include "fused_table_cost.inl"

constexpr int kMostWeightBits = 3, kMostActivationBits = 4;

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
    pair_index = static_cast<int64_t>(planes) * 2 * kTaps * kTableBytes;
    flush = parts * pairs * pair_index;
    thresholds = rounded_up(flush + static_cast<int64_t>(parts) * pairs * planes * 2, 64);
    bytes = thresholds + (has_lane_codes(s) ? lane_thresholds_bytes<2>(s) : 0);
  }
};

static int64_t prepared_bytes(const FusedSpec* spec) { return TablesLayout(spec).bytes; }

// Lanes of bytes: channels 0 .. 31 are the even ones, so that the lower bytes of 16-bit lanes are they in order.
static inline int lane_of(int channel) { return channel < 32 ? 2 * channel : 2 * (channel - 32) + 1; }

// Bit `plane` of up to kGroupChannels weights.
static inline uint8_t bits_of(const uint8_t* m, int64_t count, int plane) {
  static_assert(kGroupChannels == 6, "loads of 4 and 2 bytes");
  uint64_t weights = 0;
  if (count >= kGroupChannels) {
    uint32_t four;
    uint16_t two;
    __builtin_memcpy(&four, m, 4);
    __builtin_memcpy(&two, m + 4, 2);
    weights = four | uint64_t{two} << 32;
  } else {
    for (int64_t i = 0; i < count; ++i) weights |= uint64_t{m[i]} << 8 * i;
  }
  // The product adds bit 0 of byte i at bit 56 + i, and nothing else reaches the highest byte.
  return static_cast<uint8_t>((weights >> plane & 0x0101010101010101u) * 0x0102040810204080u >> 56);
}

// index [18][64] of one part, pair and plane.
static void fill_indices(const FusedSpec* spec, const uint8_t* m, int part, int pair, int plane, uint8_t* index) {
  const int64_t k = spec->in_channels;
  for (int c = 0; c < 64 && part * 64 + c < spec->out_channels; ++c) {
    const uint8_t* of_channel = m + (part * 64 + c) * kTaps * k;
    for (int group = 0; group < 2 && kGroupChannels * (2 * pair + group) < k; ++group) {
      const int64_t first = kGroupChannels * (2 * pair + group);
      uint8_t* to = index + group * kTaps * kTableBytes + lane_of(c);
      for (int tap = 0; tap < kTaps; ++tap) {
        to[tap * kTableBytes] = bits_of(of_channel + tap * k + first, k - first, plane);
      }
    }
  }
}

// The largest sum, over lanes, of the taps named by bits of `taps`.
static int most_bits(const uint8_t* index, uint32_t taps) {
  __m512i bits = _mm512_setzero_si512();
  for (uint32_t left = taps; left != 0; left &= left - 1) {
    const __m512i row = _mm512_loadu_si512(index + __builtin_ctz(left) * kTableBytes);
    bits = _mm512_add_epi8(bits, _mm512_popcnt_epi8(row));
  }
  uint8_t lanes[kTableBytes];
  _mm512_storeu_si512(lanes, bits);
  int most = 0;
  for (const uint8_t lane : lanes) most = lane > most ? lane : most;
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
      for (int plane = 0; plane < layout.planes; ++plane, index += 2 * kTaps * kTableBytes, flush += 2) {
        fill_indices(spec, m, part, pair, plane, index);
        const bool both = 2 * pair + 1 < layout.groups;
        flush[0] = flush_of(index, n_a);
        flush[1] = flush_of(index + kTaps * kTableBytes, n_a);
        if (both && most_bits(index, (1 << 2 * kTaps) - 1) * n_a <= 255) flush[0] = kPair;
      }
    }
  }
  if (has_lane_codes(spec)) set_lane_thresholds<2>(spec, static_cast<uint8_t*>(prepared) + layout.thresholds);
  return true;
}

static TablesNeed need_of(const FusedSpec* spec) {
  const TablesLayout layout(spec);
  return {layout.pairs, kPairBytes, layout.planes * 2 * kCarriedBytes, 0};
}

static int64_t scratch_bytes(const FusedSpec* spec) { return TablesScratch(spec, need_of(spec)).bytes; }

// ---- Running ----

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
  sum_input_row(t, row, t->pixel_sums() + first);
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

static void expand_strip(const TablesBand* t, const TablesStrip* strip, int y) {
  const TablesScratch* s = t->scratch;
  const uint8_t* triples = t->band->scratch + strip->pair * s->pair_stride + strip->column * kPairBytes;
  uint8_t* tables = t->band->scratch + s->tables;
  const int slots = s->rows + 2;
  for (int i = 0; i < strip->rows + 2; ++i, tables += s->strip * kTableBytes) {
    expand_tables(triples + (y + i) % slots * s->columns * kPairBytes, strip->columns, tables, s->group_stride);
  }
}

static void look_up_strip(const TablesBand* t, const TablesLayout* l, const TablesStrip* strip) {
  const TablesScratch* s = t->scratch;
  uint8_t* scratch = t->band->scratch;
  const int64_t carried_bytes = s->rows * kCarriedBytes;
  const int first_output = strip->column < 2 ? 0 : strip->column - 2;
  TableRows r = {};
  r.table_row = s->strip * kTableBytes;
  r.table_group = s->group_stride;
  r.sums_row = t->spec->width * kSumBytes;
  r.carried = scratch + s->carried;
  r.rows = strip->rows;
  r.columns = strip->columns;
  r.begins = strip->column == 0;
  for (int v = 0; v < strip->parts; ++v) {
    const int64_t at = static_cast<int64_t>(strip->first_part + v) * l->pairs + strip->pair;
    const uint8_t* flush = t->prepared() + l->flush + at * l->planes * 2;
    r.index = t->prepared() + at * l->pair_index;
    r.sums = scratch + s->sums + v * s->part_sums + first_output * kSumBytes;
    for (int plane = 0; plane < l->planes; ++plane, flush += 2) {
      for (int g = 0; g < 2; ++g, r.index += kTaps * kTableBytes, r.carried += carried_bytes) {
        const bool summed = g == 1 && (flush[0] == kPair || 2 * strip->pair + 1 == l->groups);
        r.tables = scratch + s->tables + g * s->group_stride;
        if (!summed) look_up_plane(plane, flush[g], &r);
      }
    }
  }
}

static void run(const FusedSpec* spec, const FusedBand* band) {
  const TablesLayout layout(spec);
  const TablesScratch scratch(spec, need_of(spec));
  const TablesBand t = {spec, band, &scratch, static_cast<const uint8_t*>(band->prepared) + layout.thresholds};
  const int last = (band->first_channel + band->channels + 63) / 64;
  int staged = 0;
  for (int y = 0; y < band->rows; y += scratch.rows) {
    const int rows = smaller(scratch.rows, band->rows - y);
    for (; staged < y + rows + 2; ++staged) stage_input_row(&t, staged);
    set_offsets(&t, y, rows);
    for (int first = band->first_channel / 64; first < last; first += scratch.parts) {
      const int parts = smaller(scratch.parts, last - first);
      begin_sums(&t, parts, rows * spec->width);
      for_each_strip(
          &scratch, layout.pairs, rows, first, parts, [&](const TablesStrip* strip) { expand_strip(&t, strip, y); },
          [&](const TablesStrip* strip) { look_up_strip(&t, &layout, strip); }, [](int) {});
      finish_rows<kPairsOfBytes>(&t, y, rows, first, parts);
    }
  }
}

// ---- Cost ----

static bool serves(const FusedSpec* s) {
  return tables_serve(s) && s->weight_bits <= kMostWeightBits && s->activation_bits <= kMostActivationBits &&
         sums_fit_lanes<2>(s);
}

// Cycles, beside those of fused_table_cost.inl.
struct TablesRates {
  double column[kMostActivationBits];  // of 64 channels and a pair of groups, by activation bits: how often they flush
  double plane;                        // more for each weight plane but the lowest
  double tables;                       // the two tables of a pixel of a pair
  double input;                        // 24 channels of an input pixel
};

static inline TablesRates tables_rates(Machine machine) {
  switch (machine) {
    case Machine::kZen5:
      return {{12.6, 12.6, 15, 18}, 2, 3, 3.5};
    case Machine::kIceLake:
    case Machine::kSapphireRapids:
      return {{20.5, 20.4, 23, 26}, 0.2, 5.95, 4.44};
    default:
      return {{20.5, 20.5, 23, 26}, 4, 4, 7};
  }
}

static double cost(const FusedSpec* s, Machine machine) {
  if (!serves(s)) return -1;
  const TablesRates r = tables_rates(machine);
  const FinishRates finish = finish_rates(machine);
  const TablesScratch scratch(s, need_of(s));
  const TablesLayout layout(s);
  const double look_ups = r.column[s->activation_bits - 1] * layout.planes + r.plane * (layout.planes - 1);
  const double inputs = (s->height + 2.0) * scratch.columns * ((s->in_channels + 23) / 24) * r.input;
  return (walk_cycles(s, scratch, 0.5 * layout.groups, look_ups, r.tables) + inputs + finished_cycles(s, finish)) /
         finish.gigahertz;
}

}  // namespace

static constexpr FusedKernel kernel() {
  return {"tables9 avx512-vbmi", cost, prepared_bytes, prepare, scratch_bytes, run};
}

}  // namespace fused_tables

extern const FusedKernel kFusedTables9 = fused_tables::kernel();

}  // namespace bitorch
