// From sums of depthwise kernels to codes, AVX-512: vectors of 64 channels, whose sums lie as bytes in the order of
// channels, or as int32 in the order that packs expect (fused_depthwise.inl). Included inside a namespace of the kernel
// file's own, after fused_lanes.inl and fused_depthwise.inl.

// Some rows of vectors: [rows][columns] sums one after the other.
struct Sums {
  const uint8_t* from;
  const __m512i* numbers;  // thresholds in lanes of bytes or words, or those of a line
  uint8_t* to;             // codes, floats, or where D is kept, of row 0 and byte 0 of a row
  int64_t row, plane;      // of `to`
  bool planes;
  int32_t bits;
  float least;  // of y
  bool norms;   // whether y has its second stage
};

// How codes are made, and where the sums come from.
enum Finish { kKeep, kByteLanes, kWordLanes, kLine, kFloats };

template <bool ints>
static inline __m512i byte_sums(const uint8_t* from) {
  if (!ints) return _mm512_load_si512(from);
  return _mm512_packs_epi16(_mm512_packs_epi32(_mm512_load_si512(from), _mm512_load_si512(from + 64)),
                            _mm512_packs_epi32(_mm512_load_si512(from + 128), _mm512_load_si512(from + 192)));
}

// The planes of the codes, the highest first, become bytes.
template <int bits>
static inline __attribute__((always_inline)) __m512i codes_of_masks(const __mmask64* k) {
  __m512i codes = _mm512_maskz_set1_epi8(k[0], 1 << (bits - 1));
  For<1, bits>::each([&](auto i) __attribute__((always_inline)) {
    codes = _mm512_mask_add_epi8(codes, k[i], codes, _mm512_set1_epi8(1 << (bits - 1 - i)));
  });
  return codes;
}

template <int bits>
static inline __attribute__((always_inline)) __m512i codes_of_masks(const __mmask64 (&k)[2][bits]) {
  __m512i codes[2];
  For<0, 2>::each([&](auto v) __attribute__((always_inline)) {
    codes[v] = _mm512_maskz_set1_epi16(static_cast<__mmask32>(k[v][0]), 1 << (bits - 1));
    For<1, bits>::each([&](auto i) __attribute__((always_inline)) {
      codes[v] = _mm512_mask_add_epi16(codes[v], static_cast<__mmask32>(k[v][i]), codes[v],
                                       _mm512_set1_epi16(1 << (bits - 1 - i)));
    });
  });
  return _mm512_packus_epi16(codes[0], codes[1]);
}

static inline void store_codes(const Sums& t, uint8_t* to, int64_t at, __m512i codes, int bytes) {
  if (!t.planes) {
    if (bytes == 64) return _mm512_storeu_si512(to + at, codes);
    return _mm512_mask_storeu_epi8(to + at, first_bytes(bytes), codes);
  }
  to += at / 8;
  __m512i bit = _mm512_set1_epi8(1);
  for (int i = 0; i < t.bits; ++i, to += t.plane, bit = _mm512_add_epi8(bit, bit)) {
    const __mmask64 k = _mm512_test_epi8_mask(codes, bit);
    if (bytes == 64) {
      store_fused_plane<false>(to, k, 64);
    } else {
      store_fused_plane<true>(to, k, bytes);
    }
  }
}

// The masks are the planes.
template <int bits>
static inline __attribute__((always_inline)) void store_masks(const Sums& t, uint8_t* to, int64_t at,
                                                              const __mmask64* k, int bytes) {
  if (!t.planes) return store_codes(t, to, at, codes_of_masks<bits>(k), bytes);
  For<0, bits>::each([&](auto i) __attribute__((always_inline)) {
    uint8_t* const plane = to + at / 8 + i * t.plane;
    if (bytes == 64) {
      store_fused_plane<false>(plane, k[bits - 1 - i], 64);
    } else {
      store_fused_plane<true>(plane, k[bits - 1 - i], bytes);
    }
  });
}

