// Products of up to 64 inputs, which are one product of tiles each. Included in fused_amx.cpp, after
// fused_amx_products.inl.
//
// Sums are complete at once, and so the weights of 64 channels stay in tiles and pixels are loaded once. A tile's rows
// end where a pixel does: the load of a row that is in two cache lines takes five times as long.

// Sums are tiles 0 .. 2, codes 3, weights 4 .. 7: `rows` rows of codes and sums, `inputs` products of each.
static void configure_single(int rows, int inputs) {
  const int dwords = (inputs + 3) / 4;
  TileShapes shapes;
  for (int i = 0; i < 3; ++i) shapes.set(i, rows, kRowBytes);
  shapes.set(3, rows, dwords * 4);
  for (int i = 4; i < 8; ++i) shapes.set(i, dwords, kRowBytes);
  shapes.use();
}

// `count` tiles of pixels x N tiles of channels: sums of the first one at `to`, `rows` rows a tile. A store waits for
// its product: the next one comes before it.
template <int N>
static void multiply_single(const CodeTiles* codes, int count, const uint8_t* weights, int rows, int32_t* to) {
  For<0, N>::each([&](auto n)
                      __attribute__((always_inline)) { tile_load<4 + n>(weights + n * kTileBytes, kRowBytes); });
  for (int i = 0; i < count; ++i, to += rows * kSumRow) {
    tile_load<3>(codes->at[i], codes->stride);
    For<0, N>::each([&](auto n) __attribute__((always_inline)) {
      tile_zero<n % 3>();
      tile_product<n % 3, 3, 4 + n>();
      if constexpr (n > 0) tile_store<(n + 2) % 3>(to + (n - 1) * kRows, kSumRow * 4);
    });
    tile_store<(N + 2) % 3>(to + (N - 1) * kRows, kSumRow * 4);
  }
}

static void multiply_single_group(const CodeTiles* codes, int count, const uint8_t* weights, int columns, int rows,
                                  int32_t* to) {
  switch (columns) {
    case 1:
      return multiply_single<1>(codes, count, weights, rows, to);
    case 2:
      return multiply_single<2>(codes, count, weights, rows, to);
    case 3:
      return multiply_single<3>(codes, count, weights, rows, to);
    default:
      multiply_single<4>(codes, count, weights, rows, to);
  }
}

// Sums of the codes themselves: every channel of 16 alike.
static void add_single_windows(const CodeTiles* codes, int count, const uint8_t* ones, int rows, int32_t* to) {
  tile_load<4>(ones, kRowBytes);
  for (int i = 0; i < count; ++i, to += rows * kRows) {
    tile_load<3>(codes->at[i], codes->stride);
    tile_zero<0>();
    tile_product<0, 3, 4>();
    tile_store<0>(to, kRowBytes);
  }
}
