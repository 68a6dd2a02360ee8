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
// read once for 64 pixels.

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

constexpr int kRows = 16, kRowBytes = 64, kTileBytes = kRows * kRowBytes;
constexpr int kGroup = kFusedChannels, kGroupTiles = kGroup / kRows;
constexpr int kSumRow = kGroup;

#include "fused_list.inl"

constexpr int kMostTiles = kListPixels / kRows;  // of pixels, finished together

// ---- Instructions. Tiles are named by constants: GCC's own intrinsics are macros, which templates cannot call. ----

template <int tile>
static inline __attribute__((always_inline)) void tile_zero() {
  __asm__ volatile("tilezero %%tmm%c0" : : "i"(tile));
}
template <int tile>
static inline __attribute__((always_inline)) void tile_load(const void* from, int64_t stride) {
  __asm__ volatile("tileloadd (%0,%1,1), %%tmm%c2" : : "r"(from), "r"(stride), "i"(tile) : "memory");
}
template <int tile>
static inline __attribute__((always_inline)) void tile_store(void* to, int64_t stride) {
  __asm__ volatile("tilestored %%tmm%c2, (%0,%1,1)" : : "r"(to), "r"(stride), "i"(tile) : "memory");
}
template <int sum, int codes, int weights>
static inline __attribute__((always_inline)) void tile_product() {
  __asm__ volatile("tdpbusd %%tmm%c2, %%tmm%c1, %%tmm%c0" : : "i"(sum), "i"(codes), "i"(weights));
}

// Sums are tiles 0 .. 3, codes 4 and 5, weights 6 and 7: `rows` rows of codes and sums.
static void configure(int rows) {
  struct {
    uint8_t palette, start_row, reserved[14];
    uint16_t row_bytes[16];
    uint8_t rows[16];
  } tiles = {};
  tiles.palette = 1;
  for (int i = 0; i < 8; ++i) {
    tiles.row_bytes[i] = kRowBytes;
    tiles.rows[i] = static_cast<uint8_t>(i < 6 ? rows : kRows);
  }
  __asm__ volatile("ldtilecfg %0" : : "m"(tiles));
}
static void release() { __asm__ volatile("tilerelease"); }

// ---- What is prepared ----

// Behind it: multiply and offset of the lines, [padded] each; a tile of ones, one of ones as far as K goes in its last
// 64; the weights, [groups of 64 channels][tiles of 16][chunks of 64 of K][16][16][4].
struct alignas(64) Prepared {
  int32_t line_kind;
};

struct Plan {
  int64_t k;  // inputs per output
  int32_t chunks, groups, padded, tiles;
  int64_t lines_at, ones_at, weights_at, bytes;
  int64_t stage_row;  // bytes of a copied pixel: an odd number of cache lines, so that 16 of them meet in no set
  bool aligned;       // channels are a multiple of 64
  int32_t taps;
};

static Plan plan_of(const FusedSpec* s) {
  Plan p;
  p.k = int64_t{s->kernel_h} * s->kernel_w * s->in_channels;
  p.chunks = static_cast<int32_t>((p.k + kRowBytes - 1) / kRowBytes);
  p.padded = fused_padded(s);
  p.groups = p.padded / kGroup;
  p.tiles = (s->out_channels + kRows - 1) / kRows;
  p.lines_at = sizeof(Prepared);
  p.ones_at = p.lines_at + int64_t{p.padded} * 8;
  p.weights_at = p.ones_at + 2 * kTileBytes;
  p.bytes = p.weights_at + int64_t{p.groups} * kGroupTiles * p.chunks * kTileBytes;
  p.stage_row = int64_t{p.chunks | 1} * kRowBytes;
  p.aligned = s->in_channels % kRowBytes == 0;
  p.taps = s->kernel_h * s->kernel_w;
  return p;
}

// Which 64 of K are chunk i: the taps of 64 channels one after the other, as they read the same pixels; or, where pixels
// are copied, all in order.
static inline int64_t chunk_k(const FusedSpec* s, const Plan& p, int i) {
  if (!p.aligned) return int64_t{i} * kRowBytes;
  return int64_t{i % p.taps} * s->in_channels + int64_t{i / p.taps} * kRowBytes;
}

static int64_t prepared_bytes(const FusedSpec* s) { return plan_of(s).bytes; }

