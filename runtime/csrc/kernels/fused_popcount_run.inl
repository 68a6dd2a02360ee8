// A band of a convolution by counts in lanes of `bytes` bytes. Included inside a namespace of the kernel file's own,
// after fused_popcount.inl and fused_popcount_prepare.inl.

constexpr int kBlockPixels = 64;
constexpr int kSparePixels = 8;  // a tile's last pixels may be repeated
constexpr int kBlockVectors = 4;

// What belongs to the pixels of a block.
struct BlockTerms {
  const uint8_t* window[kBlockPixels + kSparePixels];
  uint8_t* codes[kBlockPixels];
  float* out[kBlockPixels];
  const float* residual[kBlockPixels];
  const int32_t* border[kBlockPixels];
  int32_t base[kBlockPixels];  // lowest_code * S
  float base_float[kBlockPixels];
  int32_t shift[kBlockPixels];
  int32_t row[kBlockPixels];
};

// Rows that are walked together: blocks are whole rows of narrow images.
static inline int walked_rows(const FusedSpec* s) { return s->width < kBlockPixels ? kBlockPixels / s->width : 1; }

struct Walk {
  const FusedSpec* spec;
  const FusedBand* band;
  WindowSums windows;
  int32_t* sums;  // [walked_rows * width], of the first of the rows on
  BlockTerms* terms;
  uint8_t* acc;  // [kBlockPixels + kSparePixels][kBlockVectors][64]
  int64_t* steps;
};

constexpr int64_t kAccBytes = int64_t{kBlockPixels + kSparePixels} * kBlockVectors * 64;

template <int bytes>
static int64_t scratch_bytes(const FusedSpec* s) {
  return kAccBytes + in_lines(sizeof(BlockTerms)) + window_scratch_bytes(s) +
         in_lines(int64_t{4} * walked_rows(s) * s->width) + in_lines(int64_t{8} * run_count(s) * run_steps<bytes>(s));
}

template <int bytes>
static Walk begin_walk(const FusedSpec* s, const FusedBand* band) {
  Walk walk = {};
  walk.spec = s;
  walk.band = band;
  walk.acc = band->scratch;
  walk.terms = reinterpret_cast<BlockTerms*>(band->scratch + kAccBytes);
  int32_t* const ring = reinterpret_cast<int32_t*>(band->scratch + kAccBytes + in_lines(sizeof(BlockTerms)));
  int32_t* const columns = ring + window_rows(s) * ring_row(s);
  walk.windows = {s, band, static_cast<const PixelSpread*>(band->prepared), ring, columns, 0};
  walk.sums = columns + ring_row(s);
  walk.steps = reinterpret_cast<int64_t*>(walk.sums + in_lines(int64_t{4} * walked_rows(s) * s->width) / 4);
  int64_t* step = walk.steps;
  for (int run = 0; run < run_count(s); ++run) {
    const int y = rows_are_runs(s) ? run : run / s->kernel_w, x = rows_are_runs(s) ? 0 : run % s->kernel_w;
    const int64_t at = y * s->dilation_h * band->row_bytes + x * s->dilation_w * band->pixel_bytes;
    for (int k = 0; k < run_steps<bytes>(s); ++k) *step++ = at + k * bytes;
  }
  return walk;
}

// to[p] = from + p * bytes
template <class Pointer>
static inline void set_row(Pointer* to, int pixels, Pointer from, int64_t bytes) {
  if (from == nullptr) return;
  const uint64_t first = reinterpret_cast<uint64_t>(from);
  for (int p = 0; p < pixels; ++p) to[p] = reinterpret_cast<Pointer>(first + static_cast<uint64_t>(p * bytes));
}

template <class Number>
static inline Number* moved(Number* from, int64_t bytes) {
  return from == nullptr ? from
                         : reinterpret_cast<Number*>(reinterpret_cast<uint64_t>(from) + static_cast<uint64_t>(bytes));
}

