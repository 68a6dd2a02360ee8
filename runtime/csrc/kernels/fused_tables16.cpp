// Fused products by tables of 16-bit sums for 3 x 3 convolutions of stride 1, AVX-512 with VBMI: "tables16".
//
// W1 x A5 .. A8, whose sums of subsets do not fit the bytes of fused_tables.cpp for more than one look-up. A table
// holds the 32 sums of the subsets of five codes of one pixel in 16 bits, so that a vpermw looks up 32 output channels,
// 160 products of a bit by a code. The loops are those of fused_tables.cpp; a step looks up the nine taps of 64
// channels, 18 look-ups of three tables. Where a whole sum does not fit 16 bits, sums move to 32 bits after as many
// pairs of groups as the weights allow.
//
// 18 look-ups, 16 additions of words and 4 with memory: on Intel, which starts one look-up and two operations a cycle,
// 19 cycles for 2880 products; Zen 4 alike; vpdpbusd takes 45 on Zen 4, 23 on Intel.

// GCC 12 takes the undefined operands inside its own AVX-512 intrinsics for uninitialised variables (GCC bug 105593).
#pragma GCC diagnostic ignored "-Wmaybe-uninitialized"
#pragma GCC diagnostic ignored "-Wuninitialized"

#include <immintrin.h>

#include <cstdint>

#include "../core/fused.h"
#include "../core/kernels.h"

namespace bitorch {

namespace fused_tables16 {

namespace {

#include "fused_loops.inl"

#include "fused_ints.inl"

#include "fused_lanes.inl"

#include "fused_table_walk.inl"

#include "fused_table_cost.inl"

constexpr int kGroupChannels = 5;
constexpr int kPairBytes = 64;                       // of a staged pixel: for each group 8 + 4 sums, 4 unused
constexpr int kStepBytes = 2 * kTaps * kTableBytes;  // indices of a group for 64 channels: [half][tap][32]
constexpr int kCarriedBytes = 4 * 64;                // of a row and a group
constexpr int kLeastActivationBits = 5;

// ---- What prepare() leaves ----

struct TablesLayout {
  int32_t groups, pairs, parts;
  int64_t moves;  // offset of uint8 [part][pair]: sums move to 32 bits behind it; after [part][pair][2] steps
  int64_t thresholds, bytes;  // offset, and of everything

