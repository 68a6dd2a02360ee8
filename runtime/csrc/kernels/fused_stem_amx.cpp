// Fused first layers by tiles of Intel's AMX: images of 1 to 4 channels in bytes.
//
// The taps of a kernel row adjoin, and outputs side by side read windows that lie a constant distance apart. So 16 of
// them are a tile as they lie in the image, row by row of the kernel, and nothing is copied:
//
//   7 x 7 taps, 3 channels, stride 2     tile row 0   bytes  0 .. 23 of the image's row    output x
//                                        tile row 1   bytes  6 .. 29                       output x + 1
//                                        tile row 2   bytes 12 .. 35                       output x + 2
//
// A product of tiles takes as long as a tile has rows, whatever they are wide: 24 of 64 bytes are used here. Copied
// together they would be used better, but tiles that were just written in pieces are slow to load.

// GCC 12 takes the undefined operands inside its own AVX-512 intrinsics for uninitialised variables (GCC bug 105593).
#pragma GCC diagnostic ignored "-Wmaybe-uninitialized"
#pragma GCC diagnostic ignored "-Wuninitialized"

#include <immintrin.h>

#include <cstdint>

#include "../core/fused.h"
#include "../core/kernels.h"

namespace bitorch {

namespace fused_stem_amx {

// Members of classes are inline, and so emitted weakly wherever they are not inlined, unless their class is local.
namespace {

#include "fused_loops.inl"

#include "fused_ints.inl"

#include "fused_lines.inl"

constexpr int kSumRow = kFusedChannels;

#include "fused_list.inl"

#include "fused_stem.inl"

constexpr int kRows = 16;

// [16 channels][kernel row][dword][16 channels]: the tiles of 16 channels one behind the other.
static inline int64_t stem_weights_of(const FusedSpec* s, int vector, int ky, int k) {
  return (int64_t{vector} * stem_steps(s) + ky * stem_dwords(s) + k) * 64;
}

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

// Sums are tiles 0 .. 3, codes 4 and 5, `rows` rows each; weights 6 and 7. `dwords`: of a row of codes.
static void configure(int rows, int dwords) {
  struct {
    uint8_t palette, start_row, reserved[14];
    uint16_t row_bytes[16];
    uint8_t rows[16];
  } tiles = {};
  tiles.palette = 1;
  for (int i = 0; i < 8; ++i) {
    tiles.row_bytes[i] = static_cast<uint16_t>(i == 4 || i == 5 ? dwords * 4 : 64);
    tiles.rows[i] = static_cast<uint8_t>(i < 6 ? rows : dwords);
  }
  __asm__ volatile("ldtilecfg %0" : : "m"(tiles));
}
static void release() { __asm__ volatile("tilerelease"); }

// ---- Products ----

struct StemTiles {
  const uint8_t* at[4];  // of the windows of the first output of each
  int32_t row[4];        // of its sums; tiles may overlap
  int64_t row_bytes;     // from one kernel row to the next
  int64_t pixel_bytes;   // from one output to the next
  int32_t kernel_h, dwords;
};

// P tiles of outputs x N tiles of 16 channels. `to`: sums, 64 channels a row.
template <int P, int N>
static void multiply(const StemTiles* t, const int8_t* weights, int32_t* to) {
  static_assert(P * N <= 4, "sums are four tiles");
  const int64_t tile = int64_t{t->dwords} * 64, next = tile * t->kernel_h;
  For<0, P * N>::each([&](auto i) __attribute__((always_inline)) { tile_zero<i>(); });
  for (int ky = 0; ky < t->kernel_h; ++ky, weights += tile) {
    if (N > 1) {
      For<0, P>::each([&](auto p) __attribute__((always_inline)) {
        tile_load<4 + p % 2>(t->at[p] + ky * t->row_bytes, t->pixel_bytes);
      });
    }
    For<0, N>::each([&](auto n) __attribute__((always_inline)) {
      tile_load<6 + n % 2>(weights + n * next, 64);
      For<0, P>::each([&](auto p) __attribute__((always_inline)) {
        if (N == 1) tile_load<4 + p % 2>(t->at[p] + ky * t->row_bytes, t->pixel_bytes);
        tile_product<p * N + n, 4 + p % 2, 6 + n % 2>();
      });
    });
  }
  For<0, P>::each([&](auto p) __attribute__((always_inline)) {
    For<0, N>::each([&](auto n) __attribute__((always_inline)) {
      tile_store<p * N + n>(to + t->row[p] * kFusedChannels + n * 16, kFusedChannels * 4);
    });
  });
}

// `tiles` tiles of outputs x `vectors` times 16 channels, 1 .. 4 of both.
static void multiply_all(StemTiles t, int tiles, int vectors, const int8_t* weights, int32_t* to) {
  const auto next = [&](int done) {
    for (int i = done; i < tiles; ++i) {
      t.at[i - done] = t.at[i];
      t.row[i - done] = t.row[i];
    }
    tiles -= done;
  };
  while (tiles > 0) {
    if (vectors == 4) {
      multiply<1, 4>(&t, weights, to);
      next(1);
    } else if (vectors == 3) {
      multiply<1, 3>(&t, weights, to);
      next(1);
    } else if (vectors == 2 && tiles >= 2) {
      multiply<2, 2>(&t, weights, to);
      next(2);
    } else if (vectors == 2) {
      multiply<1, 2>(&t, weights, to);
      next(1);
    } else if (tiles == 4) {
      multiply<4, 1>(&t, weights, to);
      next(4);
    } else {
      multiply<1, 1>(&t, weights, to);
      next(1);
    }
  }
}

// ---- Running ----

// The sums of two chunks, their lists of pixels, the window sums of two rows, and two rows of numbers. What is stored
// by tiles is read when the next chunk is being multiplied.
struct alignas(64) Work {
  int32_t sums[2][kListPixels * kFusedChannels];
  FusedList list[2];
};

static int64_t scratch_bytes(const FusedSpec* s) {
  return static_cast<int64_t>(sizeof(Work)) + 2 * rounded(int64_t{s->width} * 4) + stem_room_bytes(s);
}

struct Run {
  const FusedSpec* s;
  const FusedBand* b;
  FusedLineRule line;
  Work* work;
  int32_t* windows[2];
  int32_t rows, tiles;  // of a tile, tiles of a row of outputs
  int32_t side;         // of the last chunk
  int32_t channel;      // of the last chunk, -1: there is none to be finished
  const int32_t* left;  // its window sums
};

static void finish_left(const Run& r) {
  if (r.channel < 0) return;
  finish_list(r.s, r.b, &r.line, &r.work->list[r.side], r.work->sums[r.side], fused_halved(r.s) ? r.left : nullptr, 1,
              r.channel);
}

// Tiles first .. first + count - 1 of row y of the band.
static void run_chunk(Run* r, int y, int first, int count) {
  const FusedSpec* const s = r->s;
  const FusedBand* const b = r->b;
  StemTiles t = {{}, {}, s->dilation_h * b->row_bytes, s->stride_w * b->pixel_bytes, s->kernel_h, stem_dwords(s)};
  const uint8_t* const row = b->input + y * s->stride_h * b->row_bytes;
  const int8_t* const weights = static_cast<const int8_t*>(b->prepared) + stem_weights_at(s);
  // The last tile of a row begins where it ends with the row.
  const int last = s->width - r->rows, begin = first * r->rows, x0 = begin < last ? begin : last;
  for (int i = 0; i < count; ++i) {
    const int x = begin + i * r->rows < last ? begin + i * r->rows : last;
    t.at[i] = row + x * t.pixel_bytes;
    t.row[i] = x - x0;
  }
  const int stop = begin + count * r->rows, pixels = (stop < s->width ? stop : s->width) - begin;
  const int end = b->first_channel + b->channels;
  for (int c = b->first_channel; c < end; c += kFusedChannels) {
    const int vectors = end - c >= kFusedChannels ? kFusedChannels / 16 : (end - c + 15) / 16;
    const int side = 1 - r->side;
    multiply_all(t, count, vectors, weights + stem_weights_of(s, c / 16, 0, 0), r->work->sums[side]);
    finish_left(*r);
    FusedList* const list = &r->work->list[side];
    list->count = 0;
    list_pixels(s, b, y, begin, pixels, begin - x0, list);
    r->side = side;
    r->channel = c;
    r->left = r->windows[y % 2] + x0;
  }
}

static void run(const FusedSpec* s, const FusedBand* b) {
  Run r = {s, b, stem_line(s, b), reinterpret_cast<Work*>(b->scratch), {}, 0, 0, 0, -1, nullptr};
  uint8_t* const behind = b->scratch + sizeof(Work);
  const int64_t row_bytes = rounded(int64_t{s->width} * 4);
  for (int i = 0; i < 2; ++i) r.windows[i] = reinterpret_cast<int32_t*>(behind + i * row_bytes);
  uint16_t* const room = reinterpret_cast<uint16_t*>(behind + 2 * row_bytes);
  if (fused_halved(s)) clear_stem_room(s, room);
  r.tiles = (s->width + kRows - 1) / kRows;
  r.rows = (s->width + r.tiles - 1) / r.tiles;
  configure(r.rows, stem_dwords(s));
  const int most = kListPixels / kRows, chunks = (r.tiles + most - 1) / most;
  for (int y = 0; y < b->rows; ++y) {
    int32_t* const windows = r.windows[y % 2];
    if (fused_halved(s)) stem_window_sums(s, b->input + y * s->stride_h * b->row_bytes, b->row_bytes, room, windows);
    for (int i = 0, first = 0; i < chunks; ++i) {
      const int count = (r.tiles - first + chunks - i - 1) / (chunks - i);
      run_chunk(&r, y, first, count);
      first += count;
    }
  }
  finish_left(r);
  release();
}

static double cost(const FusedSpec* s, Machine machine) {
  if (machine != Machine::kSapphireRapids || !stem_suits(s)) return -1;
  const double pixels = double{1} * s->height * s->width;
  const double vectors = (s->out_channels + 15) / 16;
  return pixels * (vectors * s->kernel_h * 0.5 + fused_padded(s) / kFusedChannels * 8.0 + 1.0);
}

}  // namespace

}  // namespace fused_stem_amx

extern const FusedKernel kFusedStemAmx = {"stem amx",
                                          fused_stem_amx::cost,
                                          fused_stem_amx::prepared_bytes,
                                          fused_stem_amx::prepare,
                                          fused_stem_amx::scratch_bytes,
                                          fused_stem_amx::run};

}  // namespace bitorch