static bool prepare(const FusedSpec* s, const uint8_t* m, void* prepared) {
  const Plan p = plan_of(s);
  uint8_t* const base = static_cast<uint8_t*>(prepared);
  float* const lines = reinterpret_cast<float*>(base + p.lines_at);
  const int kind = choose_fused_line(s, lines, lines + p.padded);
  if (kind < 0) return false;
  reinterpret_cast<Prepared*>(base)->line_kind = kind;
  uint8_t* const ones = base + p.ones_at;
  const int64_t last = p.k - int64_t{p.chunks - 1} * kRowBytes;
  for (int k = 0; k < kRowBytes; ++k) {
    for (int n = 0; n < kRows; ++n) {
      const int at = k / 4 * kRowBytes + n * 4 + k % 4;
      ones[at] = 1;
      ones[kTileBytes + at] = k < last;
    }
  }
  int8_t* const weights = reinterpret_cast<int8_t*>(base + p.weights_at);
  for (int c = 0; c < s->out_channels; ++c, m += p.k) {
    int8_t* to = weights + int64_t{c / kRows} * p.chunks * kTileBytes + c % kRows * 4;
    for (int i = 0; i < p.chunks; ++i, to += kTileBytes) {
      const int64_t first = chunk_k(s, p, i), left = p.k - first;
      for (int k = 0; k < (left < kRowBytes ? left : kRowBytes); ++k) {
        to[k / 4 * kRowBytes + k % 4] = static_cast<int8_t>(fused_weight(s, m[first + k]));
      }
    }
  }
  return true;
}

// ---- Products ----

// The rows of codes of up to kMostTiles tiles.
struct CodeTiles {
  const uint8_t* at[kMostTiles];
  int64_t stride;
};

// P tiles of pixels x N tiles of channels at a time, `blocks` times: sums of the first one at `to`, `rows` rows a tile.
// A tile of sums is stored just before it is needed again, so that products go on while it waits for its last one.
template <int P, int N>
static void multiply(const CodeTiles* codes, const int32_t* chunk_at, int chunks, const int8_t* weights, int blocks,
                     int rows, int32_t* to) {
  static_assert(P * N <= 4 && (P <= 2 || N == 1), "sums are four tiles, codes two");
  const uint8_t* x[P];
  For<0, P>::each([&](auto p) __attribute__((always_inline)) { x[p] = codes->at[p]; });
  const int64_t stride = codes->stride, next = int64_t{chunks} * kTileBytes;
  const auto store = [&](auto p, auto n) __attribute__((always_inline)) {
    tile_store<p * N + n>(to + p * rows * kSumRow + n * kRows, kSumRow * 4);
  };
  for (int i = 0; i < blocks; ++i, weights += N * next) {
    for (int k = 0; k < chunks; ++k) {
      const int64_t at = chunk_at[k];
      const int8_t* const w = weights + int64_t{k} * kTileBytes;
      if (N > 1) {
        For<0, P>::each([&](auto p) __attribute__((always_inline)) { tile_load<4 + p % 2>(x[p] + at, stride); });
      }
      For<0, N>::each([&](auto n) __attribute__((always_inline)) {
        tile_load<6 + n % 2>(w + n * next, kRowBytes);
        For<0, P>::each([&](auto p) __attribute__((always_inline)) {
          if (N == 1) tile_load<4 + p % 2>(x[p] + at, stride);
          if (k == 0) {
            if (i > 0) store(p, n);
            tile_zero<p * N + n>();
          }
          tile_product<p * N + n, 4 + p % 2, 6 + n % 2>();
        });
      });
    }
    if (i > 0) to += N * kRows;
  }
  For<0, P>::each([&](auto p) __attribute__((always_inline)) {
    For<0, N>::each([&](auto n) __attribute__((always_inline)) { store(p, n); });
  });
}

