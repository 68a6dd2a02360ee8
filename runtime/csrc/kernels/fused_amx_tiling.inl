// How the pixels of a band become tiles. Included in fused_amx.cpp.

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

static inline int tiles_of(const Tiling& t) { return t.runs * t.tiles_per_run; }
// Tiles that are multiplied by the same weights before those come again.
static inline int rounds_of(const Tiling& t) { return (tiles_of(t) + kMostTiles - 1) / kMostTiles; }

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

// Pixels at such distances meet in few sets of the first-level cache.
constexpr int64_t kCrowded = 512;
static inline bool crowded(const FusedSpec* s, int64_t pixel_bytes) {
  return s->stride_w * pixel_bytes % kCrowded == 0;
}

static Tiling choose_tiling(const FusedSpec* s, const FusedBand* b, const Plan& p) {
  const int width = b->width, pixels = b->rows * width;
  const int64_t pixel = s->stride_w * b->pixel_bytes, row = s->stride_h * b->row_bytes;
  Tiling copied = tiling_of(1, pixels, width, p.stage_row, 0);
  copied.copied = true;
  if (!p.aligned || (p.taps == 1 && crowded(s, b->pixel_bytes))) return copied;
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
