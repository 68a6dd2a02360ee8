// Linear layers with AMX: 16 input channels x 4 bytes of 16 output channels are a tile, which are the vectors of
// fused_linear.inl once they are widened, and up to 16 pixels x 64 codes another. Included inside a namespace of the
// kernel file's own, after fused_linear_avx512.inl, which serves fewer pixels than pay for widening into memory.
//
// Up to 16 pixels: parts of the weights are widened into 16 KiB, and met there by the sums of all 64 channels, in four
// tiles that stay. More: the weights of 64 channels are widened at once, and sums of 32 pixels x 32 channels pass over
// them. The codes of pixels are copied, so that the rows of a tile lie side by side; 16 rows 4096 bytes apart would
// share one set of the first-level cache.

constexpr int kTileRows = 16, kTileDepth = 64;  // pixels, or dwords of 4 input channels; input channels
constexpr int kTileBytesEach = kTileRows * kTileDepth;
constexpr int kLeastTilePixels = kLinearPixels + 1;
constexpr int kWidenedDepths = 2;  // of weights that are kept widened
constexpr int64_t kWidenedBytes = kWidenedDepths * 4 * kTileBytesEach;
constexpr int64_t kMostPacked = 512 * 1024;

struct TileConfig {
  uint8_t palette = 1, start_row = 0, reserved[14] = {};
  uint16_t row_bytes[16] = {};
  uint8_t rows[16] = {};
};

static inline int64_t tile_depths(const FusedSpec* spec) { return (spec->in_channels + kTileDepth - 1) / kTileDepth; }

// Pixels that share a pass over the weights.
static inline int32_t packed_pixels(const FusedSpec* spec) {
  const int64_t most = kMostPacked / (tile_depths(spec) * kTileDepth) / kTileRows * kTileRows;
  return most > kLinearBand ? kLinearBand : most < kTileRows ? kTileRows : static_cast<int32_t>(most);
}

static int64_t linear_amx_scratch(const FusedSpec* spec) {
  return kWidenedBytes + tile_depths(spec) * kTileDepth * packed_pixels(spec);
}

// GCC's intrinsics do not tell the compiler that tiles are loaded from memory: what is stored before a load must stay
// there, what is stored after it as well.
static inline __attribute__((always_inline)) void settle_memory() { __asm__ volatile("" : : : "memory"); }

// Tiles 0 .. 3 are sums, 4 and 5 codes of `rows` pixels, 6 and 7 weights.
static void configure_tiles(int rows) {
  TileConfig config;
  for (int i = 0; i < 8; ++i) {
    config.row_bytes[i] = kTileDepth;
    config.rows[i] = static_cast<uint8_t>(i < 6 ? rows : kTileRows);
  }
  __asm__ volatile("" : : "r"(&config) : "memory");  // all of it, not what the intrinsic says
  _tile_loadconfig(&config);
}

// Codes of the pixels, [ceil(pixels / rows)][depths][rows][64], zero behind the last pixel and the last channel.
static void pack_codes(const FusedSpec* spec, const LinearPixels* pixels, int32_t rows, uint8_t* to) {
  const int64_t depths = tile_depths(spec);
  for (int32_t first = 0; first < pixels->count; first += rows) {
    for (int64_t d = 0; d < depths; ++d) {
      const int64_t left = spec->in_channels - d * kTileDepth;
      const __mmask64 lanes = first_lanes(left < kTileDepth ? static_cast<int>(left) : kTileDepth);
      for (int32_t r = 0; r < rows; ++r, to += kTileDepth) {
        const bool some = first + r < pixels->count;
        const uint8_t* x = some ? pixels->x[first + r] + d * kTileDepth : nullptr;
        _mm512_store_si512(to, some ? _mm512_maskz_loadu_epi8(lanes, x) : _mm512_setzero_si512());
      }
    }
  }
}

// Weights of one depth, up to 4 groups of 16 input channels, of fields first .. first + count - 1, to
// [count tiles of channels][16][64].
template <int field, int first, int count>
static inline __attribute__((always_inline)) void widen_depth(const uint8_t* group, int64_t groups, uint8_t* to) {
  for (int64_t g = 0; g < groups; ++g, group += 128 * field, to += 4 * kTileDepth) {
    __m512i word;
    For<0, 4>::each([&](auto s) __attribute__((always_inline)) {
      For<0, 4>::each([&](auto f) __attribute__((always_inline)) {
        const __m512i w = widened<field, decltype(s)::value, decltype(f)::value>(group, word);
        if (f >= first && f < first + count) _mm512_store_si512(to + (f - first) * kTileBytesEach + s * kTileDepth, w);
      });
    });
  }
  for (int64_t g = groups; g < 4; ++g, to += 4 * kTileDepth) {  // the last depth is filled up
    for (int f = 0; f < count; ++f) __builtin_memset(to + f * kTileBytesEach, 0, 4 * kTileDepth);
  }
}