// Pixels first .. first + pixels - 1 of the rows from y of the band on.
static void set_places(const Walk* walk, int y, int first, int pixels) {
  const FusedSpec* const s = walk->spec;
  const FusedBand* const b = walk->band;
  BlockTerms* const t = walk->terms;
  y += first / s->width;
  int64_t x = first % s->width;
  for (int p = 0, count; p < pixels; p += count, x = 0, ++y) {
    count = s->width - x < pixels - p ? static_cast<int>(s->width - x) : pixels - p;
    const int64_t step = s->stride_w * b->pixel_bytes;
    set_row(t->window + p, count, b->input + y * s->stride_h * b->row_bytes + x * step, step);
    set_row(t->codes + p, count, moved(b->codes, y * b->codes_row + x * b->codes_pixel), b->codes_pixel);
    set_row(t->out + p, count, moved(b->out, y * b->out_row + x * b->out_pixel), b->out_pixel);
    set_row(t->residual + p, count, moved(b->residual, y * b->residual_row + x * b->residual_pixel), b->residual_pixel);
  }
  for (int p = pixels; p < pixels + kSparePixels; ++p) t->window[p] = t->window[pixels - 1];
}

static void set_terms(const Walk* walk, int first, int pixels, int32_t row_bytes) {
  const FusedSpec* const s = walk->spec;
  BlockTerms* const t = walk->terms;
  const int32_t* sums = walk->sums + first;
  const int32_t lowest = s->lowest_code, step_bits = code_step_bits(s), rest = s->code_step - 1;
  for (int p = 0; p < pixels; ++p) {
    const int32_t base = lowest * sums[p];
    t->base[p] = base;
    t->base_float[p] = static_cast<float>(base);
    t->shift[p] = -base >> step_bits;
    t->row[p] = (-base & rest) * row_bytes;
  }
}

static void add_border_classes(const Walk* walk, int y, int first, int pixels, int32_t row_bytes) {
  const FusedSpec* const s = walk->spec;
  const FusedEpilogue* const e = &s->epilogue;
  BlockTerms* const t = walk->terms;
  const int64_t padded = padded_channels(s);
  y += walk->band->y0 + first / s->width;
  int x = first % s->width;
  for (int p = 0; p < pixels; ++p) {
    const int32_t k = e->row_class[y] * e->column_classes + e->column_class[x];
    t->border[p] = e->border + k * padded;
    t->row[p] += k * s->code_step * row_bytes;
    if (++x == s->width) x = 0, ++y;
  }
}

// D of narrow lanes as float32, exact: all of it is below 2^24.
template <int bytes>
struct LaneFloats {
  const uint8_t* acc;
  int64_t pixel_bytes;
  const BlockTerms* terms;
  __m512 step;
  int64_t first_channel;
  bool border;

  inline __attribute__((always_inline)) __m512 load(int p, int h) const {
    const uint8_t* at = acc + p * pixel_bytes + 16 * bytes * h;
    const __m512i sum = bytes == 1 ? _mm512_cvtepu8_epi32(_mm_loadu_si128(reinterpret_cast<const __m128i*>(at)))
                                   : _mm512_cvtepu16_epi32(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(at)));
    __m512 base = _mm512_set1_ps(terms->base_float[p]);
    if (border) {
      base = _mm512_add_ps(base, _mm512_cvtepi32_ps(_mm512_load_si512(terms->border[p] + first_channel + 16 * h)));
    }
    return _mm512_fmadd_ps(_mm512_cvtepi32_ps(sum), step, base);
  }
};

struct IntSums {
  const uint8_t* acc;
  int64_t pixel_bytes;
  const BlockTerms* terms;
  __m128i shift;
  int64_t first_channel;
  bool border;

  inline __attribute__((always_inline)) __m512i load(int p, int h) const {
    const __m512i sum = _mm512_sll_epi32(_mm512_load_si512(acc + p * pixel_bytes + 64 * h), shift);
    const __m512i d = _mm512_add_epi32(sum, _mm512_set1_epi32(terms->base[p]));
    if (!border) return d;
    return _mm512_add_epi32(d, _mm512_load_si512(terms->border[p] + first_channel + 16 * h));
  }
};