  explicit TablesLayout(const FusedSpec* s) {
    groups = (s->in_channels + kGroupChannels - 1) / kGroupChannels;
    pairs = (groups + 1) / 2;
    parts = padded_channels(s) / 64;
    moves = static_cast<int64_t>(parts) * pairs * 2 * kStepBytes;
    thresholds = rounded_up(moves + static_cast<int64_t>(parts) * pairs, 64);
    bytes = thresholds + (has_lane_codes(s) ? lane_thresholds_bytes<2>(s) : 0);
  }
};

static int64_t prepared_bytes(const FusedSpec* spec) { return TablesLayout(spec).bytes; }

// The indices of one part and pair, uint16 [2 groups][half][tap][32], and how many bits each of 64 channels gets.
static void fill_indices(const FusedSpec* spec, const uint8_t* m, int part, int pair, uint16_t* index, int* bits) {
  const int64_t k = spec->in_channels;
  for (int c = 0; c < 64; ++c) bits[c] = 0;
  for (int c = 0; c < 64 && part * 64 + c < spec->out_channels; ++c) {
    const uint8_t* of_channel = m + (part * 64 + c) * kTaps * k;
    for (int i = 0; i < 2 * kGroupChannels && 2 * kGroupChannels * pair + i < k; ++i) {
      uint16_t* to = index + (i / kGroupChannels * 2 + c / 32) * kTaps * 32 + c % 32;
      for (int tap = 0; tap < kTaps; ++tap) {
        const int bit = of_channel[tap * k + 2 * kGroupChannels * pair + i];
        to[tap * 32] = static_cast<uint16_t>(to[tap * 32] | bit << i % kGroupChannels);
        bits[c] += bit;
      }
    }
  }
}

// Sums move before a pair with which one of them might pass 65535.
static bool prepare(const FusedSpec* spec, const uint8_t* m, void* prepared) {
  const TablesLayout layout(spec);
  uint8_t* index = static_cast<uint8_t*>(prepared);
  uint8_t* moves = index + layout.moves;
  const int n_a = (1 << spec->activation_bits) - 1;
  for (int part = 0; part < layout.parts; ++part) {
    int sum[64] = {};
    for (int pair = 0; pair < layout.pairs; ++pair, index += 2 * kStepBytes, ++moves) {
      int bits[64];
      fill_indices(spec, m, part, pair, reinterpret_cast<uint16_t*>(index), bits);
      bool full = false;
      for (int c = 0; c < 64; ++c) full = full || (sum[c] + bits[c]) * n_a > 65535;
      if (full) moves[-1] = 1;
      for (int c = 0; c < 64; ++c) sum[c] = full ? bits[c] : sum[c] + bits[c];
    }
    moves[-1] = 1;
  }
  if (has_lane_codes(spec)) set_lane_thresholds<2>(spec, static_cast<uint8_t*>(prepared) + layout.thresholds);
  return true;
}

// Sums of 32 bits are needed.
static bool is_wide(const FusedSpec* s) { return !sums_fit_lanes<2>(s); }

static TablesNeed need_of(const FusedSpec* spec) {
  return {TablesLayout(spec).pairs, kPairBytes, 2 * kCarriedBytes, is_wide(spec) ? 256 : 0};
}

static int64_t scratch_bytes(const FusedSpec* spec) { return TablesScratch(spec, need_of(spec)).bytes; }

// ---- Staging ----

// The sums of the subsets of three codes and of two, in words, of two groups: bytes of the ten codes where the number
// of a word's sum has a bit, 0 in every odd byte.
struct SubsetSums {
  __m512i from[3];
  __mmask64 chosen[3];