static inline void zero_sums() {
  _tile_zero(0);
  _tile_zero(1);
  _tile_zero(2);
  _tile_zero(3);
}

// Weights of one depth: where tiles begin, from one to the next, and from one row of a tile to the next.
struct DepthWeights {
  const uint8_t* first;
  int64_t tile, row;
};

// Adds to the sums of one tile of pixels x 64 channels.
static inline void multiply_wide(const uint8_t* codes, const DepthWeights& w) {
  settle_memory();
  _tile_loadd(4, codes, kTileDepth);
  _tile_loadd(6, w.first, w.row);
  _tile_dpbusd(0, 4, 6);
  _tile_loadd(7, w.first + w.tile, w.row);
  _tile_dpbusd(1, 4, 7);
  _tile_loadd(6, w.first + 2 * w.tile, w.row);
  _tile_dpbusd(2, 4, 6);
  _tile_loadd(7, w.first + 3 * w.tile, w.row);
  _tile_dpbusd(3, 4, 7);
  settle_memory();
}

// Two tiles of pixels x 32 channels.
static inline void multiply_square(const uint8_t* codes, int64_t tile_bytes, const DepthWeights& w) {
  settle_memory();
  _tile_loadd(4, codes, kTileDepth);
  _tile_loadd(6, w.first, w.row);
  _tile_loadd(7, w.first + w.tile, w.row);
  _tile_dpbusd(0, 4, 6);
  _tile_dpbusd(1, 4, 7);
  _tile_loadd(5, codes + tile_bytes, kTileDepth);
  _tile_dpbusd(2, 5, 6);
  _tile_dpbusd(3, 5, 7);
  settle_memory();
}

// The weights of depth d: widened, or, of 8 bits, as they lie.
template <int field, int first, int count>
static inline __attribute__((always_inline)) DepthWeights depth_weights(const uint8_t* block, int64_t groups, int64_t d,
                                                                        uint8_t* widened) {
  const uint8_t* const group = block + d * 4 * 128 * field;
  const int64_t left = groups - 4 * d;
  if (field == 8 && left >= 4) return {group + first * kTileDepth, kTileDepth, 4 * kTileDepth};
  uint8_t* const to = widened + d % kWidenedDepths * 4 * kTileBytesEach;
  widen_depth<field, first, count>(group, left < 4 ? left : 4, to);
  return {to, kTileBytesEach, kTileDepth};
}

// What one block does with pixels in tiles.
struct LinearTiles {
  const FusedSpec* spec;
  const FusedBand* band;
  const LinearPixels* pixels;
  int32_t rows;          // of a tile
  const uint8_t* codes;  // packed
  uint8_t* widened;
  int32_t channel;         // first of the block
  const uint8_t* weights;  // of the block
};

// D of `count` pixels from the sums that tiles stored, and what leaves.
template <int field>
static void finish_tiles(const LinearTiles* t, int32_t first, int32_t count, int32_t* sums) {
  const LinearGrid grid(t->spec);
  for (int32_t p = 0; p < count; ++p) {
    int32_t* const row = sums + p * kFusedChannels;
    __m512i sum[4];
    For<0, 4>::each([&](auto f) __attribute__((always_inline)) { sum[f] = _mm512_load_si512(row + 16 * f); });
    For<0, 4>::each([&](auto f) __attribute__((always_inline)) {
      store_sum<field, decltype(f)::value>(grid, t->pixels->sums[first + p], sum[f], sum[f > 0 ? f - 1 : 0], row);
    });
  }
  finish_linear(t->spec, t->band, t->pixels, first, count, t->channel, sums);
}

constexpr int64_t kSumsRow = 4 * kFusedChannels;  // bytes

