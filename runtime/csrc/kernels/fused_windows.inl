// Window sums of bit planes, AVX-512 with VPOPCNTDQ: what lowest_code is multiplied with (fused.h), once for each
// output pixel whatever the number of channels. Included inside a namespace of the kernel file's own.
//
// First the sum of each input pixel, 8 qwords of planes at a time: pixels of 1 .. 8, .. 16, .. 32, .. 64 bytes are
// spread over 1, 2, 4 or 8 qwords, counted, added over the planes (twice what there is, plus the next lower one), then
// over their qwords. Then sums of columns and rows. A row of input is counted once: its sums stay in a ring as long as
// windows need them.

// Where the bytes of the pixels of one vector come from; made at load.
struct PixelSpread {
  uint8_t from[64];
  uint64_t used;  // bytes that come from a pixel
  int32_t words;  // qwords per pixel: 1, 2, 4, 8; 0 for wider pixels
  int32_t unused;
};

static void set_pixel_spread(int pixel_bytes, PixelSpread* to) {
  to->words = pixel_bytes <= 8 ? 1 : pixel_bytes <= 16 ? 2 : pixel_bytes <= 32 ? 4 : pixel_bytes <= 64 ? 8 : 0;
  if (to->words == 0) return;
  for (int d = 0; d < 64; ++d) {
    const int pixel = d / (8 * to->words), byte = d % (8 * to->words);
    if (byte >= pixel_bytes) continue;
    to->from[d] = static_cast<uint8_t>(pixel * pixel_bytes + byte);
    to->used |= uint64_t{1} << d;
  }
}

// One row of input.
struct PlaneRow {
  const uint8_t* from;
  int64_t plane_bytes;
  int32_t pixel_bytes, bits, pixels;
};

// Adds groups of `words` qwords; the sum stands in the first of each.
template <int words>
static inline __m512i add_words(__m512i x) {
  if (words >= 2) x = _mm512_add_epi64(x, _mm512_shuffle_epi32(x, _MM_PERM_BADC));
  if (words >= 4) x = _mm512_add_epi64(x, _mm512_permutex_epi64(x, 0x4e));
  if (words >= 8) x = _mm512_add_epi64(x, _mm512_shuffle_i64x2(x, x, 0x4e));
  return x;
}

// Up to 63 bytes behind a pixel are read, and up to 7 sums behind the last are written.
template <int words>
static void spread_pixel_sums(const PlaneRow* t, const PixelSpread* spread, int32_t* sums) {
  constexpr int per = 8 / words;
  const __m512i from = _mm512_loadu_si512(spread->from);
  const __mmask64 used = spread->used;
  const __m512i firsts = _mm512_mullo_epi32(_mm512_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7, 0, 0, 0, 0, 0, 0, 0, 0),
                                            _mm512_set1_epi32(2 * words));
  for (int x = 0; x < t->pixels; x += per) {
    const uint8_t* at = t->from + static_cast<int64_t>(x) * t->pixel_bytes + (t->bits - 1) * t->plane_bytes;
    __m512i sum = _mm512_setzero_si512();
    for (int i = t->bits; i > 0; --i, at -= t->plane_bytes) {
      const __m512i plane = _mm512_maskz_permutexvar_epi8(used, from, _mm512_loadu_si512(at));
      sum = _mm512_add_epi64(_mm512_add_epi64(sum, sum), _mm512_popcnt_epi64(plane));
    }
    sum = _mm512_permutexvar_epi32(firsts, add_words<words>(sum));
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(sums + x), _mm512_castsi512_si256(sum));
  }
}

