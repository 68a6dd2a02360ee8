// Codes of D by a line in one rounding, AVX-512: fma(float(D), multiply, offset), rounded, and clamped by the packs
// that bring it to bytes. 64 codes are 17 operations; what the contract computes, in two roundings and clamped as
// floats, is 25, and counting the three thresholds of 2 bits 24. It is used only where it was seen, threshold by
// threshold, to give the codes of the thresholds for every D there is. Codes of y leave out what bounds of y make
// superfluous. Included after fused_ints.inl; fused_line_codes.inl computes what is chosen here.

enum FusedLineKind : int32_t {
  kNoLine,     // as finish_ints does it
  kFusedFma,   // fma(D, multiply, offset)
  kPlainLine,  // D * multiply + offset, in two roundings; no |y| reaches 2^31
  kUnitLine,   // nothing but codes of y leaves: y * n, and no |y * n| reaches 2^31
};

// Thresholds of more codes than this are not counted: then another kernel is quicker.
constexpr int kMostCounted = 15;
// Lines are looked for through so many thresholds; through more, the contract's own line is the only one tried.
constexpr int kMostFitted = 3;
// Of |y| and |D|.
constexpr double kMostRounded = 1 << 30;
constexpr int64_t kMostSum = (int64_t{1} << 31) - 1;

struct FusedLineRule {
  const float *multiply, *offset;  // [padded]
  int32_t kind;
};

static inline int fused_padded(const FusedSpec* s) { return (s->out_channels + kFusedChannels - 1) & -kFusedChannels; }

// The largest |D| there is, at most 2^31 - 1.
static inline int32_t fused_reach(const FusedSpec* s) {
  const int64_t most = s->largest_sum + s->largest_border;
  return static_cast<int32_t>(most < kMostSum ? most : kMostSum);
}

// The line of one channel through n <= kMostFitted thresholds t, `padded` apart: in the middle of the D that are on
// both sides of a threshold. Three deviate from a line by less than one D, as they are rounded up to integers, and so
// by less than half of one when it lies between them.
static inline void fit_fused_line(const int32_t* t, int padded, int n, double reach, float* multiply, float* offset) {
  int first = 0, last = n;
  while (first < n && t[first * padded] <= -reach) ++first;
  while (last > first && t[(last - 1) * padded] > reach) --last;
  if (first == last) {
    *multiply = 0.0f;
    *offset = static_cast<float>(first);
    return;
  }
  const double low = t[first * padded], high = t[(last - 1) * padded];
  const double slope = high > low ? (last - 1 - first) / (high - low) : 0.45 / (reach + 1);
  double at = first + 0.5 - slope * (low - 0.5);
  if (last - first == 3) at += 0.5 * (first + 1.5 - (slope * (t[(first + 1) * padded] - 0.5) + at));
  *multiply = static_cast<float>(slope);
  *offset = static_cast<float>(at);
}

// Whether rounding gives the codes of the thresholds for every |D| <= reach, 16 channels at a time: the line rises, so
// that it is enough to look on both sides of each threshold, and at the end where one is beyond it.
static inline bool fused_line_gives(const int32_t* t, int padded, int n, int32_t reach, __m512 multiply,
                                    __m512 offset) {
  const __m512i most = _mm512_set1_epi32(reach), least = _mm512_set1_epi32(-reach), one = _mm512_set1_epi32(1);
  __mmask16 wrong = _mm512_cmp_ps_mask(multiply, _mm512_setzero_ps(), _CMP_NGE_UQ);
  for (int j = 0; j < n && wrong == 0; ++j, t += padded) {
    const __m512i at = _mm512_load_si512(t);
    const __mmask16 reached = _mm512_cmple_epi32_mask(at, most), inside = _mm512_cmpgt_epi32_mask(at, least);
    const __m512i upper = _mm512_max_epi32(at, least);
    const __m512i lower = _mm512_mask_sub_epi32(most, reached, at, one);
    const __m512i above = _mm512_cvtps_epi32(_mm512_fmadd_ps(_mm512_cvtepi32_ps(upper), multiply, offset));
    const __m512i below = _mm512_cvtps_epi32(_mm512_fmadd_ps(_mm512_cvtepi32_ps(lower), multiply, offset));
    wrong = static_cast<__mmask16>(wrong | _mm512_mask_cmple_epi32_mask(reached, above, _mm512_set1_epi32(j)) |
                                   _mm512_mask_cmpgt_epi32_mask(inside, below, _mm512_set1_epi32(j)));
  }
  return wrong == 0;
}