// Each depth's weights are widened while the tiles still work on those of the one before.
template <int field>
static __attribute__((noinline)) void run_one_tile(const LinearTiles* t) {
  alignas(64) int32_t sums[kTileRows * kFusedChannels];
  const int64_t groups = linear_groups(t->spec), depths = tile_depths(t->spec), depth_bytes = t->rows * kTileDepth;
  zero_sums();
  DepthWeights next = depth_weights<field, 0, 4>(t->weights, groups, 0, t->widened);
  for (int64_t d = 0; d < depths; ++d) {
    const DepthWeights w = next;
    if (d + 1 < depths) next = depth_weights<field, 0, 4>(t->weights, groups, d + 1, t->widened);
    multiply_wide(t->codes + d * depth_bytes, w);
  }
  _tile_stored(0, sums, kSumsRow);
  _tile_stored(1, sums + 16, kSumsRow);
  _tile_stored(2, sums + 32, kSumsRow);
  _tile_stored(3, sums + 48, kSumsRow);
  finish_tiles<field>(t, 0, t->pixels->count, sums);
}

// Half of a block's channels for two tiles of pixels, to their columns of the sums.
template <int field, int half>
static inline void run_square(const LinearTiles* t, const uint8_t* codes, bool two, int32_t* sums) {
  const int64_t groups = linear_groups(t->spec), depths = tile_depths(t->spec), depth_bytes = t->rows * kTileDepth;
  const int64_t tile_bytes = two ? depths * depth_bytes : 0;
  zero_sums();
  DepthWeights next = depth_weights<field, 2 * half, 2>(t->weights, groups, 0, t->widened);
  for (int64_t d = 0; d < depths; ++d) {
    const DepthWeights w = next;
    if (d + 1 < depths) next = depth_weights<field, 2 * half, 2>(t->weights, groups, d + 1, t->widened);
    multiply_square(codes + d * depth_bytes, tile_bytes, w);
  }
  _tile_stored(0, sums + 32 * half, kSumsRow);
  _tile_stored(1, sums + 32 * half + 16, kSumsRow);
  if (!two) return;
  _tile_stored(2, sums + t->rows * kFusedChannels + 32 * half, kSumsRow);
  _tile_stored(3, sums + t->rows * kFusedChannels + 32 * half + 16, kSumsRow);
}

template <int field>
static __attribute__((noinline)) void run_some_tiles(const LinearTiles* t) {
  alignas(64) int32_t sums[2 * kTileRows * kFusedChannels];
  const int64_t depths = tile_depths(t->spec);
  for (int32_t first = 0; first < t->pixels->count; first += 2 * t->rows) {
    const int32_t left = t->pixels->count - first;
    const uint8_t* const codes = t->codes + first * depths * kTileDepth;
    run_square<field, 0>(t, codes, left > t->rows, sums);
    run_square<field, 1>(t, codes, left > t->rows, sums);
    finish_tiles<field>(t, first, left < 2 * t->rows ? left : 2 * t->rows, sums);
  }
}

template <int field>
static void run_linear_tiles(const FusedSpec* spec, const FusedBand* band, const LinearPixels* pixels) {
  const int32_t tiles = (pixels->count + kTileRows - 1) / kTileRows, past = band->first_channel + band->channels;
  LinearTiles t = {spec, band, pixels, (pixels->count + tiles - 1) / tiles, nullptr, band->scratch, 0, nullptr};
  pack_codes(spec, pixels, t.rows, band->scratch + kWidenedBytes);
  t.codes = band->scratch + kWidenedBytes;
  configure_tiles(t.rows);
  for (t.channel = band->first_channel; t.channel < past; t.channel += kFusedChannels) {
    t.weights = static_cast<const uint8_t*>(band->prepared) + t.channel / kFusedChannels * linear_block_bytes(spec);
    if (tiles == 1) {
      run_one_tile<field>(&t);
    } else {
      run_some_tiles<field>(&t);
    }
  }
  _tile_release();
}

static void run_linear_amx(const FusedSpec* spec, const FusedBand* band) {
  const int32_t all = band->rows * band->width, field = field_bits(spec->weight_bits);
  if (all < kLeastTilePixels) return run_linear(spec, band);
  LinearPixels pixels;
  for (int32_t first = 0; first < all; first += packed_pixels(spec)) {
    locate_pixels(spec, band, first, packed_pixels(spec), &pixels);
    if (field == 1) run_linear_tiles<1>(spec, band, &pixels);
    if (field == 2) run_linear_tiles<2>(spec, band, &pixels);
    if (field == 4) run_linear_tiles<4>(spec, band, &pixels);
    if (field == 8) run_linear_tiles<8>(spec, band, &pixels);
  }
}
