// Convolutions of bytes by tiles of Intel's AMX, from codes to codes or floats: Sapphire Rapids and later.
//
// A tile register is 16 rows of 64 bytes. TDPBUSD adds to 16 x 16 int32 the products of 16 x 64 codes and 64 x 16
// weights, a row of codes a cycle: 1024 products a cycle, three times those of one-bit weights and one-bit codes by
// population counts. So it is the way for all bit widths.
//
//        codes: m pixels x 64 of K              weights: 64 of K x 16 channels         sums: m pixels x 16 channels
//   row  [ k0 k1 k2 k3 | k4 .. | ... k63 ]      [ n0: k0 k1 k2 k3 | n1: k0 .. | ..]    [ n0 | n1 | ... | n15 ]   int32
//   ...  [ next pixel                    ]      [ n0: k4 k5 k6 k7 | n1: k4 .. | ..]    [ next pixel          ]
//
// K is the taps of the kernel, and the channels of each. Where channels are a multiple of 64 the rows of codes are the
// pixels themselves, at a constant distance. A row that lies in two cache lines costs several times as much, so pixels
// of other widths are copied, K side by side, before they are multiplied. 4 tiles of pixels x 1 of weights, or as many
// sums otherwise, hide the 52 cycles that a product takes; the weights, which need not fit the first-level cache, are
// read once for 64 pixels, and widened then where they are kept narrow (fused_amx_weights.inl).

// GCC 12 takes the undefined operands inside its own AVX-512 intrinsics for uninitialised variables (GCC bug 105593).
#pragma GCC diagnostic ignored "-Wmaybe-uninitialized"
#pragma GCC diagnostic ignored "-Wuninitialized"

#include <immintrin.h>

#include <cstdint>

#include "../core/fused.h"
#include "../core/kernels.h"

