// What is prepared for counts in lanes of `bytes` bytes: shapes, thresholds, weights. Included inside a namespace of
// the kernel file's own, after fused_windows.inl.

static inline int plane_pixel_bytes(const FusedSpec* s) { return (s->in_channels + 7) / 8; }
static inline bool rows_are_runs(const FusedSpec* s) { return s->dilation_w == 1 || s->kernel_w == 1; }
static inline int run_count(const FusedSpec* s) { return rows_are_runs(s) ? s->kernel_h : s->kernel_h * s->kernel_w; }
static inline int run_bytes(const FusedSpec* s) {
  return rows_are_runs(s) ? s->kernel_w * plane_pixel_bytes(s) : plane_pixel_bytes(s);
}
template <int bytes>
static inline int run_steps(const FusedSpec* s) {
  return (run_bytes(s) + bytes - 1) / bytes;
}
template <int bytes>
static inline int64_t vector_weight_bytes(const FusedSpec* s) {
  return int64_t{64} * s->weight_bits * run_count(s) * run_steps<bytes>(s);
}

// code_step is 1, 2 or 4.
static inline int code_step_bits(const FusedSpec* s) { return s->code_step >> 1; }

// Codes of D by thresholds in lanes.
template <int bytes>
static inline bool has_lane_codes(const FusedSpec* s) {
  const FusedEpilogue* const e = &s->epilogue;
  return bytes < 4 && e->wants_codes && e->codes_from_int && e->bits <= 4;
}

// ---- What is prepared: [PixelSpread][thresholds in lanes][weights] ----

static inline int64_t in_lines(int64_t bytes) { return (bytes + 63) / 64 * 64; }
constexpr int64_t kThresholdsAt = 128;
static_assert(sizeof(PixelSpread) <= kThresholdsAt, "the thresholds lie behind");

template <int bytes>
static int64_t weights_at(const FusedSpec* s) {
  return kThresholdsAt + (has_lane_codes<bytes>(s) ? in_lines(lane_thresholds_bytes<bytes>(s)) : 0);
}

template <int bytes>
static int64_t prepared_bytes(const FusedSpec* s) {
  const int64_t vectors = padded_channels(s) * bytes / 64;
  return weights_at<bytes>(s) + vectors * vector_weight_bytes<bytes>(s);
}

// 8 codes, or the last of them, as the bytes of a qword.
static inline uint64_t eight_codes(const uint8_t* from, int count) {
  uint64_t codes = 0;
  __builtin_memcpy(&codes, from, static_cast<unsigned long>(count < 8 ? count : 8));
  return codes;
}

template <int bytes>
static void set_weights(const FusedSpec* s, const uint8_t* m, uint8_t* to) {
  const int lanes = 64 / bytes, per_run = run_steps<bytes>(s), taps = s->kernel_h * s->kernel_w;
  const int64_t plane = int64_t{64} * run_count(s) * per_run;
  for (int c = 0; c < s->out_channels; ++c) {
    uint8_t* channel = to + c / lanes * vector_weight_bytes<bytes>(s) + c % lanes * bytes;
    for (int tap = 0; tap < taps; ++tap) {
      const int run = rows_are_runs(s) ? tap / s->kernel_w : tap;
      const int first = rows_are_runs(s) ? tap % s->kernel_w * plane_pixel_bytes(s) : 0;
      for (int k = 0; k < s->in_channels; k += 8) {
        const int byte = first + k / 8;
        uint8_t* step = channel + int64_t{64} * (run * per_run + byte / bytes) + byte % bytes;
        const uint64_t codes = eight_codes(m + k, s->in_channels - k);
        for (int j = 0; j < s->weight_bits; ++j) {
          step[j * plane] = static_cast<uint8_t>(_pext_u64(codes >> j, 0x0101010101010101));
        }
      }
      m += s->in_channels;
    }
  }
}

template <int bytes>
static bool prepare(const FusedSpec* s, const uint8_t* m, void* prepared) {
  uint8_t* const to = static_cast<uint8_t*>(prepared);
  set_pixel_spread(plane_pixel_bytes(s), static_cast<PixelSpread*>(prepared));
  if constexpr (bytes < 4) {
    if (has_lane_codes<bytes>(s)) set_lane_thresholds<bytes>(s, to + kThresholdsAt);
  }
  set_weights<bytes>(s, m, to + weights_at<bytes>(s));
  return true;
}
