// Counts of few output channels: several pixels of a row side by side in a vector, 4 x 16 or 2 x 32 lanes of bytes or
// 2 x 16 of 16-bit numbers. Included inside a namespace of the kernel file's own, after fused_popcount_run.inl.
//
//   weights [plane j][step]   64 bytes, the lanes of all channels once for each pixel
//   window  [plane i][step]   64 bytes from the first pixel's on, of which a permutation takes those of every pixel:
//                             pixels adjoin, so it is the same for all steps
//
// A row of output is done at a time, by blocks of up to 64 pixels; what lies behind its end is counted, and not kept.

constexpr int kFewVectors = 4;  // vectors of pixels that share a load of weights

// How a vector is divided.
struct FewShape {
  int32_t bytes, channels, pixels;
};

static FewShape few_shape(const FusedSpec* s) {
  FewShape shape = {};
  shape.bytes = sums_fit_lanes<1>(s) && s->largest_product <= 255 ? 1 : 2;
  shape.channels = s->out_channels <= 16 ? 16 : 32;
  shape.pixels = 64 / (shape.bytes * shape.channels);
  return shape;
}

static inline int few_steps(const FusedSpec* s, int bytes) {
  return run_count(s) * ((run_bytes(s) + bytes - 1) / bytes);
}

// [PixelSpread][permutation of windows, of terms][thresholds: parity, level, 64 bytes][weights]
constexpr int64_t kFewOrderAt = kThresholdsAt;
constexpr int64_t kFewThresholdsAt = kFewOrderAt + 128;
constexpr int64_t kFewLevels = 15;
constexpr int64_t kFewWeightsAt = kFewThresholdsAt + 2 * kFewLevels * 64;

static int64_t few_prepared_bytes(const FusedSpec* s) {
  return kFewWeightsAt + int64_t{64} * s->weight_bits * few_steps(s, few_shape(s).bytes);
}

static bool few_has_codes(const FusedSpec* s) {
  const FusedEpilogue* const e = &s->epilogue;
  return e->wants_codes && e->codes_from_int && e->bits <= 4;
}

// `bytes` bytes of every channel, once for each pixel.
static void repeat_lanes(const FewShape& shape, const uint8_t* channels, uint8_t* to) {
  const int all = shape.bytes * shape.channels;
  for (int i = 0; i < 64; ++i) to[i] = channels[i % all];
}

template <int bytes>
static void set_few_lanes(const FusedSpec* s, const uint8_t* m, const FewShape& shape, uint8_t* to) {
  const int lanes = 64 / bytes;
  uint8_t* const order = to + kFewOrderAt;
  for (int i = 0; i < 64; ++i) {
    const int pixel = i / (bytes * shape.channels);
    order[i] = static_cast<uint8_t>(pixel * s->stride_w * plane_pixel_bytes(s) + i % bytes);
    order[64 + i] = static_cast<uint8_t>(pixel * bytes + i % bytes);
  }
  if (few_has_codes(s)) {
    alignas(64) uint8_t rows[2 * kFewLevels * 64 * bytes];
    set_lane_thresholds<bytes>(s, rows);
    const int n = (1 << s->epilogue.bits) - 1;
    for (int i = 0; i < s->code_step * n; ++i) {
      repeat_lanes(shape, rows + i * 64 * bytes, to + kFewThresholdsAt + (i / n * kFewLevels + i % n) * 64);
    }
  }
  set_weights<bytes>(s, m, to + kFewWeightsAt);
  const int64_t vectors = int64_t{s->weight_bits} * few_steps(s, bytes);
  for (int64_t i = 0; i < vectors && s->out_channels <= lanes; ++i) {
    uint8_t channels[64];
    __builtin_memcpy(channels, to + kFewWeightsAt + 64 * i, 64);
    repeat_lanes(shape, channels, to + kFewWeightsAt + 64 * i);
  }
}

static bool few_prepare(const FusedSpec* s, const uint8_t* m, void* prepared) {
  uint8_t* const to = static_cast<uint8_t*>(prepared);
  set_pixel_spread(plane_pixel_bytes(s), static_cast<PixelSpread*>(prepared));
  const FewShape shape = few_shape(s);
  if (shape.bytes == 1) {
    set_few_lanes<1>(s, m, shape, to);
  } else {
    set_few_lanes<2>(s, m, shape, to);
  }
  return true;
}