namespace bitorch {

namespace fused_amx {

// Members of classes are inline, and so emitted weakly wherever they are not inlined, unless their class is local.
namespace {

#include "fused_loops.inl"

#include "fused_ints.inl"

#include "fused_lines.inl"

#include "fused_line_codes.inl"

constexpr int kRows = 16, kRowBytes = 64, kTileBytes = kRows * kRowBytes;
constexpr int kGroup = kFusedChannels, kGroupTiles = kGroup / kRows;
constexpr int kSumRow = kGroup;

#include "fused_list.inl"

#include "fused_list_cost.inl"

constexpr int kMostTiles = kListPixels / kRows;  // of pixels, finished together

// ---- What is prepared ----

// How codes are made; a tile of ones, one of ones as far as K goes in its last 64; the weights, [tiles of 16 channels]
// [chunks of 64 of K] tiles (fused_amx_weights.inl).

// Weights are kept narrow from so many bytes on, if a column of them has so many tiles: others stay near, and little is
// multiplied by them while the next are widened.
constexpr int64_t kLeastPacked = 128 * 1024;
constexpr int32_t kLeastPackedChunks = 8;

// Weights beyond this leave the second-level cache before the next tiles need them: then the channels are the outer
// loop.
constexpr int64_t kMostNear = 1 << 20;

struct Plan {
  int64_t k;  // inputs per output
  int32_t chunks, groups, padded, tiles;
  int32_t field;  // bits that a weight takes: 1, 2, 4 or 8
  int64_t ones_at, weights_at, bytes;
  int64_t stage_row;  // bytes of a copied pixel: an odd number of cache lines, so that 16 of them meet in no set
  bool aligned;       // tiles read the pixels as they lie: taps of a multiple of 64 channels, or one of up to 64
  int32_t taps;
};

static Plan plan_of(const FusedSpec* s) {
  Plan p;
  p.k = int64_t{s->kernel_h} * s->kernel_w * s->in_channels;
  p.chunks = static_cast<int32_t>((p.k + kRowBytes - 1) / kRowBytes);
  p.padded = fused_padded(s);
  p.groups = p.padded / kGroup;
  p.tiles = (s->out_channels + kRows - 1) / kRows;
  p.ones_at = prepared_line_bytes(s);
  p.weights_at = p.ones_at + 2 * kTileBytes;
  const int64_t column = int64_t{p.chunks} * kTileBytes;
  const bool packed = s->weight_bits <= 4 && p.chunks >= kLeastPackedChunks && p.tiles * column >= kLeastPacked;
  p.field = !packed ? 8 : s->weight_bits <= 2 ? s->weight_bits : 4;
  p.bytes = p.weights_at + p.tiles * column / 8 * p.field;
  p.stage_row = int64_t{p.chunks | 1} * kRowBytes;
  p.taps = s->kernel_h * s->kernel_w;
  p.aligned = s->in_channels % kRowBytes == 0 || (p.taps == 1 && p.chunks == 1);
  return p;
}

// Which 64 of K are chunk i: the taps of 64 channels one after the other, as they read the same pixels; or, where
// pixels are copied, all in order.
static inline int64_t chunk_k(const FusedSpec* s, const Plan& p, int i) {
  if (!p.aligned) return int64_t{i} * kRowBytes;
  return int64_t{i % p.taps} * s->in_channels + int64_t{i / p.taps} * kRowBytes;
}

#include "fused_amx_widen.inl"

#include "fused_amx_weights.inl"

#include "fused_amx_products.inl"

#include "fused_amx_single.inl"

static int64_t prepared_bytes(const FusedSpec* s) { return plan_of(s).bytes; }

static bool prepare(const FusedSpec* s, const uint8_t* m, void* prepared) {
  const Plan p = plan_of(s);
  if (!prepare_line(s, prepared)) return false;
  uint8_t* const base = static_cast<uint8_t*>(prepared);
  uint8_t* const ones = base + p.ones_at;
  const int64_t last = p.k - int64_t{p.chunks - 1} * kRowBytes;
  for (int k = 0; k < kRowBytes; ++k) {
    for (int n = 0; n < kRows; ++n) {
      const int at = k / 4 * kRowBytes + n * 4 + k % 4;
      ones[at] = 1;
      ones[kTileBytes + at] = k < last;
    }
  }
  write_weights(s, p, m, base + p.weights_at);
  return true;
}

#include "fused_amx_tiling.inl"

// ---- Running ----

// What lies in scratch.
struct alignas(64) Work {
  int32_t sums[kListPixels * kSumRow];
  int32_t windows[kListPixels * kRows];
  int8_t widened[kGroupTiles * kWidenedTiles * kTileBytes];
  FusedList list;
  CodeTiles codes;
};

static int64_t chunk_bytes(const Plan& p) { return (int64_t{p.chunks} * 4 + 63) & -64; }

// Inputs that a band of so many rows reads.
static inline int64_t region_rows(const FusedSpec* s, int rows) {
  return int64_t{rows - 1} * s->stride_h + int64_t{s->kernel_h - 1} * s->dilation_h + 1;
}
static inline int64_t region_columns(const FusedSpec* s) {
  return int64_t{s->width - 1} * s->stride_w + int64_t{s->kernel_w - 1} * s->dilation_w + 1;
}

// Whether pixels move apart first, a cache line each, as each of them is read by several taps.
static inline bool spreads(const FusedSpec* s, const Plan& p) {
  return p.aligned && p.taps > 1 && crowded(s, s->in_channels);
}

static int64_t scratch_bytes(const FusedSpec* s) {
  const Plan p = plan_of(s);
  const int64_t region =
      spreads(s, p) ? region_rows(s, s->height) * region_columns(s) * (s->in_channels + kRowBytes) : 0;
  return static_cast<int64_t>(sizeof(Work)) + chunk_bytes(p) + region + kListPixels * p.stage_row + 2 * kRowBytes;
}

// `bytes` bytes, rounded up to 64.
static inline void copy_run(const uint8_t* from, int64_t bytes, uint8_t* to) {
  for (int64_t i = 0; i < bytes; i += 64) _mm512_storeu_si512(to + i, _mm512_loadu_si512(from + i));
}

// The band's input with a cache line between its pixels.
static FusedBand spread(const FusedSpec* s, const FusedBand* b, uint8_t* to) {
  FusedBand band = *b;
  const int64_t columns = region_columns(s), rows = region_rows(s, b->rows);
  band.input = to;
  band.pixel_bytes = s->in_channels + kRowBytes;
  band.row_bytes = columns * band.pixel_bytes;
  for (int64_t y = 0; y < rows; ++y) {
    for (int64_t x = 0; x < columns; ++x, to += band.pixel_bytes) {
      copy_run(b->input + y * b->row_bytes + x * b->pixel_bytes, s->in_channels, to);
    }
  }
  return band;
}

// `count` runs of as many rows, side by side; runs of few bytes, as of images, one vector each.
static inline void copy_rows(const uint8_t* from, int64_t row_bytes, int64_t bytes, int count, uint8_t* to) {
  if (bytes > 32) {
    for (int i = 0; i < count; ++i, from += row_bytes, to += bytes) copy_run(from, bytes, to);
    return;
  }
  for (int i = 0; i < count; ++i, from += row_bytes, to += bytes) {
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(to), _mm256_loadu_si256(reinterpret_cast<const __m256i*>(from)));
  }
}

// The window of one output: K bytes side by side.
static inline void copy_window(const FusedSpec* s, const FusedBand* b, const uint8_t* from, uint8_t* to) {
  const int64_t row_bytes = s->dilation_h * b->row_bytes, next = s->dilation_w * b->pixel_bytes;
  if (s->kernel_w == 1 || (s->dilation_w == 1 && b->pixel_bytes == s->in_channels)) {
    return copy_rows(from, row_bytes, int64_t{s->kernel_w} * s->in_channels, s->kernel_h, to);
  }
  for (int ky = 0; ky < s->kernel_h; ++ky, from += row_bytes, to += s->kernel_w * s->in_channels) {
    copy_rows(from, next, s->in_channels, s->kernel_w, to);
  }
}

struct Run {
  const FusedSpec* s;
  const FusedBand* b;
  Plan p;
  Tiling t;
  FusedLineRule line;
  WeightForm form;
  Work* work;
  int32_t* chunk_at;
  uint8_t* stage;
};

// Tile i of the band: its first pixel, the rows of it that no tile before has.
struct TileAt {
  int32_t run, first, skip;
};
static inline TileAt tile_at(const Tiling& t, int i) {
  TileAt at;
  at.run = i / t.tiles_per_run;
  const int wanted = i % t.tiles_per_run * t.rows;
  at.first = wanted + t.rows <= t.length ? wanted : t.length - t.rows;
  at.skip = wanted - at.first;
  return at;
}

static void copy_tile(const Run& r, const TileAt& at, uint8_t* to) {
  const int width = r.b->width;
  const int64_t pixel = r.s->stride_w * r.b->pixel_bytes, row = r.s->stride_h * r.b->row_bytes;
  int y = at.first / width, x = at.first % width;
  for (int i = 0; i < r.t.rows; x = 0, ++y) {
    const uint8_t* from = r.b->input + y * row + x * pixel;
    const int end = width - x < r.t.rows - i ? i + width - x : r.t.rows;
    if (r.p.taps == 1) {
      for (; i < end; ++i, to += r.p.stage_row, from += pixel) copy_run(from, r.s->in_channels, to);
    } else {
      for (; i < end; ++i, to += r.p.stage_row, from += pixel) copy_window(r.s, r.b, from, to);
    }
  }
}

// Which pixels of the image the rows of a tile are.
static void list_tile(const Run& r, const TileAt& at, int row) {
  const Tiling& t = r.t;
  int f = at.first + at.skip;
  const int end = at.first + t.rows;
  row += at.skip;
  while (f < end) {
    const int y = t.runs == 1 ? f / t.pitch : at.run, x = t.runs == 1 ? f % t.pitch : f;
    const int next = end < f - x + t.pitch ? end : f - x + t.pitch;
    const int real = r.b->width < x + next - f ? r.b->width - x : next - f;
    if (real > 0) list_pixels(r.s, r.b, y, x, real, row, &r.work->list);
    row += next - f;
    f = next;
  }
}

// Codes and pixels of `count` tiles from the first one on.
static void locate(const Run& r, int first, int count) {
  Work* const w = r.work;
  w->list.count = 0;
  w->codes.stride = r.t.stride;
  for (int i = 0; i < count; ++i) {
    const TileAt at = tile_at(r.t, first + i);
    list_tile(r, at, i * r.t.rows);
    if (r.t.copied) {
      uint8_t* const to = r.stage + i * r.t.rows * r.p.stage_row;
      copy_tile(r, at, to);
      w->codes.at[i] = to;
    } else {
      w->codes.at[i] = r.b->input + at.run * r.t.run_bytes + at.first * r.t.stride;
    }
  }
  if (!fused_halved(r.s)) return;
  const uint8_t* const ones = static_cast<const uint8_t*>(r.b->prepared) + r.p.ones_at;
  if (r.p.chunks == 1) return add_single_windows(&w->codes, count, ones + kTileBytes, r.t.rows, w->windows);
  switch (count) {
    case 1:
      return add_windows<1>(&w->codes, r.chunk_at, r.p.chunks, ones, r.t.rows, w->windows);
    case 2:
      return add_windows<2>(&w->codes, r.chunk_at, r.p.chunks, ones, r.t.rows, w->windows);
    case 3:
      return add_windows<3>(&w->codes, r.chunk_at, r.p.chunks, ones, r.t.rows, w->windows);
    default:
      return add_windows<4>(&w->codes, r.chunk_at, r.p.chunks, ones, r.t.rows, w->windows);
  }
}

static void run_group(const Run& r, int count, int channel) {
  Work* const w = r.work;
  const uint8_t* const weights = static_cast<const uint8_t*>(r.b->prepared) + r.p.weights_at;
  const ColumnTiles tiles = {weights + int64_t{channel / kRows} * r.p.chunks * r.form.tile_bytes, &r.form, w->widened};
  const int left = (r.b->first_channel + r.b->channels - channel + kRows - 1) / kRows;
  const int columns = left < kGroupTiles ? left : kGroupTiles;
  if (r.p.chunks == 1) {
    multiply_single_group(&w->codes, count, tiles.first, columns, r.t.rows, w->sums);
  } else {
    multiply_group(&w->codes, count, r.chunk_at, r.p.chunks, tiles, columns, r.t.rows, w->sums);
  }
  finish_list(r.s, r.b, &r.line, &w->list, w->sums, fused_halved(r.s) ? w->windows : nullptr, kRows, channel);
}

// Where each 64 of K begin, from the first tap of a window on.
static void locate_chunks(const Run& r) {
  for (int i = 0; i < r.p.chunks; ++i) {
    const int64_t k = chunk_k(r.s, r.p, i);
    const int64_t tap = k / r.s->in_channels;
    const int64_t y = tap / r.s->kernel_w * r.s->dilation_h, x = tap % r.s->kernel_w * r.s->dilation_w;
    const int64_t at = y * r.b->row_bytes + x * r.b->pixel_bytes + k % r.s->in_channels;
    r.chunk_at[i] = static_cast<int32_t>(r.t.copied ? k : at);
  }
}

static void run(const FusedSpec* s, const FusedBand* whole) {
  FusedBand band = *whole;
  const FusedBand* const b = &band;
  Run r = {s, b, plan_of(s), {}, {}, {}, reinterpret_cast<Work*>(b->scratch), nullptr, nullptr};
  r.chunk_at = reinterpret_cast<int32_t*>(b->scratch + sizeof(Work));
  r.stage = b->scratch + sizeof(Work) + chunk_bytes(r.p);
  if (spreads(s, r.p)) {
    band = spread(s, whole, r.stage);
    r.stage += region_rows(s, b->rows) * b->row_bytes;
  }
  const uint8_t* const prepared = static_cast<const uint8_t*>(b->prepared);
  r.line = prepared_line(s, prepared);
  r.form = weight_form(s, r.p, prepared + r.p.ones_at + kTileBytes);
  r.t = choose_tiling(s, b, r.p);
  locate_chunks(r);
  if (r.p.chunks == 1) {
    configure_single(r.t.rows, static_cast<int>(r.p.k));
  } else {
    configure(r.t.rows);
  }
  const int tiles = tiles_of(r.t), rounds = rounds_of(r.t);
  const int end = b->first_channel + b->channels;
  const int64_t weights = int64_t{b->channels} * r.p.chunks * r.form.tile_bytes / kRows;
  const int step = rounds > 1 && weights > kMostNear ? kGroup : b->channels;
  for (int from = b->first_channel; from < end; from += step) {
    const int to = end < from + step ? end : from + step;
    for (int i = 0, first = 0; i < rounds; ++i) {
      const int count = (tiles - first + rounds - i - 1) / (rounds - i);
      locate(r, first, count);
      for (int c = from; c < to; c += kGroup) run_group(r, count, c);
      first += count;
    }
  }
  release();
}

// ---- Cost ----

// Nanoseconds, fitted to layers of networks on Emerald Rapids.
struct AmxRates {
  FinishNanoseconds finish;
  double product, sums;        // a product of tiles of 16 rows; a tile of sums to memory and back into use
  double single;               // both, where a tile of sums is one product
  double copied, run;          // 64 bytes copied, a run of adjoining ones begun
  double pixel, group, call;   // what a pixel takes besides, 64 channels of it; what a call takes
  double far_weight, widened;  // a byte of weights that no cache near holds; one that is widened
};
constexpr AmxRates kRates = {{0.0734, 0.889, 0.547, 1.17, 1.03, 1.88, 1, 1.69, 1.81},
                             12.1,
                             4.66,
                             21.2,
                             1.82,
                             0.834,
                             1.23,
                             1.26,
                             285,
                             0.0153,
                             0.0023};

static double cost(const FusedSpec* s, Machine) {
  if (s->groups != 1 || s->input_planes || !fused_fits_bytes(s)) return -1;
  const AmxRates& r = kRates;
  const Plan p = plan_of(s);
  // As choose_tiling() does it, for a band of the whole image with a halo of half a kernel.
  FusedBand band = {};
  band.rows = s->height;
  band.width = s->width;
  band.pixel_bytes = spreads(s, p) ? s->in_channels + kRowBytes : s->in_channels;
  band.row_bytes = (int64_t{s->width} * s->stride_w + s->kernel_w - 1) * band.pixel_bytes;
  const Tiling t = choose_tiling(s, &band, p);
  const double pixels = double{1} * s->height * s->width;
  const double tiles = rows_multiplied(t) / kRows, columns = p.tiles + (fused_halved(s) ? 1 : 0);
  const int runs = s->dilation_w == 1 ? s->kernel_h : p.taps;
  const double copies = t.copied ? p.chunks * r.copied + runs * r.run : 0;
  const double bytes = static_cast<double>(p.tiles) * p.chunks * kTileBytes;
  const double far = bytes > kMostNear ? r.far_weight : 0;
  const double weights = bytes * (p.field == 8 ? far : rounds_of(t) * r.widened);
  const double tile = p.chunks == 1 ? r.single : p.chunks * r.product + r.sums;
  return tiles * columns * tile + pixels * (r.pixel + p.groups * r.group + copies) + finish_nanoseconds(s, r.finish) +
         weights + r.call;
}

constexpr FusedKernel kKernel = {"bytes amx-int8", cost, prepared_bytes, prepare, scratch_bytes, run, true};

}  // namespace

}  // namespace fused_amx

extern const FusedKernel kFusedAmx;
constexpr FusedKernel kFusedAmx = fused_amx::kKernel;

}  // namespace bitorch