template <Finish finish, bool ints, int bits>
static void finish_columns(const Column& c, const Sums& t) {
  constexpr int kSize = ints ? 256 : 64;
  const uint8_t* from = t.from;
  const uint8_t* const thresholds = reinterpret_cast<const uint8_t*>(t.numbers);
  uint8_t* to = t.to;
  for (int32_t y = 0; y < c.rows; ++y, to += t.row) {
    int64_t at = c.at;
    for (int32_t x = 0; x < c.columns; ++x, at += c.column, from += kSize) {
      if constexpr (finish == kByteLanes) {
        __mmask64 k[bits];
        bisect<1, bits>(byte_sums<ints>(from), ThresholdRows{thresholds, 64}, k);
        store_masks<bits>(t, to, at, k, c.bytes);
      } else {
        __mmask64 k[2][bits];
        For<0, 2>::each([&](auto v) __attribute__((always_inline)) {
          const __m512i x =
              _mm512_packs_epi32(_mm512_load_si512(from + 128 * v), _mm512_load_si512(from + 128 * v + 64));
          bisect<2, bits>(x, ThresholdRows{thresholds + 64 * v, 128}, k[v]);
        });
        store_codes(t, to, at, codes_of_masks<bits>(k), c.bytes);
      }
    }
  }
}

// The first `count` of 64 dwords.
static inline void store_lanes(uint8_t* to, const __m512i (&v)[4], int count) {
  for (int i = 0; i < 4; ++i) {
    const __mmask64 lanes = first_bytes(count - 16 * i);
    _mm512_mask_storeu_epi32(to + 64 * i, static_cast<__mmask16>(lanes), v[i]);
  }
}

// D as it is, one row of outputs after the other, [pixels][channels].
template <bool ints>
static void keep_columns(const Column& c, const Sums& t) {
  const uint8_t* from = t.from;
  uint8_t* to = t.to;
  for (int32_t y = 0; y < c.rows; ++y, to += t.row) {
    int64_t at = c.at;
    for (int32_t x = 0; x < c.columns; ++x, at += c.column) {
      if (!ints) {
        _mm512_mask_storeu_epi8(to + at, first_bytes(c.bytes), _mm512_load_si512(from));
        from += 64;
        continue;
      }
      __m512i v[4];
      for (int i = 0; i < 4; ++i, from += 64) v[i] = _mm512_load_si512(from);
      turn_quarters(v);
      store_lanes(to + 4 * at, v, c.bytes);
    }
  }
}

using FinishFunction = void (*)(const Column&, const Sums&);

template <Finish finish, bool ints>
static FinishFunction finish_of_bits(int bits) {
  switch (bits) {
    case 1:
      return finish_columns<finish, ints, 1>;
    case 2:
      return finish_columns<finish, ints, 2>;
    case 3:
      return finish_columns<finish, ints, 3>;
    default:
      return finish_columns<finish, ints, 4>;
  }
}

template <bool ints>
static FinishFunction finish_of(Finish finish, int bits) {
  if (finish == kByteLanes) return finish_of_bits<kByteLanes, ints>(bits);
  if constexpr (ints) {
    if (finish == kWordLanes) return finish_of_bits<kWordLanes, true>(bits);
  }
  return keep_columns<ints>;
}

// Kept D, for what follows in floats: [pixels][channels] of one row.
template <bool ints>
struct KeptSums {
  const uint8_t* from;  // channel 0 of the group, of the first pixel
  int64_t channels;
  const int32_t* const* border;  // [pixels], channel 0 of the group; or null

  inline __attribute__((always_inline)) __m512i load(int p, int h) const {
    const uint8_t* at = from + (ints ? 4 : 1) * (p * channels + 16 * h);
    const __m512i d =
        ints ? _mm512_loadu_si512(at) : _mm512_cvtepi8_epi32(_mm_loadu_si128(reinterpret_cast<const __m128i*>(at)));
    return border == nullptr ? d : _mm512_add_epi32(d, _mm512_load_si512(border[p] + 16 * h));
  }
};
