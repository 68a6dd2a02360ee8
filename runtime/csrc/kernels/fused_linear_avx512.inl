// Linear layers with AVX-512 VNNI: vpdpbusd, output channels in the lanes, weights widened in registers
// (fused_linear.inl says how). Included inside a namespace of each kernel file's own, after fused_loops.inl,
// fused_ints.inl, fused_linear.inl, fused_linear_cost.inl and
//   constexpr int kLinearPixels      how many pixels are met at a time at most, 2 or 6
//
// One pixel: 16 sums, 4 for each of the four input channels of a group that are met at a time, so that no multiply-add
// waits for another. Its operations per 64 bytes of weights, two of which start at once, are
//
//   bits            1    2    4    8
//   operations     17    7    3    1     multiply-adds, ands, shifts
//   GB/s at 3 GHz  23   55  128  384     of weights: what memory gives is less but of 1 bit
//
// Several pixels share what widening takes: 4 sums for each, of up to 6.

// Of what only assembly uses, older Clangs capture nothing in a lambda of a template.
#if defined(BITORCH_NO_ASM) || defined(__clang__)
#define BITORCH_DPBUSD(sum, x, w) sum = _mm512_dpbusd_epi32(sum, x, w)
#else
#define BITORCH_DPBUSD(sum, x, w) __asm__("vpdpbusd %2, %1, %0" : "+v"(sum) : "v"(x), "v"(w))
#endif

static bool prepare_linear(const FusedSpec* spec, const uint8_t* m, void* prepared) {
  prepare_linear_weights(spec, m, true, prepared);
  return true;
}

// With 24 sums there is no room for three vectors of masks.
static constexpr int linear_pixels(int field) { return field <= 2 && kLinearPixels > 5 ? 5 : kLinearPixels; }

static inline __m512i broadcast_codes(const uint8_t* from) {
  int32_t word;
  __builtin_memcpy(&word, from, 4);
  return _mm512_set1_epi32(word);
}

// The vector that holds field f of the four input channels s, as vpdpbusd takes it: with the fields below.
template <int field, int s, int f>
static inline __attribute__((always_inline)) __m512i widened(const uint8_t* group, __m512i& word) {
  constexpr int bit = (4 * s + f) * field, at = bit / 8 * 64;
  if (bit % 8 == 0) word = _mm512_load_si512(group + at);
  if (field == 1 && bit % 8 == 4) word = _mm512_srli_epi16(word, 4);
  constexpr int bits = (field == 1 ? f + 1 : bit % 8 + field);
  if (bits == 8) return word;
  return _mm512_and_si512(word, _mm512_set1_epi8(static_cast<char>((1 << bits) - 1)));
}

// Field f's own sum from two that hold each other.
template <int field, int f>
static inline __m512i separate(__m512i sum, __m512i below) {
  constexpr int at = field == 1 ? f : f * field % 8;
  return at == 0 ? sum : _mm512_srai_epi32(_mm512_sub_epi32(sum, below), at);
}

// What becomes of M, sum of stored fields times codes, of a pixel: D = step M + (lowest + step * offset) * (sum of
// codes).
struct LinearGrid {
  int32_t shift, lowest;  // steps are 1, 2 or 4
  explicit LinearGrid(const FusedSpec* spec) : shift(spec->code_step / 2), lowest(spec->lowest_code) {}
};

template <int field, int f>
static inline void store_sum(const LinearGrid& grid, int32_t codes, __m512i sum, __m512i below, int32_t* tile) {
  const int32_t scale = grid.lowest + (field_offset(field, f) << grid.shift);
  const __m512i add =
      _mm512_set1_epi32(static_cast<int32_t>(static_cast<uint32_t>(scale) * static_cast<uint32_t>(codes)));
  const __m512i m = _mm512_sll_epi32(separate<field, f>(sum, below), _mm_cvtsi32_si128(grid.shift));
  _mm512_store_si512(tile + 16 * f, _mm512_add_epi32(m, add));
}

// 64 channels of P pixels.
struct LinearTile {
  const uint8_t* const* x;  // [P]
  const int32_t* codes;     // [P] sums of codes
  const uint8_t* weights;   // of the block
  const uint8_t* end;       // of its weights
  int64_t ahead;            // bytes from them to weights to fetch meanwhile; 0: none
  int32_t* tile;            // [P][64], D
};

// Bytes from weights in use to those that are fetched. Of more bits than 2 a layer waits for memory, and the CPU's own
// fetching ends with every page.
constexpr int64_t kFetchAhead = 4096;

