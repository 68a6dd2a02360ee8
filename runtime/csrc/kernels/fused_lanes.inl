// Codes of D from sums in the narrowest lanes that hold them, AVX-512: 64 channels are one vector of bytes or two of
// 16-bit numbers. Included inside a namespace of the kernel file's own, after fused_ints.inl.
//
// With acc = sum of m q, S = sum of q and D = code_step * acc + lowest_code * S (fused.h), let
//   -lowest_code * S = code_step * shift + parity,   0 <= parity < code_step        of one pixel
//   x = acc - shift                                                                  in a lane, modulo 2^8 or 2^16
// so that D = code_step * x - parity, and D >= T just where x >= ceil((T + parity) / code_step). These thresholds are
// made at load, one set of rows for each parity (and for each class of border), saturated to the lane: the largest
// number of a lane is out of reach where largest_sum <= code_step * (largest number - 1). A pixel then chooses a row.
//
// Codes of up to 4 bits by bisection: as many comparisons as bits, and what they give are the bit planes.

template <int bytes>
constexpr int kMostInLane = bytes == 1 ? 127 : 32767;

// Whether x of every pixel fits a lane and the largest number of a lane is above all of them.
template <int bytes>
static bool sums_fit_lanes(const FusedSpec* s) {
  return s->largest_sum <= s->code_step * int64_t{kMostInLane<bytes> - 1};
}

static inline int padded_channels(const FusedSpec* s) {
  return (s->out_channels + kFusedChannels - 1) / kFusedChannels * kFusedChannels;
}

static inline int border_classes(const FusedSpec* s) {
  return s->epilogue.border == nullptr ? 1 : s->epilogue.row_classes * s->epilogue.column_classes;
}

// Bytes of one row of thresholds of all levels: of one class and parity.
template <int bytes>
static int64_t lane_row_bytes(const FusedSpec* s) {
  return ((int64_t{1} << s->epilogue.bits) - 1) * padded_channels(s) * bytes;
}

template <int bytes>
static int64_t lane_thresholds_bytes(const FusedSpec* s) {
  return border_classes(s) * s->code_step * lane_row_bytes<bytes>(s);
}

// [class][parity][level][padded channels]
template <int bytes>
static void set_lane_thresholds(const FusedSpec* s, uint8_t* to) {
  const FusedEpilogue* const e = &s->epilogue;
  const int padded = padded_channels(s), n = (1 << e->bits) - 1, step = s->code_step;
  for (int k = 0; k < border_classes(s); ++k) {
    const int32_t* border = e->border == nullptr ? nullptr : e->border + static_cast<int64_t>(k) * padded;
    for (int parity = 0; parity < step; ++parity, to += lane_row_bytes<bytes>(s)) {
      for (int64_t i = 0; i < static_cast<int64_t>(n) * padded; ++i) {
        const int64_t d = static_cast<const int32_t*>(e->thresholds)[i];
        const int64_t t = d - (border != nullptr ? border[i % padded] : 0) + parity;
        int64_t x = t >= 0 ? (t + step - 1) / step : -(-t / step);
        if (x > kMostInLane<bytes>) x = kMostInLane<bytes>;
        if (x < -kMostInLane<bytes> - 1) x = -kMostInLane<bytes> - 1;
        __builtin_memcpy(to + i * bytes, &x, bytes);
      }
    }
  }
}

// What belongs to the pixels: the shift of each, and the byte offset of its row of thresholds.
struct LanePixels {
  FusedPixels at;
  const int32_t* shift;
  const int32_t* row;
  const uint8_t* thresholds;
};

template <int bytes>
static inline __mmask64 lanes_reach(__m512i x, __m512i threshold) {
  return bytes == 1 ? _mm512_cmpge_epi8_mask(x, threshold) : _mm512_cmpge_epi16_mask(x, threshold);
}
template <int bytes>
static inline __m512i choose_lanes(__mmask64 k, __m512i zero, __m512i one) {
  if (bytes == 1) return _mm512_mask_blend_epi8(k, zero, one);
  return _mm512_mask_blend_epi16(static_cast<__mmask32>(k), zero, one);
}

// Rows of thresholds, `bytes` from one level to the next, from the first lane of a vector on.
struct ThresholdRows {
  const uint8_t* first;
  int64_t bytes;
  inline __m512i row(int level) const { return _mm512_load_si512(first + level * bytes); }
};

// The threshold that decides bit `depth` from above, the bits before it being k[0], k[1], ...: `known` of them are
// in `path`, the others choose between vectors.
template <int bytes, int bits, int depth, int known, int path>
struct Bisection {
  template <class Rows>
  static inline __attribute__((always_inline)) __m512i threshold(const Rows& rows, const __mmask64* k) {
    if constexpr (known == depth) {
      return rows.row((2 * path + 1) * (1 << (bits - 1 - depth)) - 1);
    } else {
      return choose_lanes<bytes>(k[known], Bisection<bytes, bits, depth, known + 1, 2 * path>::threshold(rows, k),
                                 Bisection<bytes, bits, depth, known + 1, 2 * path + 1>::threshold(rows, k));
    }
  }
};