// acc: of the group of 64 channels.
template <int bytes>
static void finish_group(const Walk* walk, const FusedPixels* at, const uint8_t* acc, int64_t pixel_bytes) {
  const FusedSpec* const s = walk->spec;
  const BlockTerms* const t = walk->terms;
  const int padded = padded_channels(s);
  const bool border = s->epilogue.border != nullptr;
  if constexpr (bytes == 4) {
    const IntSums sums = {acc, pixel_bytes, t, _mm_cvtsi32_si128(code_step_bits(s)), at->first_channel, border};
    if (s->epilogue.rule == kFusedThresholds) {
      finish_int_codes<kThresholdCodes>(at, padded, sums);
    } else {
      finish_int_codes<kLineCodes>(at, padded, sums);
    }
    finish_y(at, padded, sums);
  } else {
    const __m512 step = _mm512_set1_ps(static_cast<float>(s->code_step));
    const LaneFloats<bytes> sums = {acc, pixel_bytes, t, step, at->first_channel, border};
    if (has_lane_codes<bytes>(s)) {
      const uint8_t* thresholds = static_cast<const uint8_t*>(walk->band->prepared) + kThresholdsAt;
      const LanePixels lanes = {*at, t->shift, t->row, thresholds};
      finish_lane_codes<bytes>(&lanes, padded, LaneSums<bytes>{acc, pixel_bytes, t->shift});
    } else {
      finish_int_codes<kLineCodes>(at, padded, sums);
    }
    finish_y(at, padded, sums);
  }
}

template <int bytes>
static CountTile count_tile_of(const Walk* walk) {
  const FusedSpec* const s = walk->spec;
  CountTile tile = {};
  tile.vector_bytes = vector_weight_bytes<bytes>(s);
  tile.step = walk->steps;
  tile.steps = run_count(s) * run_steps<bytes>(s);
  tile.plane_bytes = walk->band->plane_bytes;
  tile.weight_bits = s->weight_bits;
  tile.activation_bits = s->activation_bits;
  return tile;
}

// All channels of the band, of the block of pixels that `terms` is about.
template <int bytes>
static void run_block(const Walk* walk, int pixels) {
  constexpr int lanes = 64 / bytes, group = 64 * bytes;
  const FusedSpec* const s = walk->spec;
  const FusedBand* const b = walk->band;
  const BlockTerms* const t = walk->terms;
  const uint8_t* weights = static_cast<const uint8_t*>(b->prepared) + weights_at<bytes>(s);
  CountTile tile = count_tile_of<bytes>(walk);
  tile.ahead = s->epilogue.has_residual ? t->residual : nullptr;
  const int end = b->first_channel + b->channels;
  for (int c = b->first_channel; c < end; c += kBlockVectors * lanes) {
    const int left = (end - c + lanes - 1) / lanes, vectors = left < kBlockVectors ? left : kBlockVectors;
    tile.ahead_channel = c;
    tile.weights = weights + c / lanes * tile.vector_bytes;
    count_block_of<bytes>(&tile, vectors, t->window, pixels, walk->acc);
    for (int g = 0; g * bytes < vectors; ++g) {
      const int first = c + 64 * g;
      const FusedPixels at = {&s->epilogue, pixels, first,       end - first < 64 ? end - first : 64,
                              t->codes,     t->out, t->residual, b->codes_plane};
      finish_group<bytes>(walk, &at, walk->acc + g * group, int64_t{64} * vectors);
    }
  }
}

template <int bytes>
static void run(const FusedSpec* s, const FusedBand* band) {
  Walk walk = begin_walk<bytes>(s, band);
  const int rows = walked_rows(s);
  const int32_t row_bytes = bytes < 4 ? static_cast<int32_t>(lane_row_bytes<bytes>(s)) : 0;
  for (int y = 0; y < band->rows; y += rows) {
    const int count = band->rows - y < rows ? band->rows - y : rows;
    for (int r = 0; r < count; ++r) next_window_sums(&walk.windows, y + r, walk.sums + r * s->width);
    const int all = count * s->width, blocks = (all + kBlockPixels - 1) / kBlockPixels;
    for (int k = 0, first = 0, end; k < blocks; ++k, first = end) {
      end = static_cast<int>(int64_t{all} * (k + 1) / blocks);
      set_places(&walk, y, first, end - first);
      set_terms(&walk, first, end - first, row_bytes);
      if (s->epilogue.border != nullptr) add_border_classes(&walk, y, first, end - first, row_bytes);
      run_block<bytes>(&walk, end - first);
    }
  }
}
