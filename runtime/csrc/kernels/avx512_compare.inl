// Floats to codes of 1 or 2 bits by their thresholds (kernels.h, CompareRow), AVX-512: 64 channels at a time, whose
// thresholds stay in registers while pixels pass. Included inside a namespace of the kernel file's own.

constexpr int kCompareChannels = 4 * kLanes;

// `channels` of them, at most 64, from c on.
struct CompareGroup {
  const CompareRow* row;
  int64_t c;
  int channels;
};

// The bits of V vectors of lanes, joined two by two.
template <int V>
static inline __mmask64 joined(const __mmask16 (&k)[V]) {
  if constexpr (V == 1) return k[0];
  if constexpr (V > 1) {
    const __mmask32 low = _mm512_kunpackw(k[1], k[0]);
    if constexpr (V == 2) return low;
    if constexpr (V == 3) return _mm512_kunpackd(k[2], low);
    if constexpr (V == 4) return _mm512_kunpackd(_mm512_kunpackw(k[3], k[2]), low);
  }
}

// Up to 64 bits of one plane of one pixel.
static inline void store_plane_of_group(uint8_t* out, __mmask64 bits, int channels) {
  if (channels == kCompareChannels) {
    _store_mask64(reinterpret_cast<__mmask64*>(out), bits);
    return;
  }
  const uint64_t word = _cvtmask64_u64(bits);
  for (int c = 0; c < channels; c += 8) *out++ = static_cast<uint8_t>(word >> c);
}

// Codes whose planes these are.
template <int bits, bool planes>
static inline void store_compared(uint8_t* out, int64_t plane_bytes, const __mmask64 (&plane)[bits], int channels) {
  if (planes) {
    for (int i = 0; i < bits; ++i, out += plane_bytes) store_plane_of_group(out, plane[i], channels);
    return;
  }
  __m512i codes = _mm512_maskz_set1_epi8(plane[bits - 1], bits);
  if (bits == 2) codes = _mm512_mask_add_epi8(codes, plane[0], codes, _mm512_set1_epi8(1));
  if (channels == kCompareChannels) {
    _mm512_storeu_si512(out, codes);
  } else {
    _mm512_mask_storeu_epi8(out, (__mmask64{1} << channels) - 1, codes);
  }
}

// V vectors. Two bits are two comparisons: with the middle threshold, then with the one that is left, which is the
// first or the last. Thresholds rise, and NaN behind them is never reached.
template <int bits, bool negate, bool planes, int V>
static __attribute__((noinline)) void compare_group(const CompareGroup& group) {
  constexpr int n = (1 << bits) - 1;
  const CompareRow* const t = group.row;
  __mmask16 lanes[V];
  __m512 threshold[n][V];
  __m512i sign[V];
  for (int v = 0; v < V; ++v) {
    const int left = group.channels - v * kLanes;
    lanes[v] = lane_mask(left < kLanes ? left : kLanes);
    // Two vectors are a block. What is behind the last channel is 0, and reaches nothing.
    const int64_t block = group.c / kBlock + v / 2, at = v % 2 * kLanes;
    for (int j = 0; j < n; ++j) {
      const float* from = t->thresholds + (block * n + j) * kBlock + at;
      threshold[j][v] = _mm512_mask_loadu_ps(_mm512_set1_ps(__builtin_inff()), lanes[v], from);
    }
    sign[v] = negate ? _mm512_slli_epi32(_mm512_maskz_loadu_epi32(lanes[v], t->negate + block * kBlock + at), 31)
                     : _mm512_setzero_si512();
  }
  const float* from = t->x + group.c;
  uint8_t* out = t->out + (planes ? group.c / 8 : group.c);
  for (int64_t p = 0; p < t->pixels; ++p, from += t->step, out += t->out_pixel_bytes) {
    __mmask16 high[V], low[V];
    for (int v = 0; v < V; ++v) {
      __m512 x = _mm512_maskz_loadu_ps(lanes[v], from + v * kLanes);
      if (negate) x = _mm512_castsi512_ps(_mm512_xor_si512(_mm512_castps_si512(x), sign[v]));
      high[v] = _mm512_cmp_ps_mask(x, threshold[n / 2][v], _CMP_GE_OQ);
      const __m512 rest = _mm512_mask_blend_ps(high[v], threshold[0][v], threshold[n - 1][v]);
      if (bits == 2) low[v] = _mm512_cmp_ps_mask(x, rest, _CMP_GE_OQ);
    }
    if constexpr (bits == 1) {
      store_compared<1, planes>(out, t->out_plane_bytes, {joined<V>(high)}, group.channels);
    } else {
      store_compared<2, planes>(out, t->out_plane_bytes, {joined<V>(low), joined<V>(high)}, group.channels);
    }
  }
}

template <int bits, bool negate, bool planes>
static void compare_vectors(const CompareGroup& group) {
  if (group.channels <= kLanes) return compare_group<bits, negate, planes, 1>(group);
  if (group.channels <= 2 * kLanes) return compare_group<bits, negate, planes, 2>(group);
  if (group.channels <= 3 * kLanes) return compare_group<bits, negate, planes, 3>(group);
  compare_group<bits, negate, planes, 4>(group);
}

template <int bits, bool negate>
static void compare_channels(const CompareRow* t) {
  for (int64_t c = 0; c < t->channels; c += kCompareChannels) {
    const int64_t left = t->channels - c;
    const CompareGroup group = {t, c, left < kCompareChannels ? static_cast<int>(left) : kCompareChannels};
    t->planes ? compare_vectors<bits, negate, true>(group) : compare_vectors<bits, negate, false>(group);
  }
}

static void compare_row(const CompareRow* t) {
  if (t->bits == 1) {
    t->negate != nullptr ? compare_channels<1, true>(t) : compare_channels<1, false>(t);
  } else {
    t->negate != nullptr ? compare_channels<2, true>(t) : compare_channels<2, false>(t);
  }
}