  SubsetSums() {
    alignas(64) uint8_t bytes[3][64] = {};
    for (int i = 0; i < 3; ++i) chosen[i] = 0;
    for (int word = 0; word < 32; ++word) {
      const int in_group = word % 16, first = word / 16 * kGroupChannels + (in_group < 8 ? 0 : 3);
      for (int i = 0; i < (in_group < 8 ? 3 : 2); ++i) {
        bytes[i][2 * word] = static_cast<uint8_t>(first + i);
        if (in_group >> i & 1) chosen[i] |= __mmask64{1} << 2 * word;
      }
    }
    for (int i = 0; i < 3; ++i) from[i] = _mm512_load_si512(bytes[i]);
  }
  inline __m512i of(const uint8_t* codes) const {
    const __m512i ten = _mm512_castsi128_si512(_mm_loadu_si128(reinterpret_cast<const __m128i*>(codes)));
    const __m512i a = _mm512_maskz_permutexvar_epi8(chosen[0], from[0], ten),
                  b = _mm512_maskz_permutexvar_epi8(chosen[1], from[1], ten),
                  c = _mm512_maskz_permutexvar_epi8(chosen[2], from[2], ten);
    return _mm512_add_epi16(_mm512_add_epi16(a, b), c);
  }
};

// Input row y of the band, from 0, lies in slot y % (rows + 2).
static void stage_input_row(const TablesBand* t, int pairs, int y) {
  const TablesScratch* s = t->scratch;
  const int first = y % (s->rows + 2) * s->columns;
  const uint8_t* row = t->band->input + y * t->band->row_bytes;
  const SubsetSums sums;
  for (int pair = 0; pair < pairs; ++pair) {
    const uint8_t* from = row + pair * 2 * kGroupChannels;
    uint8_t* to = t->band->scratch + pair * s->pair_stride + first * kPairBytes;
    for (int x = 0; x < s->columns; ++x, from += t->band->pixel_bytes, to += kPairBytes) {
      _mm512_store_si512(to, sums.of(from));
    }
  }
  sum_input_row(t, row, t->pixel_sums() + first);
}

// Entry e of a table: the lower sum e % 8 and the upper one e / 8.
static inline __m512i expanded(const uint8_t* sums, __m512i repeat) {
  const __m512i lower = _mm512_broadcast_i32x4(_mm_load_si128(reinterpret_cast<const __m128i*>(sums)));
  int64_t upper;
  __builtin_memcpy(&upper, sums + 16, 8);
  return _mm512_add_epi16(lower, _mm512_shuffle_epi8(_mm512_set1_epi64(upper), repeat));
}

static void expand_strip(const TablesBand* t, const TablesStrip* strip, int y) {
  const TablesScratch* s = t->scratch;
  const __m512i repeat =
      _mm512_set_epi64(0x0706070607060706, 0x0706070607060706, 0x0504050405040504, 0x0504050405040504,
                       0x0302030203020302, 0x0302030203020302, 0x0100010001000100, 0x0100010001000100);
  const uint8_t* all = t->band->scratch + strip->pair * s->pair_stride + strip->column * kPairBytes;
  uint8_t* tables = t->band->scratch + s->tables;
  const int slots = s->rows + 2;
  for (int i = 0; i < strip->rows + 2; ++i, tables += s->strip * kTableBytes) {
    const uint8_t* sums = all + (y + i) % slots * s->columns * kPairBytes;
    for (int x = 0; x < strip->columns; ++x, sums += kPairBytes) {
      _mm512_store_si512(tables + x * kTableBytes, expanded(sums, repeat));
      _mm512_store_si512(tables + s->group_stride + x * kTableBytes, expanded(sums + 32, repeat));
    }
  }
}

// ---- Looking up ----

// As in fused_linear_avx512.inl.
#if defined(BITORCH_NO_ASM) || defined(__clang__)
#define BITORCH_ADD_WORDS(sum, x) (sum) = _mm512_add_epi16(sum, x)
#define BITORCH_TOGETHER_3(a, b, c)
#define BITORCH_PIN(x)
#else
// As in fused_table_rows.inl.
#define BITORCH_ADD_WORDS(sum, x) __asm__("vpaddw %1,%0,%0" : "+v"(sum) : "v"(x))
#define BITORCH_TOGETHER_3(a, b, c) __asm__("" : "+v"(a), "+v"(b), "+v"(c))
#define BITORCH_PIN(x) __asm__("" : "+v"(x))
#endif

struct TableRows {
  const uint8_t* index;
  const uint8_t* tables;  // [rows + 2][columns][32] uint16
  int64_t table_row;
  uint8_t* sums;
  int64_t sums_row;
  uint8_t* carried;  // [rows][half][next, later]
  int32_t rows, columns;
  bool begins;
};

// The sums of 32 channels of outputs that are not finished yet, and what one column does to them; returns those of the
// output that it finishes.
struct UnfinishedHalf {
  __m512i next, later;