template <int field>
static __attribute__((noinline)) void one_pixel(const LinearTile* t, const LinearGrid& grid) {
  __m512i sum[16];
  For<0, 16>::each([&](auto i) __attribute__((always_inline)) { sum[i] = _mm512_setzero_si512(); });
  const uint8_t* x = t->x[0];
  for (const uint8_t* group = t->weights; group != t->end; group += 128 * field, x += kLinearGroup) {
    __m512i word;
    if (field >= 4) {
      For<0, 2 * field>::each([&](auto v) __attribute__((always_inline)) {
        _mm_prefetch(reinterpret_cast<const char*>(group + kFetchAhead + 64 * v), _MM_HINT_T0);
      });
    }
    For<0, 4>::each([&](auto s) __attribute__((always_inline)) {
      const __m512i codes = broadcast_codes(x + 4 * s);
      For<0, 4>::each([&](auto f) __attribute__((always_inline)) {
        const __m512i w = widened<field, decltype(s)::value, decltype(f)::value>(group, word);
        BITORCH_DPBUSD(sum[4 * s + f], codes, w);
      });
    });
  }
  For<0, 4>::each([&](auto f) __attribute__((always_inline)) {
    sum[f] = _mm512_add_epi32(_mm512_add_epi32(sum[f], sum[4 + f]), _mm512_add_epi32(sum[8 + f], sum[12 + f]));
  });
  For<0, 4>::each([&](auto f) __attribute__((always_inline)) {
    store_sum<field, decltype(f)::value>(grid, t->codes[0], sum[f], sum[f > 0 ? f - 1 : 0], t->tile);
  });
}

template <int field, int P>
static __attribute__((noinline)) void some_pixels(const LinearTile* t, const LinearGrid& grid) {
  __m512i sum[4 * P];
  const uint8_t* x[P];
  For<0, P>::each([&](auto p) __attribute__((always_inline)) {
    For<0, 4>::each([&](auto f) __attribute__((always_inline)) { sum[4 * p + f] = _mm512_setzero_si512(); });
    x[p] = t->x[p];
  });
  const int64_t ahead = t->ahead;
  int64_t k = 0;
  for (const uint8_t* group = t->weights; group != t->end; group += 128 * field, k += kLinearGroup) {
    __m512i word;
    if (ahead != 0) {
      For<0, 2 * field>::each([&](auto v) __attribute__((always_inline)) {
        _mm_prefetch(reinterpret_cast<const char*>(group + ahead + 64 * v), _MM_HINT_T1);
      });
    }
    For<0, 4>::each([&](auto s) __attribute__((always_inline)) {
      __m512i w[4];
      For<0, 4>::each([&](auto f) __attribute__((always_inline)) {
        w[f] = widened<field, decltype(s)::value, decltype(f)::value>(group, word);
        __asm__("" : "+v"(w[f]));
      });
      For<0, P>::each([&](auto p) __attribute__((always_inline)) {
        const __m512i codes = broadcast_codes(x[p] + k + 4 * s);
        For<0, 4>::each([&](auto f) __attribute__((always_inline)) { BITORCH_DPBUSD(sum[4 * p + f], codes, w[f]); });
      });
    });
  }
  For<0, P>::each([&](auto p) __attribute__((always_inline)) {
    For<0, 4>::each([&](auto f) __attribute__((always_inline)) {
      store_sum<field, decltype(f)::value>(grid, t->codes[p], sum[4 * p + f], sum[4 * p + (f > 0 ? f - 1 : 0)],
                                           t->tile + p * kFusedChannels);
    });
  });
}

template <int field>
static void linear_tile(const LinearTile* t, const LinearGrid& grid, int pixels) {
  if (pixels == 1) return one_pixel<field>(t, grid);
  if (pixels == 2) return some_pixels<field, 2>(t, grid);
  if constexpr (kLinearPixels > 2) {
    if (pixels == 3) return some_pixels<field, 3>(t, grid);
    if (pixels == 4) return some_pixels<field, 4>(t, grid);
    if (pixels == 5) return some_pixels<field, 5>(t, grid);
    some_pixels<field, linear_pixels(field)>(t, grid);
  }
}

// The sum of a pixel's codes.
static inline int32_t sum_of_codes(const uint8_t* x, int32_t channels) {
  const __m512i zero = _mm512_setzero_si512();
  __m512i sum = zero;
  int32_t k = 0;
  for (; k + 64 <= channels; k += 64) sum = _mm512_add_epi64(sum, _mm512_sad_epu8(_mm512_loadu_si512(x + k), zero));
  const __m512i rest = _mm512_maskz_loadu_epi8((__mmask64{1} << (channels - k)) - 1, x + k);
  return static_cast<int32_t>(_mm512_reduce_add_epi64(_mm512_add_epi64(sum, _mm512_sad_epu8(rest, zero))));
}