// acc of V vectors of pixels, whose first windows are `vector_pixels` bytes apart.
template <int bytes, int V>
static inline void count_few(const CountTile* t, const uint8_t* x, int64_t vector_pixels, __m512i order, uint8_t* acc) {
  __m512i sum[V];
  For<0, V>::each([&](auto v) __attribute__((always_inline)) { sum[v] = _mm512_setzero_si512(); });
  const int top = t->weight_bits + t->activation_bits - 2;
  for (int s = top; s >= 0; --s) {
    if (s != top) For<0, V>::each([&](auto v) __attribute__((always_inline)) { add_lanes<bytes>(sum[v], sum[v]); });
    const int first = s < t->activation_bits ? 0 : s - t->activation_bits + 1;
    for (int j = first; j <= s && j < t->weight_bits; ++j) {
      const uint8_t* w = t->weights + j * int64_t{64} * t->steps;
      const uint8_t* const plane = x + (s - j) * t->plane_bytes;
      for (int k = 0; k < t->steps; ++k, w += 64) {
        const uint8_t* at = plane + t->step[k];
        __m512i weights = _mm512_load_si512(w);
        keep_in_register(weights);
        For<0, V>::each([&](auto v) __attribute__((always_inline)) {
          const __m512i window = _mm512_permutexvar_epi8(order, _mm512_loadu_si512(at + v * vector_pixels));
          add_lanes<bytes>(sum[v], count_lanes<bytes>(_mm512_and_si512(window, weights)));
        });
      }
    }
  }
  For<0, V>::each([&](auto v) __attribute__((always_inline)) { _mm512_store_si512(acc + 64 * v, sum[v]); });
}

template <int bytes>
static void count_few_pixels(const CountTile* t, const uint8_t* x, int64_t vector_pixels, int vectors,
                             const uint8_t* order, uint8_t* acc) {
  const __m512i from = _mm512_load_si512(order);
  for (; vectors >= kFewVectors; vectors -= kFewVectors, x += kFewVectors * vector_pixels, acc += kFewVectors * 64) {
    count_few<bytes, kFewVectors>(t, x, vector_pixels, from, acc);
  }
  for (; vectors > 0; --vectors, x += vector_pixels, acc += 64) {
    count_few<bytes, 1>(t, x, vector_pixels, from, acc);
  }
}

// Thresholds of pixels with parity 0 and, where `odd`, 1.
struct FewRows {
  const uint8_t* first;
  __mmask64 odd;
  inline __m512i row(int level) const {
    const __m512i even = _mm512_load_si512(first + 64 * level);
    return _mm512_mask_mov_epi8(even, odd, _mm512_load_si512(first + 64 * (kFewLevels + level)));
  }
};

// What belongs to a block of pixels of a row.
struct FewBlock {
  const FusedSpec* spec;
  const FusedBand* band;
  const uint8_t* prepared;
  const uint8_t* acc;
  uint8_t* codes;  // of the first pixel
  // [pixels] in lanes of `bytes` bytes, with 64 bytes more that may be read
  const uint8_t *shift, *parity;
  int32_t pixels;
  FewShape shape;
};

// The bits of up to `count` pixels, one plane.
static inline void store_few_plane(const FewBlock* b, uint8_t* to, uint64_t bits, int count) {
  const int channels = b->spec->out_channels, lanes = b->shape.channels;
  const int64_t pixel = b->band->codes_pixel;
  if (count == 4 && channels == 16 && pixel == 2) {
    __builtin_memcpy(to, &bits, 8);
    return;
  }
  const uint64_t used = (uint64_t{1} << channels) - 1;
  for (int p = 0; p < count; ++p, to += pixel, bits >>= lanes) {
    const uint64_t word = bits & used;
    for (int c = 0; c < channels; c += 8) to[c / 8] = static_cast<uint8_t>(word >> c);
  }
}

static inline void store_few_bytes(const FewBlock* b, uint8_t* to, __m512i codes, int count) {
  const int channels = b->spec->out_channels, lanes = b->shape.channels;
  const int64_t pixel = b->band->codes_pixel;
  const __mmask64 used = first_lanes(channels);
  if (channels == lanes && pixel == lanes) {
    _mm512_mask_storeu_epi8(to, first_lanes(count * lanes), codes);
    return;
  }
  alignas(64) uint8_t all[128];
  _mm512_store_si512(all, codes);
  for (int p = 0; p < count; ++p) {
    _mm512_mask_storeu_epi8(to + p * pixel, used, _mm512_loadu_si512(all + p * lanes));
  }
}