// The planes of the codes of one vector, the highest first.
template <int bytes, int bits, class Rows>
static inline __attribute__((always_inline)) void bisect(__m512i x, const Rows& rows, __mmask64* k) {
  For<0, bits>::each([&](auto depth) __attribute__((always_inline)) {
    k[depth] = lanes_reach<bytes>(x, Bisection<bytes, bits, depth.value, 0, 0>::threshold(rows, k));
  });
}

// Codes in bytes, from their planes, the highest first.
template <int bits>
static inline __attribute__((always_inline)) __m512i codes_of_bits(const __mmask64* k) {
  __m512i codes = _mm512_maskz_set1_epi8(k[0], 1 << (bits - 1));
  For<1, bits>::each([&](auto i) __attribute__((always_inline)) {
    const __m512i bit = _mm512_set1_epi8(1 << (bits - 1 - i));
    codes = _mm512_mask_add_epi8(codes, k[i], codes, bit);
  });
  return codes;
}

template <int bits, bool planes, bool tail>
static inline __attribute__((always_inline)) void store_bits(const FusedPixels* t, int p, const __mmask64* k) {
  if constexpr (planes) {
    uint8_t* to = t->codes[p] + t->first_channel / 8;
    For<0, bits>::each([&](auto i) __attribute__((always_inline)) {
      store_fused_plane<tail>(to + i * t->codes_plane, k[bits - 1 - i], t->channels);
    });
  } else {
    store_fused_bytes<tail>(t->codes[p] + t->first_channel, codes_of_bits<bits>(k), t->channels);
  }
}

// sums.lanes(p, v): x of vector v, 64 / bytes channels, of pixel p.
template <int bytes, int bits, bool planes, bool tail, class Sums>
static __attribute__((noinline)) void lane_codes(const LanePixels* t, int padded, const Sums sums) {
  const int64_t level = static_cast<int64_t>(padded) * bytes;
  const uint8_t* const thresholds = t->thresholds + t->at.first_channel * bytes;
  for (int p = 0; p < t->at.pixels; ++p) {
    const uint8_t* row = thresholds + t->row[p];
    __mmask64 k[bytes][bits];
    For<0, bytes>::each([&](auto v) __attribute__((always_inline)) {
      bisect<bytes, bits>(sums.lanes(p, v), ThresholdRows{row + 64 * v, level}, k[v]);
    });
    if constexpr (bytes == 2) {
      For<0, bits>::each([&](auto i) __attribute__((always_inline)) { k[0][i] = _mm512_kunpackd(k[1][i], k[0][i]); });
    }
    store_bits<bits, planes, tail>(&t->at, p, k[0]);
  }
}

template <int bytes, int bits, class Sums>
static void lane_codes_of(const LanePixels* t, int padded, const Sums sums) {
  const bool planes = t->at.epilogue->planes != 0;
  if (t->at.channels == 64) {
    if (planes) return lane_codes<bytes, bits, true, false>(t, padded, sums);
    return lane_codes<bytes, bits, false, false>(t, padded, sums);
  }
  if (planes) return lane_codes<bytes, bits, true, true>(t, padded, sums);
  lane_codes<bytes, bits, false, true>(t, padded, sums);
}

// Codes of D of 1 to 4 bits by thresholds.
template <int bytes, class Sums>
static void finish_lane_codes(const LanePixels* t, int padded, const Sums sums) {
  switch (t->at.epilogue->bits) {
    case 1:
      return lane_codes_of<bytes, 1>(t, padded, sums);
    case 2:
      return lane_codes_of<bytes, 2>(t, padded, sums);
    case 3:
      return lane_codes_of<bytes, 3>(t, padded, sums);
    case 4:
      return lane_codes_of<bytes, 4>(t, padded, sums);
  }
}

// acc in memory: [pixels][pixel_bytes], 64 channels of `bytes` bytes each of which belong together.
template <int bytes>
struct LaneSums {
  const uint8_t* acc;
  int64_t pixel_bytes;
  const int32_t* shift;

  inline __attribute__((always_inline)) __m512i lanes(int p, int v) const {
    const __m512i sum = _mm512_load_si512(acc + p * pixel_bytes + 64 * v);
    if (bytes == 1) return _mm512_sub_epi8(sum, _mm512_set1_epi8(*reinterpret_cast<const int8_t*>(shift + p)));
    return _mm512_sub_epi16(sum, _mm512_set1_epi16(*reinterpret_cast<const int16_t*>(shift + p)));
  }
};