static void wide_pixel_sums(const PlaneRow* t, int32_t* sums) {
  const int whole = t->pixel_bytes / 64 * 64;
  const __mmask64 rest = first_lanes(t->pixel_bytes - whole);
  for (int x = 0; x < t->pixels; ++x) {
    const uint8_t* at = t->from + static_cast<int64_t>(x) * t->pixel_bytes + (t->bits - 1) * t->plane_bytes;
    __m512i sum = _mm512_setzero_si512();
    for (int i = t->bits; i > 0; --i, at -= t->plane_bytes) {
      __m512i ones = _mm512_popcnt_epi64(_mm512_maskz_loadu_epi8(rest, at + whole));
      for (int b = 0; b < whole; b += 64) {
        ones = _mm512_add_epi64(ones, _mm512_popcnt_epi64(_mm512_loadu_si512(at + b)));
      }
      sum = _mm512_add_epi64(_mm512_add_epi64(sum, sum), ones);
    }
    sums[x] = _mm_cvtsi128_si32(_mm512_castsi512_si128(add_words<8>(sum)));
  }
}

static void plane_pixel_sums(const PlaneRow* t, const PixelSpread* spread, int32_t* sums) {
  switch (spread->words) {
    case 1:
      return spread_pixel_sums<1>(t, spread, sums);
    case 2:
      return spread_pixel_sums<2>(t, spread, sums);
    case 4:
      return spread_pixel_sums<4>(t, spread, sums);
    case 8:
      return spread_pixel_sums<8>(t, spread, sums);
    default:
      wide_pixel_sums(t, sums);
  }
}

// Window sums of a band, row by row from its first on.
struct WindowSums {
  const FusedSpec* spec;
  const FusedBand* band;
  const PixelSpread* spread;
  int32_t* ring;     // [ring_rows][ring_row]
  int32_t* columns;  // [ring_row]
  int32_t counted;   // rows of input counted so far
};

static inline int window_rows(const FusedSpec* s) { return (s->kernel_h - 1) * s->dilation_h + 1; }
static inline int window_row_pixels(const FusedSpec* s) {
  return (s->width - 1) * s->stride_w + (s->kernel_w - 1) * s->dilation_w + 1;
}
// A row of sums with room for what is written behind the last.
static inline int64_t ring_row(const FusedSpec* s) { return (window_row_pixels(s) + 8 + 15) / 16 * 16; }
static inline int64_t window_scratch_bytes(const FusedSpec* s) { return (window_rows(s) + 1) * ring_row(s) * 4; }

// sums[x] = the sum of the window of output (y, x), x = 0 .. width - 1, y from the band's first row on, rising by one.
static void next_window_sums(WindowSums* w, int y, int32_t* sums) {
  const FusedSpec* const s = w->spec;
  const int rows = window_rows(s), pixels = window_row_pixels(s);
  const int64_t row = ring_row(s);
  for (const int end = y * s->stride_h + rows; w->counted < end; ++w->counted) {
    if (w->counted < y * s->stride_h) continue;
    const PlaneRow input = {w->band->input + w->counted * w->band->row_bytes, w->band->plane_bytes,
                            (s->in_channels + 7) / 8, s->activation_bits, pixels};
    plane_pixel_sums(&input, w->spread, w->ring + w->counted % rows * row);
  }
  const int32_t* column = w->ring + y * s->stride_h % rows * row;
  if (s->kernel_h > 1) {
    for (int x = 0; x < pixels; ++x) w->columns[x] = column[x];
    for (int k = 1; k < s->kernel_h; ++k) {
      const int32_t* next = w->ring + (y * s->stride_h + k * s->dilation_h) % rows * row;
      for (int x = 0; x < pixels; ++x) w->columns[x] += next[x];
    }
    column = w->columns;
  }
  if (s->stride_w == 1) {
    for (int x = 0; x < s->width; ++x) sums[x] = column[x];
    for (int k = 1; k < s->kernel_w; ++k) {
      for (int x = 0; x < s->width; ++x) sums[x] += column[x + k * s->dilation_w];
    }
    return;
  }
  for (int x = 0; x < s->width; ++x) {
    int32_t sum = 0;
    for (int k = 0; k < s->kernel_w; ++k) sum += column[x * s->stride_w + k * s->dilation_w];
    sums[x] = sum;
  }
}
