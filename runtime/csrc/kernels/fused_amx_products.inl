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

struct TileShapes {
  uint8_t palette = 1, start_row = 0, reserved[14] = {};
  uint16_t row_bytes[16] = {};
  uint8_t rows[16] = {};

  void set(int tile, int tile_rows, int bytes) {
    rows[tile] = static_cast<uint8_t>(tile_rows);
    row_bytes[tile] = static_cast<uint16_t>(bytes);
  }
  void use() const { __asm__ volatile("ldtilecfg %0" : : "m"(*this)); }
};

// Sums are tiles 0 .. 3, codes 4 and 5, weights 6 and 7: `rows` rows of codes and sums.
static void configure(int rows) {
  TileShapes shapes;
  for (int i = 0; i < 8; ++i) shapes.set(i, i < 6 ? rows : kRows, kRowBytes);
  shapes.use();
}
static void release() { __asm__ volatile("tilerelease"); }

// ---- Products ----

// The rows of codes of up to kMostTiles tiles.
struct CodeTiles {
  const uint8_t* at[kMostTiles];
  int64_t stride;
};

// Tiles of weights of so many steps are widened at a time, and so many steps before products use them: while those of
// the steps before are computed.
constexpr int kWidenedTiles = 8, kAhead = 5;

// Tiles of weights, one column of 16 channels after the other.
struct ColumnTiles {
  const uint8_t* first;
  const WeightForm* form;
  int8_t* widened;  // [columns multiplied at a time][kWidenedTiles], where they are packed
};

// Goes through `blocks` times N columns, a tile of each at a time.
template <int N>
struct TileSteps {
  const uint8_t* at;
  int64_t tile_bytes, chunks, k = 0;

  TileSteps(const ColumnTiles& t, int chunks_of_column)
      : at(t.first), tile_bytes(t.form->tile_bytes), chunks(chunks_of_column) {}
  inline const uint8_t* column(int n) const { return at + n * chunks * tile_bytes; }
  inline bool last() const { return k + 1 == chunks; }
  inline void step() {
    at += tile_bytes;
    if (++k == chunks) k = 0, at += (N - 1) * chunks * tile_bytes;
  }
};

// Where the tiles of each step are that products use next: as they lie, or widened.
template <int N>
struct WeightTiles {
  const ColumnTiles& tiles;
  TileSteps<N> ahead;
  int64_t left;  // steps to be widened
  int64_t next;  // bytes from one column to the next
  uint32_t widened = 0, used = 0;

  WeightTiles(const ColumnTiles& t, int chunks, int blocks)
      : tiles(t), ahead(t, chunks), left(t.form->packed() ? int64_t{chunks} * blocks : 0) {
    next = (t.form->packed() ? kWidenedTiles : chunks) * int64_t{kTileBytes};
    for (int i = 0; i < kAhead; ++i) widen();
  }
  inline void widen() {
    if (left == 0) return;
    --left;
    int8_t* const to = tiles.widened + widened++ % kWidenedTiles * kTileBytes;
    For<0, N>::each([&](auto n) __attribute__((always_inline)) {
      widen_tile(*tiles.form, ahead.column(n), ahead.last(), to + n * next);
    });
    ahead.step();
  }
  // Of the first column.
  inline const void* take() {
    if (!tiles.form->packed()) {
      const void* const tile = ahead.at;
      ahead.step();
      return tile;
    }
    widen();
    return tiles.widened + used++ % kWidenedTiles * kTileBytes;
  }
};

// P tiles of pixels x N tiles of channels at a time, `blocks` times: sums of the first one at `to`, `rows` rows a tile.
// A tile of sums is stored just before it is needed again, so that products go on while it waits for its last one.
template <int P, int N>
static void multiply(const CodeTiles* codes, const int32_t* chunk_at, int chunks, const ColumnTiles& tiles, int blocks,
                     int rows, int32_t* to) {
  static_assert(P * N <= 4 && (P <= 2 || N == 1), "sums are four tiles, codes two");
  const uint8_t* x[P];
  For<0, P>::each([&](auto p) __attribute__((always_inline)) { x[p] = codes->at[p]; });
  const int64_t stride = codes->stride;
  const auto store = [&](auto p, auto n) __attribute__((always_inline)) {
    tile_store<p * N + n>(to + p * rows * kSumRow + n * kRows, kSumRow * 4);
  };
  WeightTiles<N> weights(tiles, chunks, blocks);
  for (int i = 0; i < blocks; ++i) {
    for (int k = 0; k < chunks; ++k) {
      const int64_t at = chunk_at[k];
      const uint8_t* const w = static_cast<const uint8_t*>(weights.take());
      if (N > 1) {
        For<0, P>::each([&](auto p) __attribute__((always_inline)) { tile_load<4 + p % 2>(x[p] + at, stride); });
      }
      For<0, N>::each([&](auto n) __attribute__((always_inline)) {
        tile_load<6 + n % 2>(w + n * weights.next, kRowBytes);
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

// `count` tiles of pixels x `columns` tiles of channels.
static void multiply_group(const CodeTiles* codes, int count, const int32_t* chunk_at, int chunks, ColumnTiles tiles,
                           int columns, int rows, int32_t* to) {
  if (count == 4) return multiply<4, 1>(codes, chunk_at, chunks, tiles, columns, rows, to);
  if (count == 3) return multiply<3, 1>(codes, chunk_at, chunks, tiles, columns, rows, to);
  const int even = columns & ~1, odd = columns & 1;
  if (count == 1 && columns == 4) return multiply<1, 4>(codes, chunk_at, chunks, tiles, 1, rows, to);
  if (even != 0 && count == 2) multiply<2, 2>(codes, chunk_at, chunks, tiles, even / 2, rows, to);
  if (even != 0 && count == 1) multiply<1, 2>(codes, chunk_at, chunks, tiles, even / 2, rows, to);
  if (odd == 0) return;
  tiles.first += int64_t{even} * chunks * tiles.form->tile_bytes;
  to += even * kRows;
  if (count == 2) return multiply<2, 1>(codes, chunk_at, chunks, tiles, 1, rows, to);
  multiply<1, 1>(codes, chunk_at, chunks, tiles, 1, rows, to);
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