template <int bytes, int bits>
static void few_codes(const FewBlock* b) {
  const __m512i order = _mm512_load_si512(b->prepared + kFewOrderAt + 64);
  const int per = b->shape.pixels;
  const uint8_t* acc = b->acc;
  uint8_t* to = b->codes;
  for (int p = 0; p < b->pixels; p += per, acc += 64, to += per * b->band->codes_pixel) {
    const auto spread = [&](const uint8_t* terms) __attribute__((always_inline)) {
      return _mm512_permutexvar_epi8(
          order, _mm512_castsi128_si512(_mm_loadu_si128(reinterpret_cast<const __m128i*>(terms + p * bytes))));
    };
    const __m512i shift = spread(b->shift), sum = _mm512_load_si512(acc);
    const __m512i x = bytes == 1 ? _mm512_sub_epi8(sum, shift) : _mm512_sub_epi16(sum, shift);
    const __m512i parity = spread(b->parity);
    const FewRows rows = {b->prepared + kFewThresholdsAt, _mm512_test_epi8_mask(parity, parity)};
    __mmask64 k[bits];
    bisect<bytes, bits>(x, rows, k);
    const int count = b->pixels - p < per ? b->pixels - p : per;
    if (!b->spec->epilogue.planes) {
      store_few_bytes(b, to, codes_of_bits<bits>(k), count);
      continue;
    }
    uint8_t* plane = to;
    for (int i = bits - 1; i >= 0; --i, plane += b->band->codes_plane) {
      store_few_plane(b, plane, _cvtmask64_u64(k[i]), count);
    }
  }
}

template <int bytes>
static void few_codes_of(const FewBlock* b) {
  switch (b->spec->epilogue.bits) {
    case 1:
      return few_codes<bytes, 1>(b);
    case 2:
      return few_codes<bytes, 2>(b);
    case 3:
      return few_codes<bytes, 3>(b);
    case 4:
      return few_codes<bytes, 4>(b);
  }
}

constexpr int64_t kFewTermBytes = kBlockPixels * 2 + 64;

static int64_t few_scratch_bytes(const FusedSpec* s) { return scratch_bytes<1>(s) + 2 * kFewTermBytes; }

// shift and parity of the block's pixels in lanes.
template <int bytes>
static void set_few_terms(const BlockTerms* t, int pixels, uint8_t* shift, uint8_t* parity) {
  for (int p = 0; p < pixels; ++p) {
    const int32_t odd = t->row[p] != 0 ? -1 : 0;
    __builtin_memcpy(shift + p * bytes, &t->shift[p], bytes);
    __builtin_memcpy(parity + p * bytes, &odd, bytes);
  }
}

// Pixels x .. x + pixels - 1 of row y of the band.
template <int bytes>
static void run_few_block(const Walk* walk, const CountTile* tile, const FewShape& shape, int y, int x, int pixels,
                          uint8_t* terms) {
  const FusedSpec* const s = walk->spec;
  const FusedBand* const b = walk->band;
  const BlockTerms* const t = walk->terms;
  const uint8_t* const prepared = static_cast<const uint8_t*>(b->prepared);
  set_places(walk, y, x, pixels);
  set_terms(walk, x, pixels, 1);
  const int vectors = (pixels + shape.pixels - 1) / shape.pixels;
  const int64_t vector_pixels = int64_t{shape.pixels} * s->stride_w * b->pixel_bytes;
  count_few_pixels<bytes>(tile, t->window[0], vector_pixels, vectors, prepared + kFewOrderAt, walk->acc);
  const FusedPixels at = {&s->epilogue, pixels, 0, s->out_channels, t->codes, t->out, t->residual, b->codes_plane};
  const int64_t pixel_bytes = shape.channels * bytes;
  const __m512 step = _mm512_set1_ps(static_cast<float>(s->code_step));
  const bool border = s->epilogue.border != nullptr;
  if (border) add_border_classes(walk, y, x, pixels, 0);
  const LaneFloats<bytes> sums = {walk->acc, pixel_bytes, t, step, 0, border};
  if (few_has_codes(s)) {
    set_few_terms<bytes>(t, pixels, terms, terms + kFewTermBytes);
    const FewBlock block = {s, b, prepared, walk->acc, t->codes[0], terms, terms + kFewTermBytes, pixels, shape};
    few_codes_of<bytes>(&block);
  } else {
    finish_int_codes<kLineCodes>(&at, padded_channels(s), sums);
  }
  finish_y(&at, padded_channels(s), sums);
}

template <int bytes>
static void run_few_rows(const FusedSpec* s, const FusedBand* band, const FewShape& shape) {
  Walk walk = begin_walk<bytes>(s, band);
  uint8_t* const terms = band->scratch + scratch_bytes<1>(s);
  CountTile tile = count_tile_of<bytes>(&walk);
  tile.weights = static_cast<const uint8_t*>(band->prepared) + kFewWeightsAt;
  for (int y = 0; y < band->rows; ++y) {
    next_window_sums(&walk.windows, y, walk.sums);
    for (int x = 0; x < s->width; x += kBlockPixels) {
      const int pixels = s->width - x < kBlockPixels ? s->width - x : kBlockPixels;
      run_few_block<bytes>(&walk, &tile, shape, y, x, pixels, terms);
    }
  }
}

static void run_few(const FusedSpec* s, const FusedBand* band) {
  const FewShape shape = few_shape(s);
  if (shape.bytes == 1) return run_few_rows<1>(s, band, shape);
  run_few_rows<2>(s, band, shape);
}
