// The output pixels that are finished together, and their accumulators in memory, AVX-512. Included after
// fused_lines.inl.
//
// A product leaves its sums in rows of 64 channels, which are written and read again within the first-level cache: that
// takes ports which the products do not need, and so one function finishes the tiles of every shape.

constexpr int kListPixels = 64;

// Sums are in rows of kSumRow int32, which the kernel file says. Where each pixel's channel 0 is, and the row of the
// sums that is its own.
struct FusedList {
  uint8_t* codes[kListPixels];
  float* out[kListPixels];
  const float* residual[kListPixels];
  const int32_t* border[kListPixels];
  int32_t row[kListPixels];
  int32_t count;
};

// Appends `count` pixels of output row y of the band, from column x on, whose sums are in rows from `row` on.
static void list_pixels(const FusedSpec* s, const FusedBand* b, int y, int x, int count, int row, FusedList* list) {
  const FusedEpilogue* const e = &s->epilogue;
  const int padded = fused_padded(s);
  uint8_t* const codes = b->codes + y * b->codes_row;
  uint8_t* const out = reinterpret_cast<uint8_t*>(b->out) + y * b->out_row;
  const uint8_t* const residual = reinterpret_cast<const uint8_t*>(b->residual) + y * b->residual_row;
  // Joined pixels are of one class, and have no place in the image.
  const int64_t row_class = e->row_classes > 1 ? e->row_class[b->y0 + y] : 0;
  const int32_t* const border = e->border != nullptr ? e->border + row_class * e->column_classes * padded : nullptr;
  int at = list->count;
  for (int i = 0; i < count; ++i, ++at, ++x, ++row) {
    if (e->wants_codes) list->codes[at] = codes + x * b->codes_pixel;
    if (e->wants_float) list->out[at] = reinterpret_cast<float*>(out + x * b->out_pixel);
    if (e->has_residual) list->residual[at] = reinterpret_cast<const float*>(residual + x * b->residual_pixel);
    if (border != nullptr) {
      list->border[at] = border + (e->column_classes > 1 ? int64_t{e->column_class[x]} * padded : 0);
    }
    list->row[at] = row;
  }
  list->count = at;
}

// D is the accumulator.
struct PlainSums {
  const int32_t *sums, *row;
  inline __attribute__((always_inline)) __m512i load(int p, int h) const {
    return _mm512_load_si512(sums + row[p] * kSumRow + 16 * h);
  }
};

// The odd grid of 8 bits, of which m - 128 are multiplied: D = 2 * accumulator + the sum of the window's codes, which
// begins row r of `windows`.
struct HalvedSums {
  const int32_t *sums, *row, *windows;
  int32_t step;
  inline __attribute__((always_inline)) __m512i load(int p, int h) const {
    const __m512i x = _mm512_load_si512(sums + row[p] * kSumRow + 16 * h);
    return _mm512_add_epi32(_mm512_add_epi32(x, x), _mm512_set1_epi32(windows[row[p] * step]));
  }
};

// Either of them, and the border.
struct BorderedSums {
  const int32_t *sums, *row, *windows;
  int32_t step, first_channel;
  const int32_t* const* border;
  inline __attribute__((always_inline)) __m512i load(int p, int h) const {
    __m512i x = _mm512_load_si512(sums + row[p] * kSumRow + 16 * h);
    x = _mm512_add_epi32(x, _mm512_loadu_si512(border[p] + first_channel + 16 * h));
    if (windows == nullptr) return x;
    const __m512i twice = _mm512_add_epi32(x, _mm512_load_si512(sums + row[p] * kSumRow + 16 * h));
    return _mm512_add_epi32(twice, _mm512_set1_epi32(windows[row[p] * step]));
  }
};

// Channels first_channel .. of the list's pixels.
static FusedPixels listed_pixels(const FusedSpec* s, const FusedBand* b, FusedList* list, int first_channel) {
  const int left = b->first_channel + b->channels - first_channel;
  FusedPixels t;
  t.epilogue = &s->epilogue;
  t.pixels = list->count;
  t.first_channel = first_channel;
  t.channels = left < 64 ? left : 64;
  t.codes = list->codes;
  t.out = list->out;
  t.residual = list->residual;
  t.codes_plane = b->codes_plane;
  return t;
}

// What becomes of them; windows: null, or where the sums of windows are, `step` apart.
static void finish_list(const FusedSpec* s, const FusedBand* b, const FusedLineRule* line, FusedList* list,
                        const int32_t* sums, const int32_t* windows, int step, int first_channel) {
  const FusedPixels t = listed_pixels(s, b, list, first_channel);
  const int padded = fused_padded(s);
  if (s->epilogue.border != nullptr) {
    const BorderedSums all = {sums, list->row, windows, step, first_channel, list->border};
    return finish_with_line(&t, padded, line, all);
  }
  if (windows != nullptr) return finish_with_line(&t, padded, line, HalvedSums{sums, list->row, windows, step});
  finish_with_line(&t, padded, line, PlainSums{sums, list->row});
}

// ---- Weights ----

// Whether weights are kept as m - 128, since 2 m - 255 do not fit a byte.
static inline bool fused_halved(const FusedSpec* s) { return s->code_step == 2 && s->lowest_code == -255; }

// Whether they are kept in bytes at all. Wide weights beside activations that are signs are not.
static inline bool fused_fits_bytes(const FusedSpec* s) {
  const int highest = s->lowest_code + s->code_step * ((1 << s->weight_bits) - 1);
  return fused_halved(s) || (s->lowest_code >= -128 && highest <= 127);
}

static inline int fused_weight(const FusedSpec* s, int m) {
  return fused_halved(s) ? m - 128 : s->code_step * m + s->lowest_code;
}
