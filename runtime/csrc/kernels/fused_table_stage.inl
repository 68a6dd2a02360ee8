// Staging of fused tables: from codes to the sums of subsets of six, AVX-512 with VBMI.
//
// A table is the 64 sums of the subsets of six codes of a pixel; entry e of it is the lower triple's sum e % 8 plus the
// upper triple's sum e / 8. So a table is kept as its two triples, 8 sums each, 16 bytes instead of 64: all input
// channels of a band's rows as triples in the second-level cache, two groups' tables at a time in the first-level one.
//
//   triples  [pair of groups][row][pixel][2 groups][2 triples][8]     tables  [group of the pair][row][pixel][64]

constexpr int kGroupChannels = 6;
constexpr int kPairBytes = 32;  // of a pixel

// The 8 sums of each of 8 triples of channels, from the planes of 24 channels: byte 8 k + e is the sum of the codes
// 3 k + i with bit i set in e. A plane's bits of triple k are shifted into byte k; e chooses among them. Two planes are
// summed by one look-up: their chosen bits, side by side, are an index.
struct TripleSums {
  __m512i first, second;          // control bytes: bits 3 k, and 3 k - 3 so that they come three places further up
  __m512i chosen, chosen_higher;  // e, and 8 e
  __m512i ones, twos;             // by index: ones + 2 twos, and 4 ones + 8 twos

  TripleSums() {
    alignas(64) uint8_t bytes[4][64];
    for (int i = 0; i < 64; ++i) {
      const int k = i / 8, e = i % 8, low = (e & 1) + (e >> 1 & 1) + (e >> 2), high = (k & 1) + (k >> 1 & 1) + (k >> 2);
      bytes[0][i] = static_cast<uint8_t>(3 * k);
      bytes[1][i] = static_cast<uint8_t>((3 * k + 61) % 64);
      bytes[2][i] = static_cast<uint8_t>(e);
      bytes[3][i] = static_cast<uint8_t>(low + 2 * high);
    }
    first = _mm512_load_si512(bytes[0]);
    second = _mm512_load_si512(bytes[1]);
    chosen = _mm512_load_si512(bytes[2]);
    chosen_higher = _mm512_slli_epi16(chosen, 3);
    ones = _mm512_load_si512(bytes[3]);
    twos = _mm512_slli_epi16(ones, 2);
  }
  static inline __m512i bits(__m512i control, const uint8_t* plane) {
    int64_t word;
    __builtin_memcpy(&word, plane, 8);
    return _mm512_multishift_epi64_epi8(control, _mm512_set1_epi64(word));
  }
  inline __m512i one_plane(const uint8_t* plane) const {
    return _mm512_popcnt_epi8(_mm512_and_si512(chosen, bits(first, plane)));
  }
  inline __m512i two_planes(const uint8_t* low, const uint8_t* high, __m512i sums) const {
    const __m512i index = _mm512_ternarylogic_epi32(_mm512_and_si512(chosen, bits(first, low)), chosen_higher,
                                                    bits(second, high), 0xf8);  // a | b & c
    return _mm512_permutexvar_epi8(index, sums);
  }
  template <int planes>
  inline __m512i of_planes(const uint8_t* from, int64_t plane_bytes) const {
    if constexpr (planes == 1) return one_plane(from);
    const __m512i low = two_planes(from, from + plane_bytes, ones);
    if constexpr (planes == 2) return low;
    from += 2 * plane_bytes;
    if constexpr (planes == 4) return _mm512_add_epi8(low, two_planes(from, from + plane_bytes, twos));
    return _mm512_add_epi8(low, _mm512_slli_epi16(one_plane(from), 2));
  }
};