// `tiles` tiles of pixels x `columns` tiles of channels.
static void multiply_group(const CodeTiles* codes, int tiles, const int32_t* chunk_at, int chunks,
                           const int8_t* weights, int columns, int rows, int32_t* to) {
  if (tiles == 4) return multiply<4, 1>(codes, chunk_at, chunks, weights, columns, rows, to);
  if (tiles == 3) return multiply<3, 1>(codes, chunk_at, chunks, weights, columns, rows, to);
  const int even = columns & ~1, odd = columns & 1;
  if (tiles == 1 && columns == 4) return multiply<1, 4>(codes, chunk_at, chunks, weights, 1, rows, to);
  if (even != 0 && tiles == 2) multiply<2, 2>(codes, chunk_at, chunks, weights, even / 2, rows, to);
  if (even != 0 && tiles == 1) multiply<1, 2>(codes, chunk_at, chunks, weights, even / 2, rows, to);
  if (odd == 0) return;
  weights += int64_t{even} * chunks * kTileBytes;
  to += even * kRows;
  if (tiles == 2) return multiply<2, 1>(codes, chunk_at, chunks, weights, 1, rows, to);
  multiply<1, 1>(codes, chunk_at, chunks, weights, 1, rows, to);
}

// Sums of the codes themselves: every channel of 16 alike.
template <int P>
static void add_windows(const CodeTiles* codes, const int32_t* chunk_at, int chunks, const uint8_t* ones, int rows,
                        int32_t* to) {
  For<0, P>::each([&](auto p) __attribute__((always_inline)) { tile_zero<p>(); });
  tile_load<6>(ones, kRowBytes);
  for (int k = 0; k < chunks; ++k) {
    if (k == chunks - 1) tile_load<6>(ones + kTileBytes, kRowBytes);
    For<0, P>::each([&](auto p) __attribute__((always_inline)) {
      tile_load<4 + p % 2>(codes->at[p] + chunk_at[k], codes->stride);
      tile_product<p, 4 + p % 2, 6>();
    });
  }
  For<0, P>::each([&](auto p) __attribute__((always_inline)) { tile_store<p>(to + p * rows * kRows, kRowBytes); });
}

// ---- Which pixels make a tile ----

// How the pixels of a band are divided into tiles of `rows` pixels that lie at a constant distance: `runs` runs of
// `length`, each cut into `tiles_per_run` tiles, of which the last begins earlier where the run ends within it. One run
// may go through all rows and the halo between them: then pitch > width, and columns beyond the width are dropped.
struct Tiling {
  int32_t runs, length, pitch, rows, tiles_per_run;
  int64_t stride, run_bytes;  // from pixel to pixel, from run to run
  bool copied;
};

// What a tile of so many rows takes, in rows: four products wait for each other otherwise.
constexpr double kLeastRows = 9.5;
// What copying 64 bytes takes, in the same unit.
constexpr double kCopyRows = 2.5;

static double rows_multiplied(const Tiling& t) {
  const double rows = t.rows < kLeastRows ? kLeastRows : t.rows;
  return rows * t.tiles_per_run * t.runs;
}

// Tiles as even as a run can be divided; or whole ones, where its end is but a part of the last.
static Tiling tiling_of(int runs, int length, int pitch, int64_t stride, int64_t run_bytes) {
  Tiling t = {runs, length, pitch, 0, 0, stride, run_bytes, false};
  t.tiles_per_run = (length + kRows - 1) / kRows;
  t.rows = (length + t.tiles_per_run - 1) / t.tiles_per_run;
  return t;
}

static Tiling choose_tiling(const FusedSpec* s, const FusedBand* b, const Plan& p) {
  const int width = s->width, pixels = b->rows * width;
  const int64_t pixel = s->stride_w * b->pixel_bytes, row = s->stride_h * b->row_bytes;
  Tiling copied = tiling_of(1, pixels, width, p.stage_row, 0);
  copied.copied = true;
  if (!p.aligned) return copied;
  if (width == 1) return tiling_of(1, b->rows, 1, row, 0);
  Tiling best = tiling_of(b->rows, width, width, pixel, row);
  if (row % pixel == 0 && row / pixel >= width && row / pixel < (1 << 20)) {
    const int pitch = static_cast<int>(row / pixel);
    const Tiling through = tiling_of(1, (b->rows - 1) * pitch + width, pitch, pixel, 0);
    if (rows_multiplied(through) < rows_multiplied(best)) best = through;
  }
  const double copying = kCopyRows * pixels / p.tiles;
  return rows_multiplied(copied) + copying < rows_multiplied(best) ? copied : best;
}

// ---- Running ----

// What lies in scratch.
struct alignas(64) Work {
  int32_t sums[kListPixels * kSumRow];
  int32_t windows[kListPixels * kRows];
  FusedList list;
  CodeTiles codes;
};

static int64_t chunk_bytes(const Plan& p) { return (int64_t{p.chunks} * 4 + 63) & -64; }