// Whether no |y| of these 16 channels comes near 2^31.
static inline bool fused_line_is_small(__m512 multiply, __m512 offset, int32_t reach) {
  const __m512 y = _mm512_add_ps(_mm512_mul_ps(_mm512_abs_ps(multiply), _mm512_set1_ps(static_cast<float>(reach))),
                                 _mm512_abs_ps(offset));
  return _mm512_cmp_ps_mask(y, _mm512_set1_ps(static_cast<float>(kMostRounded)), _CMP_NLT_UQ) == 0;
}

// Whether y * n gives the codes of all y: the unit quantizer's line, whose least and largest codes are where the packs
// end, ReLU or not. What is added to y, and y that leaves, take another way.
static bool is_small_unit_line(const FusedSpec* s) {
  const FusedEpilogue* const e = &s->epilogue;
  if (e->codes_from_int || e->wants_float || e->has_residual || e->rule != kFusedLine) return false;
  const float n = static_cast<float>((1 << e->bits) - 1);
  const double reach = fused_reach(s);
  for (int c = 0; c < s->out_channels; ++c) {
    if (e->line_multiply[c] != n || e->line_offset[c] != 0) return false;
    double most = reach * __builtin_fabsf(e->multiply[c]) + __builtin_fabsf(e->offset[c]);
    if (e->norm_multiply != nullptr) {
      most = most * __builtin_fabsf(e->norm_multiply[c]) + __builtin_fabsf(e->norm_offset[c]);
    }
    if (!(most * n < kMostRounded)) return false;
  }
  return true;
}

// Fills multiply and offset, [padded] each, and says how codes are made, those of D with them; -1: there are too many
// thresholds to count, and no line.
static int choose_fused_line(const FusedSpec* s, float* multiply, float* offset) {
  const FusedEpilogue* const e = &s->epilogue;
  if (!e->wants_codes) return kNoLine;
  if (!e->codes_from_int) return is_small_unit_line(s) ? kUnitLine : kNoLine;
  const int padded = fused_padded(s), n = (1 << e->bits) - 1;
  const int32_t reach = fused_reach(s);
  const int32_t* const t = static_cast<const int32_t*>(e->thresholds);
  const bool given = e->rule == kFusedLine;
  const bool known = t != nullptr;  // else the line is used as it is
  if (!given && n > kMostFitted) return n <= kMostCounted ? kNoLine : -1;
  bool small = true, gives = true;
  for (int c = 0; c < padded; ++c) {
    multiply[c] = given ? e->line_multiply[c] : 0.0f;
    offset[c] = given ? e->line_offset[c] : 0.0f;
    if (!given && c < s->out_channels) fit_fused_line(t + c, padded, n, reach, multiply + c, offset + c);
  }
  for (int c = 0; c < padded; c += 16) {
    const __m512 m = _mm512_load_ps(multiply + c), b = _mm512_load_ps(offset + c);
    small = small && fused_line_is_small(m, b, reach);
    gives = gives && known && fused_line_gives(t + c, padded, n, reach, m, b);
  }
  if (small && gives) return kFusedFma;
  return small && given ? kPlainLine : kNoLine;
}

// What a kernel's prepared memory begins with: the kind, then multiply and offset, [padded] each.
struct alignas(64) PreparedLine {
  int32_t kind;
};

static inline int64_t prepared_line_bytes(const FusedSpec* s) {
  return static_cast<int64_t>(sizeof(PreparedLine)) + int64_t{fused_padded(s)} * 8;
}

// False where no line serves, and another kernel must.
static bool prepare_line(const FusedSpec* s, void* prepared) {
  float* const lines = reinterpret_cast<float*>(static_cast<uint8_t*>(prepared) + sizeof(PreparedLine));
  const int kind = choose_fused_line(s, lines, lines + fused_padded(s));
  if (kind < 0) return false;
  static_cast<PreparedLine*>(prepared)->kind = kind;
  return true;
}

static FusedLineRule prepared_line(const FusedSpec* s, const void* prepared) {
  const uint8_t* const base = static_cast<const uint8_t*>(prepared);
  const float* const lines = reinterpret_cast<const float*>(base + sizeof(PreparedLine));
  return {lines, lines + fused_padded(s), static_cast<const PreparedLine*>(prepared)->kind};
}