#include "fused_linear_pixels.inl"

// D of a tile, with its border.
struct LinearSums {
  const int32_t* tile;           // [pixels][64]
  const int32_t* const* border;  // [pixels], of the tile's first channel's row; null without
  int32_t first_channel;
  inline __attribute__((always_inline)) __m512i load(int p, int h) const {
    const __m512i d = _mm512_load_si512(tile + p * kFusedChannels + 16 * h);
    if (border == nullptr) return d;
    return _mm512_add_epi32(d, _mm512_load_si512(border[p] + first_channel + 16 * h));
  }
};

// What leaves of `count` pixels from `first` on.
static void finish_linear(const FusedSpec* spec, const FusedBand* band, const LinearPixels* pixels, int32_t first,
                          int32_t count, int32_t channel, const int32_t* tile) {
  const int32_t left = band->first_channel + band->channels - channel;
  FusedPixels t;
  t.epilogue = &spec->epilogue;
  t.pixels = count;
  t.first_channel = channel;
  t.channels = left < kFusedChannels ? left : kFusedChannels;
  t.codes = pixels->codes + first;
  t.out = pixels->out + first;
  t.residual = pixels->residual + first;
  t.codes_plane = band->codes_plane;
  const bool border = spec->epilogue.border != nullptr;
  const LinearSums sums = {tile, border ? pixels->border + first : nullptr, channel};
  const int padded = static_cast<int>(linear_blocks(spec) * kFusedChannels);
  if (spec->epilogue.rule == kFusedThresholds) {
    finish_int_codes<kThresholdCodes>(&t, padded, sums);
  } else {
    finish_int_codes<kLineCodes>(&t, padded, sums);
  }
  finish_y(&t, padded, sums);
}

// How many of the pixels left to take at once: as even as they can be divided.
static inline int32_t next_linear_pixels(int32_t left, int32_t most) {
  const int32_t rounds = (left + most - 1) / most;
  return (left + rounds - 1) / rounds;
}

template <int field>
static void run_linear_block(const FusedSpec* spec, const FusedBand* band, const LinearPixels* pixels,
                             int32_t channel) {
  alignas(64) int32_t tile[kLinearPixels * kFusedChannels];
  const LinearGrid grid(spec);
  const int64_t bytes = linear_block_bytes(spec);
  const bool last = channel + kFusedChannels >= band->first_channel + band->channels;
  LinearTile t;
  t.weights = static_cast<const uint8_t*>(band->prepared) + channel / kFusedChannels * bytes;
  t.end = t.weights + bytes;
  t.tile = tile;
  for (int32_t p = 0, count; p < pixels->count; p += count) {
    count = next_linear_pixels(pixels->count - p, linear_pixels(field));
    t.x = pixels->x + p;
    t.codes = pixels->sums + p;
    // The last pixels that meet a block fetch the next one.
    t.ahead = !last && p + count == pixels->count ? bytes : 0;
    linear_tile<field>(&t, grid, count);
    finish_linear(spec, band, pixels, p, count, channel, tile);
  }
}

static void run_linear(const FusedSpec* spec, const FusedBand* band) {
  LinearPixels pixels;
  const int32_t all = band->rows * band->width, past = band->first_channel + band->channels;
  const int32_t field = field_bits(spec->weight_bits);
  for (int32_t first = 0; first < all; first += kLinearBand) {
    locate_pixels(spec, band, first, kLinearBand, &pixels);
    for (int32_t c = band->first_channel; c < past; c += kFusedChannels) {
      if (field == 1) run_linear_block<1>(spec, band, &pixels, c);
      if (field == 2) run_linear_block<2>(spec, band, &pixels, c);
      if (field == 4) run_linear_block<4>(spec, band, &pixels, c);
      if (field == 8) run_linear_block<8>(spec, band, &pixels, c);
    }
  }
}

// ---- Cost ----

// Pixels share what widening takes.
static double vector_cost(const FusedSpec* spec, Machine machine, double pixels) {
  const LinearMachine& on = linear_machine(machine);
  const int32_t field = field_bits(spec->weight_bits);
  const double vectors = static_cast<double>(linear_bytes(spec)) / 64, fields = 8 / field;
  const double widen = (field == 1 ? 9 : fields - 1) * on.other;
  const int together = linear_pixels(field);
  const double passes = pixels < together ? 1 : pixels / together;
  const double products = vectors * on.cycle * (passes * widen + pixels * fields * on.multiply);
  const double weights = weight_nanoseconds(spec, on);
  return (products > weights ? products : weights) + linear_rest(spec, on, pixels);
}
