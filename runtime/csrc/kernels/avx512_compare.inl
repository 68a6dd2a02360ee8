// Floats to codes of 1 or 2 bits by their thresholds (kernels.h, CompareRow), AVX-512: 64 channels at a time, whose
// thresholds stay in registers while pixels pass. Included inside a namespace of the kernel file's own.

constexpr int kCompareChannels = 4 * kLanes;

// `channels` of them, at most 64, from c on.
struct CompareGroup {
  const CompareRow* row;
  int64_t c;
  int channels;
};

// Which of 64 numbers reach their thresholds. Joined two by two, so that few mask registers are in use at once.
static inline __mmask64 reach_all(const __m512 (&x)[4], const __m512 (&threshold)[4]) {
  const auto reach = [&](int v) { return _mm512_cmp_ps_mask(x[v], threshold[v], _CMP_GE_OQ); };
  const __mmask32 low = _mm512_kunpackw(reach(1), reach(0));
  return _mm512_kunpackd(_mm512_kunpackw(reach(3), reach(2)), low);
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

template <int n, bool planes>
static inline void store_compared(uint8_t* out, int64_t plane_bytes, const __mmask64 (&reached)[n], int channels) {
  if (!planes) {
    __m512i codes = _mm512_maskz_set1_epi8(reached[0], 1);
    for (int j = 1; j < n; ++j) codes = _mm512_mask_add_epi8(codes, reached[j], codes, _mm512_set1_epi8(1));
    const __mmask64 mask = channels == kCompareChannels ? ~__mmask64{0} : (__mmask64{1} << channels) - 1;
    _mm512_mask_storeu_epi8(out, mask, codes);
  } else if (n == 1) {
    store_plane_of_group(out, reached[0], channels);
  } else {
    // Thresholds rise, so each of the three is within the one before.
    const __mmask64 low = _kxor_mask64(_kxor_mask64(reached[0], reached[1]), reached[n - 1]);
    store_plane_of_group(out, low, channels);
    store_plane_of_group(out + plane_bytes, reached[1 % n], channels);
  }
}

template <int n, bool negate, bool planes, bool tail>
static __attribute__((noinline)) void compare_group(const CompareGroup& group) {
  const CompareRow* const t = group.row;
  __mmask16 lanes[4];
  __m512 threshold[n][4];
  __m512i sign[4];
  for (int v = 0; v < 4; ++v) {
    const int left = group.channels - v * kLanes;
    lanes[v] = lane_mask(left <= 0 ? 0 : left < kLanes ? left : kLanes);
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
    __m512 x[4];
    for (int v = 0; v < 4; ++v) {
      x[v] = tail ? _mm512_maskz_loadu_ps(lanes[v], from + v * kLanes) : _mm512_loadu_ps(from + v * kLanes);
      if (negate) x[v] = _mm512_castsi512_ps(_mm512_xor_si512(_mm512_castps_si512(x[v]), sign[v]));
    }
    __mmask64 reached[n];
    for (int j = 0; j < n; ++j) reached[j] = reach_all(x, threshold[j]);
    store_compared<n, planes>(out, t->out_plane_bytes, reached, tail ? group.channels : kCompareChannels);
  }
}

template <int n, bool negate>
static void compare_channels(const CompareRow* t) {
  for (int64_t c = 0; c < t->channels; c += kCompareChannels) {
    const int64_t left = t->channels - c;
    const CompareGroup group = {t, c, left < kCompareChannels ? static_cast<int>(left) : kCompareChannels};
    if (group.channels < kCompareChannels) {
      t->planes ? compare_group<n, negate, true, true>(group) : compare_group<n, negate, false, true>(group);
    } else {
      t->planes ? compare_group<n, negate, true, false>(group) : compare_group<n, negate, false, false>(group);
    }
  }
}

static void compare_row(const CompareRow* t) {
  if (t->bits == 1) {
    t->negate != nullptr ? compare_channels<1, true>(t) : compare_channels<1, false>(t);
  } else {
    t->negate != nullptr ? compare_channels<3, true>(t) : compare_channels<3, false>(t);
  }
}
