// Products of bit planes counted in lanes of 1, 2 or 4 bytes, AVX-512 with VPOPCNTDQ and BITALG. Included inside a
// namespace of the kernel file's own.
//
//   weights [vector of 64 / bytes channels][plane j][step]   64 bytes, a lane per output channel: w  1011..
//   window  [plane i][step]                                   `bytes` bytes, the same in every lane: x  1101..
//                                             popcount(w & x) of a lane = its products of 1 by 1 that are 1
//
// A step is `bytes` bytes of a run: a run is a kernel row of the window, whose pixels adjoin, or one pixel of it where
// the kernel is dilated. What is read behind the end of a run meets weights of 0. 512 products are 3 operations, and,
// count, add, whatever the lanes; narrow ones have fewer sums, thresholds and stores for as many channels.
//
// P pixels x V vectors of sums stay in registers while all plane pairs are walked from the highest sum of indices down,
// doubling in between, so that one set of sums serves all pairs.

template <int bytes>
static inline __m512i broadcast_lanes(const uint8_t* from) {
  if (bytes == 1) return _mm512_set1_epi8(static_cast<char>(*from));
  if (bytes == 2) {
    int16_t lane;
    __builtin_memcpy(&lane, from, 2);
    return _mm512_set1_epi16(lane);
  }
  int32_t lane;
  __builtin_memcpy(&lane, from, 4);
  return _mm512_set1_epi32(lane);
}

template <int bytes>
static inline __m512i count_lanes(__m512i x) {
  return bytes == 1 ? _mm512_popcnt_epi8(x) : bytes == 2 ? _mm512_popcnt_epi16(x) : _mm512_popcnt_epi32(x);
}

// sum += x. GCC 12 copies a register for an addition within a block of vectors; an instruction of its own does not.
template <int bytes>
static inline void add_lanes(__m512i& sum, __m512i x) {
#ifdef BITORCH_NO_ASM
  sum = bytes == 1 ? _mm512_add_epi8(sum, x) : bytes == 2 ? _mm512_add_epi16(sum, x) : _mm512_add_epi32(sum, x);
#else
  if (bytes == 1) {
    __asm__("vpaddb %1, %0, %0" : "+v"(sum) : "v"(x));
  } else if (bytes == 2) {
    __asm__("vpaddw %1, %0, %0" : "+v"(sum) : "v"(x));
  } else {
    __asm__("vpaddd %1, %0, %0" : "+v"(sum) : "v"(x));
  }
#endif
}

// A vector that is used several times stays in its register: GCC 12 would rather load it again for each use.
static inline void keep_in_register(__m512i& x) {
#ifdef BITORCH_NO_ASM
  static_cast<void>(x);
#else
  __asm__("" : "+v"(x));
#endif
}

struct CountTile {
  const uint8_t* weights;  // of the first vector
  int64_t vector_bytes;    // from one vector to the next: weight_bits * steps * 64
  const int64_t* step;     // [steps] byte offsets within a window
  int64_t plane_bytes;
  const float* const* ahead;  // [pixels], or null
  int64_t ahead_channel;
  int32_t steps, weight_bits, activation_bits;
};

template <int bytes, int P, int V>
static inline __attribute__((always_inline)) void add_pair(const CountTile* t, const uint8_t* const* x, int64_t plane,
                                                           const uint8_t* w, __m512i* sum) {
  const int64_t vector_bytes = t->vector_bytes;
  const uint8_t* at[P];
  For<0, P>::each([&](auto p) __attribute__((always_inline)) { at[p] = x[p] + plane; });
  const int64_t* step = t->step;
  const int64_t* const end = step + t->steps;
  for (; step != end; ++step, w += 64) {
    const int64_t offset = *step;
    __m512i weights[V];
    For<0, V>::each([&](auto v) __attribute__((always_inline)) {
      weights[v] = _mm512_load_si512(w + v * vector_bytes);
      keep_in_register(weights[v]);
    });
    For<0, P>::each([&](auto p) __attribute__((always_inline)) {
      const __m512i word = broadcast_lanes<bytes>(at[p] + offset);
      For<0, V>::each([&](auto v) __attribute__((always_inline)) {
        add_lanes<bytes>(sum[p * V + v], count_lanes<bytes>(_mm512_and_si512(word, weights[v])));
      });
    });
  }
}

// acc[p][v] of pixels with windows x[0] .. x[P - 1], 64 bytes each.
template <int bytes, int P, int V>
static __attribute__((noinline)) void count_tile(const CountTile* t, const uint8_t* const* x, uint8_t* acc) {
  __m512i sum[P * V];
  For<0, P * V>::each([&](auto i) __attribute__((always_inline)) { sum[i] = _mm512_setzero_si512(); });
  const int top = t->weight_bits + t->activation_bits - 2;
  for (int s = top; s >= 0; --s) {
    if (s != top) For<0, P * V>::each([&](auto i) __attribute__((always_inline)) { add_lanes<bytes>(sum[i], sum[i]); });
    const int first = s < t->activation_bits ? 0 : s - t->activation_bits + 1;
    for (int j = first; j <= s && j < t->weight_bits; ++j) {
      add_pair<bytes, P, V>(t, x, (s - j) * t->plane_bytes, t->weights + j * int64_t{64} * t->steps, sum);
    }
  }
  For<0, P * V>::each([&](auto i) __attribute__((always_inline)) { _mm512_store_si512(acc + 64 * i, sum[i]); });
}

// What the results of a tile will be added to comes into the L2 cache while the tile is counted: a block is more than
// L1 holds.
static inline void fetch_ahead(const float* const* rows, int64_t channel, int pixels, int floats) {
  for (int p = 0; p < pixels; ++p) {
    for (int c = 0; c < floats; c += 16)
      _mm_prefetch(reinterpret_cast<const char*>(rows[p] + channel + c), _MM_HINT_T1);
  }
}

// Pixels per tile: as many as can be with all sums, weights and a broadcast in 32 registers, or one less, so that a
// block divides evenly: 49 pixels are 7 x 7. What is left is done with the last pixel repeated.
template <int bytes, int P, int V>
static void count_block(const CountTile* t, const uint8_t* const* x, int pixels, uint8_t* acc) {
  const float* const* ahead = t->ahead;
  while (pixels > 0) {
    const int rounds = (pixels + P - 1) / P;
    if (ahead != nullptr) {
      fetch_ahead(ahead, t->ahead_channel, pixels < P ? pixels : P, V * 64 / bytes);
      ahead += P;
    }
    if (pixels <= (P - 1) * rounds) {
      count_tile<bytes, P - 1, V>(t, x, acc);
      x += P - 1, acc += (P - 1) * V * 64, pixels -= P - 1;
    } else {
      count_tile<bytes, P, V>(t, x, acc);
      x += P, acc += P * V * 64, pixels -= P;
    }
  }
}

template <int bytes>
static void count_block_of(const CountTile* t, int vectors, const uint8_t* const* x, int pixels, uint8_t* acc) {
  switch (vectors) {
    case 1:
      return count_block<bytes, 8, 1>(t, x, pixels, acc);
    case 2:
      return count_block<bytes, 8, 2>(t, x, pixels, acc);
    case 3:
      return count_block<bytes, 5, 3>(t, x, pixels, acc);
    default:
      count_block<bytes, 4, 4>(t, x, pixels, acc);
  }
}
