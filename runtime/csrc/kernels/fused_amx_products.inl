// The instructions of AMX, and products of tiles of pixels and tiles of channels by them. Included in fused_amx.cpp.

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
