// First layers: what their kernels have in common. Included inside a namespace of the kernel file's own, after
// fused_list.inl.

constexpr int kMostStemChannels = 4;
constexpr int kMostRowBytes = 64;     // of the taps of a kernel row
constexpr int kMostStemInputs = 256;  // per output: sums of so many bytes fit 16 bits

static inline bool stem_suits(const FusedSpec* s) {
  if (!fused_fits_bytes(s) || !pool_suits(s)) return false;
  if (s->groups != 1 || s->input_planes || s->in_channels > kMostStemChannels || s->dilation_w != 1) return false;
  const int row = s->kernel_w * s->in_channels;
  return row <= kMostRowBytes && s->kernel_h * row <= kMostStemInputs;
}

static inline int stem_row_bytes(const FusedSpec* s) { return s->kernel_w * s->in_channels; }
static inline int stem_dwords(const FusedSpec* s) { return (stem_row_bytes(s) + 3) / 4; }
static inline int stem_steps(const FusedSpec* s) { return s->kernel_h * stem_dwords(s); }
// Prepared: how codes are made, then the weights, 4 bytes x 16 channels for each dword of a kernel row.
static inline int64_t stem_weights_at(const FusedSpec* s) { return prepared_line_bytes(s); }

static int64_t prepared_bytes(const FusedSpec* s) {
  return stem_weights_at(s) + int64_t{fused_padded(s)} * stem_steps(s) * 4;
}

// Where the weights of 16 channels, `vector` of them all, meet dword k of kernel row ky: private to the kernel.
static inline int64_t stem_weights_of(const FusedSpec* s, int vector, int ky, int k);

static bool prepare(const FusedSpec* s, const uint8_t* m, void* prepared) {
  if (!prepare_line(s, prepared)) return false;
  uint8_t* const base = static_cast<uint8_t*>(prepared);
  int8_t* const weights = reinterpret_cast<int8_t*>(base + stem_weights_at(s));
  for (int c = 0; c < s->out_channels; ++c) {
    for (int ky = 0; ky < s->kernel_h; ++ky) {
      for (int j = 0; j < stem_row_bytes(s); ++j) {
        int8_t* const to = weights + stem_weights_of(s, c / 16, ky, j / 4) + c % 16 * 4 + j % 4;
        *to = static_cast<int8_t>(fused_weight(s, *m++));
      }
    }
  }
  return true;
}

// Bytes of one row of input that a row of outputs reads.
static inline int stem_input_bytes(const FusedSpec* s) {
  return ((s->width - 1) * s->stride_w + s->kernel_w) * s->in_channels;
}
// Numbers in one row of sums: loads of them may reach two vectors behind the last.
static inline int64_t stem_sums_row(const FusedSpec* s) { return (stem_input_bytes(s) + 31) / 32 * 32 + 128; }

// out[i] = the sum of `count` numbers, `step` from one to the next, from column i on, of 0 .. n - 1. All of `from` is
// in memory by now: a load that needs two stores which are on their way waits for both.
static void add_numbers(const uint16_t* from, int64_t n, int count, int step, uint16_t* out) {
  for (int64_t i = 0; i < n; i += 32) {
    __m512i sum = _mm512_load_si512(from + i);
    for (int k = 1; k < count; ++k) sum = _mm512_add_epi16(sum, _mm512_loadu_si512(from + i + k * step));
    _mm512_store_si512(out + i, sum);
  }
}

// Two rows of numbers; what lies behind the last of a row stays 0.
static inline int64_t stem_room_bytes(const FusedSpec* s) { return 2 * stem_sums_row(s) * 2; }
static void clear_stem_room(const FusedSpec* s, uint16_t* room) {
  for (int64_t i = 0; i < 2 * stem_sums_row(s); i += 32) _mm512_store_si512(room + i, _mm512_setzero_si512());
}

// sums[x] = the sum of the codes in the window of output x, whose first is at `input`.
static void stem_window_sums(const FusedSpec* s, const uint8_t* input, int64_t row_bytes, uint16_t* room,
                             int32_t* sums) {
  const int64_t row = stem_sums_row(s), n = row - 128;
  uint16_t *const columns = room, *const pixels = room + row;
  for (int64_t i = 0; i < n; i += 32) {
    const int64_t left = stem_input_bytes(s) - i;
    const __mmask32 lanes = left >= 32 ? ~__mmask32{0} : (__mmask32{1} << left) - 1;
    __m512i sum = _mm512_setzero_si512();
    for (int ky = 0; ky < s->kernel_h; ++ky) {
      const __m256i codes = _mm256_maskz_loadu_epi8(lanes, input + ky * s->dilation_h * row_bytes + i);
      sum = _mm512_add_epi16(sum, _mm512_cvtepu8_epi16(codes));
    }
    _mm512_store_si512(columns + i, sum);
  }
  add_numbers(columns, n, s->in_channels, 1, pixels);
  add_numbers(pixels, n, s->kernel_w, s->in_channels, columns);
  const int step = s->stride_w * s->in_channels;
  for (int x = 0; x < s->width; ++x) sums[x] = columns[x * step];
}

static inline int64_t rounded(int64_t bytes) { return (bytes + 63) & -64; }