// The same from 24 codes in bytes.
static inline __m512i triples_of_bytes(const uint8_t* from) {
  const __m512i codes = _mm512_loadu_si512(from);
  const __m512i triple =
      _mm512_set_epi64(0x1515151515151515, 0x1212121212121212, 0x0f0f0f0f0f0f0f0f, 0x0c0c0c0c0c0c0c0c,
                       0x0909090909090909, 0x0606060606060606, 0x0303030303030303, 0);
  const __m512i second = _mm512_add_epi8(triple, _mm512_set1_epi8(1)),
                third = _mm512_add_epi8(triple, _mm512_set1_epi8(2));
  const __m512i a = _mm512_maskz_permutexvar_epi8(0xaaaaaaaaaaaaaaaaull, triple, codes);
  const __m512i b = _mm512_maskz_permutexvar_epi8(0xccccccccccccccccull, second, codes);
  const __m512i c = _mm512_maskz_permutexvar_epi8(0xf0f0f0f0f0f0f0f0ull, third, codes);
  return _mm512_add_epi8(_mm512_add_epi8(a, b), c);
}

// One row of input pixels.
struct TripleRow {
  const uint8_t* row;
  int64_t pixel_bytes, plane_bytes;
  uint8_t* out;         // of the row; pixels are kPairBytes apart
  int64_t pair_stride;  // from one pair of groups to the next
  int32_t pixels, channels, bits;
};

// 24 channels are four groups, two pairs; a last pair may be missing.
template <class Triples>
static inline void stage_triples(const TripleRow* t, int64_t bytes_of_24, const Triples triples) {
  const int pairs = (t->channels + 2 * kGroupChannels - 1) / (2 * kGroupChannels);
  for (int k = 0; k < pairs; k += 2) {
    const uint8_t* from = t->row + k / 2 * bytes_of_24;
    uint8_t* to = t->out + k * t->pair_stride;
    uint8_t* next = k + 1 < pairs ? to + t->pair_stride : to;
    for (int x = 0; x < t->pixels; ++x, from += t->pixel_bytes, to += kPairBytes, next += kPairBytes) {
      const __m512i sums = triples(from);
      _mm256_store_si256(reinterpret_cast<__m256i*>(next), _mm512_extracti64x4_epi64(sums, 1));
      _mm256_store_si256(reinterpret_cast<__m256i*>(to), _mm512_castsi512_si256(sums));
    }
  }
}

template <int planes>
static void stage_planes(const TripleRow* t) {
  const TripleSums sums;
  const int64_t plane_bytes = t->plane_bytes;
  // By value: else stores of bytes might change the constants, as far as the compiler knows.
  stage_triples(t, 3, [=](const uint8_t* from) __attribute__((always_inline)) {
    return sums.of_planes<planes>(from, plane_bytes);
  });
}

static void stage_row(const TripleRow* t, bool planes) {
  if (!planes) {
    stage_triples(t, 24, [](const uint8_t* from) __attribute__((always_inline)) { return triples_of_bytes(from); });
  } else if (t->bits == 1) {
    stage_planes<1>(t);
  } else if (t->bits == 2) {
    stage_planes<2>(t);
  } else if (t->bits == 3) {
    stage_planes<3>(t);
  } else {
    stage_planes<4>(t);
  }
}

// The tables of both groups of a pair, of neighbouring pixels.
static inline void expand_tables(const uint8_t* triples, int pixels, uint8_t* tables, int64_t group_stride) {
  const __m512i upper = _mm512_set_epi64(0x0707070707070707, 0x0606060606060606, 0x0505050505050505, 0x0404040404040404,
                                         0x0303030303030303, 0x0202020202020202, 0x0101010101010101, 0);
  for (int x = 0; x < pixels; ++x, triples += kPairBytes, tables += kTableBytes) {
    For<0, 2>::each([&](auto g) __attribute__((always_inline)) {
      int64_t low, high;
      __builtin_memcpy(&low, triples + 16 * g, 8);
      __builtin_memcpy(&high, triples + 16 * g + 8, 8);
      const __m512i sums = _mm512_add_epi8(_mm512_set1_epi64(low), _mm512_shuffle_epi8(_mm512_set1_epi64(high), upper));
      _mm512_store_si512(tables + g * group_stride, sums);
    });
  }
}