static int64_t scratch_bytes(const FusedSpec* s) {
  const Plan p = plan_of(s);
  return static_cast<int64_t>(sizeof(Work)) + chunk_bytes(p) + kListPixels * p.stage_row + 2 * kRowBytes;
}

// `bytes` bytes, rounded up to 64.
static inline void copy_run(const uint8_t* from, int64_t bytes, uint8_t* to) {
  for (int64_t i = 0; i < bytes; i += 64) _mm512_storeu_si512(to + i, _mm512_loadu_si512(from + i));
}

// The window of one output: K bytes side by side.
static inline void copy_window(const FusedSpec* s, const FusedBand* b, const uint8_t* from, uint8_t* to) {
  const bool adjoin = s->dilation_w == 1 || s->kernel_w == 1;
  const int runs = adjoin ? 1 : s->kernel_w;
  const int64_t run = int64_t{adjoin ? s->kernel_w : 1} * s->in_channels;
  const int64_t next = s->dilation_w * b->pixel_bytes;
  for (int ky = 0; ky < s->kernel_h; ++ky, from += s->dilation_h * b->row_bytes) {
    for (int i = 0; i < runs; ++i, to += run) copy_run(from + i * next, run, to);
  }
}

struct Run {
  const FusedSpec* s;
  const FusedBand* b;
  Plan p;
  Tiling t;
  FusedLineRule line;
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
  const int width = r.s->width;
  int y = at.first / width, x = at.first % width;
  for (int i = 0; i < r.t.rows; ++i, to += r.p.stage_row) {
    copy_window(r.s, r.b, r.b->input + y * r.s->stride_h * r.b->row_bytes + x * r.s->stride_w * r.b->pixel_bytes, to);
    if (++x == width) {
      x = 0;
      ++y;
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
    const int real = r.s->width < x + next - f ? r.s->width - x : next - f;
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
  const int8_t* const weights = static_cast<const int8_t*>(r.b->prepared) + r.p.weights_at;
  const int left = (r.b->first_channel + r.b->channels - channel + kRows - 1) / kRows;
  multiply_group(&w->codes, count, r.chunk_at, r.p.chunks,
                 weights + int64_t{channel / kRows} * r.p.chunks * kTileBytes, left < kGroupTiles ? left : kGroupTiles,
                 r.t.rows, w->sums);
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

// Weights beyond this leave the second-level cache before the next tiles need them: then the channels are the outer
// loop.
constexpr int64_t kMostWeights = 1 << 20;

static void run(const FusedSpec* s, const FusedBand* b) {
  Run r = {s, b, plan_of(s), {}, {}, reinterpret_cast<Work*>(b->scratch), nullptr, nullptr};
  r.chunk_at = reinterpret_cast<int32_t*>(b->scratch + sizeof(Work));
  r.stage = b->scratch + sizeof(Work) + chunk_bytes(r.p);
  const uint8_t* const prepared = static_cast<const uint8_t*>(b->prepared);
  r.line.multiply = reinterpret_cast<const float*>(prepared + r.p.lines_at);
  r.line.offset = r.line.multiply + r.p.padded;
  r.line.kind = reinterpret_cast<const Prepared*>(prepared)->line_kind;
  r.t = choose_tiling(s, b, r.p);
  locate_chunks(r);
  configure(r.t.rows);
  const int tiles = r.t.runs * r.t.tiles_per_run;
  const int rounds = (tiles + kMostTiles - 1) / kMostTiles;
  const int end = b->first_channel + b->channels;
  const bool channels_outside = rounds > 1 && int64_t{b->channels} * r.p.chunks * kRowBytes > kMostWeights;
  const int step = channels_outside ? kGroup : b->channels;
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

static double cost(const FusedSpec* s, Machine machine) {
  if (machine != Machine::kSapphireRapids || s->groups != 1 || s->input_planes) return -1;
  const Plan p = plan_of(s);
  const double pixels = double{1} * s->height * s->width;
  const double cycles = pixels * p.chunks * p.tiles + pixels * p.groups * 12;
  return cycles / 2.6;
}

constexpr FusedKernel kKernel = {"bytes amx", cost, prepared_bytes, prepare, scratch_bytes, run};

}  // namespace

}  // namespace fused_amx

extern const FusedKernel kFusedAmx;
constexpr FusedKernel kFusedAmx = fused_amx::kKernel;

}  // namespace bitorch