  inline __attribute__((always_inline)) __m512i column(const __m512i* index, const __m512i* entries) {
    __m512i sum[3];  // of the column's left, middle and right taps
    For<0, 3>::each([&](auto i)
                        __attribute__((always_inline)) { sum[i] = _mm512_permutexvar_epi16(index[i], entries[0]); });
    BITORCH_TOGETHER_3(sum[0], sum[1], sum[2]);
    For<1, 3>::each([&](auto row) __attribute__((always_inline)) {
      __m512i found[3];
      For<0, 3>::each([&](auto i) __attribute__((always_inline)) {
        found[i] = _mm512_permutexvar_epi16(index[3 * row + i], entries[row]);
      });
      BITORCH_TOGETHER_3(found[0], found[1], found[2]);
      For<0, 3>::each([&](auto i) __attribute__((always_inline)) { BITORCH_ADD_WORDS(sum[i], found[i]); });
    });
    BITORCH_ADD_WORDS(sum[2], next);
    next = _mm512_add_epi16(later, sum[1]);
    later = sum[0];
    return sum[2];
  }
};

template <bool finishes>
static inline __attribute__((always_inline)) void look_up_column(const __m512i* index, const uint8_t* table,
                                                                 int64_t table_row, UnfinishedHalf* u, uint8_t* sums) {
  __m512i entries[3];
  For<0, 3>::each([&](auto row) __attribute__((always_inline)) {
    entries[row] = _mm512_load_si512(table + row * table_row);
    BITORCH_PIN(entries[row]);
  });
  For<0, 2>::each([&](auto half) __attribute__((always_inline)) {
    const __m512i sum = u[half].column(index + kTaps * half, entries);
    if (finishes) {
      _mm512_store_si512(sums + 64 * half, _mm512_add_epi16(sum, _mm512_load_si512(sums + 64 * half)));
    }
  });
}

static __attribute__((noinline)) void look_up_rows(const TableRows* t) {
  __m512i index[2 * kTaps];
  For<0, 2 * kTaps>::each([&](auto i) __attribute__((always_inline)) {
    index[i] = _mm512_load_si512(t->index + 64 * i);
    BITORCH_PIN(index[i]);
  });
  for (int y = 0; y < t->rows; ++y) {
    const uint8_t* table = t->tables + y * t->table_row;
    uint8_t *sums = t->sums + y * t->sums_row, *carried = t->carried + y * kCarriedBytes;
    int left = t->columns;
    UnfinishedHalf u[2];
    For<0, 2>::each([&](auto half) __attribute__((always_inline)) {
      u[half].next = t->begins ? _mm512_setzero_si512() : _mm512_load_si512(carried + 128 * half);
      u[half].later = t->begins ? _mm512_setzero_si512() : _mm512_load_si512(carried + 128 * half + 64);
    });
    for (int i = 0; i < 2 && t->begins; ++i, --left, table += kTableBytes) {
      look_up_column<false>(index, table, t->table_row, u, nullptr);
    }
    for (; left > 0; --left, table += kTableBytes, sums += kSumBytes) {
      look_up_column<true>(index, table, t->table_row, u, sums);
    }
    For<0, 2>::each([&](auto half) __attribute__((always_inline)) {
      _mm512_store_si512(carried + 128 * half, u[half].next);
      _mm512_store_si512(carried + 128 * half + 64, u[half].later);
    });
  }
}

static void look_up_strip(const TablesBand* t, const TablesLayout* l, const TablesStrip* strip) {
  const TablesScratch* s = t->scratch;
  uint8_t* scratch = t->band->scratch;
  const int first_output = strip->column < 2 ? 0 : strip->column - 2;
  TableRows r = {};
  r.table_row = s->strip * kTableBytes;
  r.sums_row = t->spec->width * kSumBytes;
  r.carried = scratch + s->carried;
  r.rows = strip->rows;
  r.columns = strip->columns;
  r.begins = strip->column == 0;
  for (int v = 0; v < strip->parts; ++v) {
    r.index = t->prepared() + (static_cast<int64_t>(strip->first_part + v) * l->pairs + strip->pair) * 2 * kStepBytes;
    r.sums = scratch + s->sums + v * s->part_sums + first_output * kSumBytes;
    for (int g = 0; g < 2 && 2 * strip->pair + g < l->groups; ++g, r.index += kStepBytes) {
      r.tables = scratch + s->tables + g * s->group_stride;
      look_up_rows(&r);
      r.carried += s->rows * kCarriedBytes;
    }
    if (2 * strip->pair + 1 == l->groups) r.carried += s->rows * kCarriedBytes;
  }
}

// ---- Sums ----

// Words begin with what the codes' own sum contributes, where they hold everything; else with 0.
static void begin_sums(const TablesBand* t, int parts, int pixels) {
  const TablesScratch* s = t->scratch;
  const bool wide = is_wide(t->spec);
  const LaneOffset* offset = t->offsets();
  for (int v = 0; v < parts; ++v) {
    uint8_t* to = t->band->scratch + s->sums + v * s->part_sums;
    uint8_t* ints = t->band->scratch + s->ints + v * s->part_ints;
    for (int p = 0; p < pixels; ++p, to += kSumBytes, ints += 2 * kSumBytes) {
      const __m512i x = _mm512_set1_epi16(static_cast<int16_t>(wide ? 0 : -offset[p].shift));
      _mm512_store_si512(to, x);
      _mm512_store_si512(to + 64, x);
      for (int i = 0; i < 4 && wide; ++i) _mm512_store_si512(ints + 64 * i, _mm512_setzero_si512());
    }
  }
}

// What words hold goes to ints, where the weights of the next pair would fill them.
static void move_sums(const TablesBand* t, const TablesLayout* l, int pair, int first, int parts, int pixels) {
  const TablesScratch* s = t->scratch;
  for (int v = 0; v < parts; ++v) {
    if (!t->prepared()[l->moves + static_cast<int64_t>(first + v) * l->pairs + pair]) continue;
    uint8_t* from = t->band->scratch + s->sums + v * s->part_sums;
    uint8_t* to = t->band->scratch + s->ints + v * s->part_ints;
    for (int p = 0; p < 2 * pixels; ++p, from += 64, to += 128) {
      const __m512i words = _mm512_load_si512(from);
      const __m512i low = _mm512_cvtepu16_epi32(_mm512_castsi512_si256(words)),
                    high = _mm512_cvtepu16_epi32(_mm512_extracti64x4_epi64(words, 1));
      _mm512_store_si512(to, _mm512_add_epi32(_mm512_load_si512(to), low));
      _mm512_store_si512(to + 64, _mm512_add_epi32(_mm512_load_si512(to + 64), high));
      _mm512_store_si512(from, _mm512_setzero_si512());
    }
  }
}

static void run(const FusedSpec* spec, const FusedBand* band) {
  const TablesLayout layout(spec);
  const TablesScratch scratch(spec, need_of(spec));
  const TablesBand t = {spec, band, &scratch, static_cast<const uint8_t*>(band->prepared) + layout.thresholds};
  const bool wide = is_wide(spec);
  const int last = (band->first_channel + band->channels + 63) / 64;
  int staged = 0;
  for (int y = 0; y < band->rows; y += scratch.rows) {
    const int rows = smaller(scratch.rows, band->rows - y);
    for (; staged < y + rows + 2; ++staged) stage_input_row(&t, layout.pairs, staged);
    set_offsets(&t, y, rows);
    for (int first = band->first_channel / 64; first < last; first += scratch.parts) {
      const int parts = smaller(scratch.parts, last - first);
      begin_sums(&t, parts, rows * spec->width);
      for_each_strip(
          &scratch, layout.pairs, rows, first, parts, [&](const TablesStrip* strip) { expand_strip(&t, strip, y); },
          [&](const TablesStrip* strip) { look_up_strip(&t, &layout, strip); },
          [&](int pair) {
            if (wide) move_sums(&t, &layout, pair, first, parts, rows * spec->width);
          });
      if (wide) {
        finish_rows<kInts>(&t, y, rows, first, parts);
      } else {
        finish_rows<kWords>(&t, y, rows, first, parts);
      }
    }
  }
}

// ---- Cost ----

static bool serves(const FusedSpec* s) {
  return tables_serve(s) && s->weight_bits == 1 && s->activation_bits >= kLeastActivationBits && !s->input_planes;
}

static double cost(const FusedSpec* s, Machine machine) {
  if (!serves(s)) return -1;
  const bool zen5 = machine == Machine::kZen5;
  const double look_ups = zen5 ? 24 : 48, tables = zen5 ? 3.5 : 9, input = zen5 ? 3 : 6, move = zen5 ? 10 : 30;
  const FinishRates finish = finish_rates(machine);
  const TablesScratch scratch(s, need_of(s));
  const TablesLayout layout(s);
  const double inputs = (s->height + 2.0) * scratch.columns * layout.pairs * input;
  // Half the weights are 1, about.
  const double moves = is_wide(s) ? static_cast<double>(s->largest_product) / 50000 + 1 : 0;
  const double moved = static_cast<double>(s->height) * s->width * layout.parts * moves * move;
  return (walk_cycles(s, scratch, 0.5 * layout.groups, look_ups, tables) + inputs + moved +
          finished_cycles(s, finish)) /
         finish.gigahertz;
}

}  // namespace

static constexpr FusedKernel kernel() {
  return {"tables16 avx512-vbmi", cost, prepared_bytes, prepare, scratch_bytes, run};
}

}  // namespace fused_tables16

extern const FusedKernel kFusedTables16 = fused_tables16::kernel();

}  // namespace bitorch
