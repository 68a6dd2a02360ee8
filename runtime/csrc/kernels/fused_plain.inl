// From D in int32 to floats and codes (fused.h, FusedEpilogue) in loops that compilers vectorise, 64 channels of a
// pixel at a time. Included inside a namespace of the kernel file's own.

static int32_t sum_of_codes(const uint8_t* x, int32_t channels) {
  int32_t sum = 0;
  for (int32_t k = 0; k < channels; ++k) sum += x[k];
  return sum;
}

// Where a pixel's channel 0 is; null where nothing of the kind is read or written.
struct PlainPixel {
  uint8_t* codes;
  float* out;
  const float* residual;
  int64_t codes_plane;
};

// y of 64 channels from `first` on; of the residual `channels` numbers are read.
static void plain_values(const FusedEpilogue* e, int32_t first, int32_t channels, const int32_t* d,
                         const float* residual, float* y) {
  const float *multiply = e->multiply + first, *offset = e->offset + first;
  for (int c = 0; c < kFusedChannels; ++c) y[c] = static_cast<float>(d[c]) * multiply[c] + offset[c];
  if (e->norm_multiply != nullptr) {
    const float *norm_multiply = e->norm_multiply + first, *norm_offset = e->norm_offset + first;
    for (int c = 0; c < kFusedChannels; ++c) y[c] = __builtin_fmaf(y[c], norm_multiply[c], norm_offset[c]);
  }
  if (residual != nullptr) {
    for (int c = 0; c < channels; ++c) y[c] = y[c] + residual[first + c];
  }
  if (e->relu) {
    for (int c = 0; c < kFusedChannels; ++c) y[c] = y[c] < 0.0f ? 0.0f : y[c];
  }
}

// round_half_even of 0 .. 255: at this magnitude a float has no fraction.
static inline int32_t round_code(float v) {
  constexpr float kShift = 12582912.0f;  // 1.5 * 2^23
  return static_cast<int32_t>(v + kShift - kShift);
}

// Codes of 64 numbers, D or y, of channels from `first` on.
template <class Number>
static void plain_codes(const FusedEpilogue* e, int32_t first, int64_t padded, const Number* x, int32_t* codes) {
  const int32_t n = (1 << e->bits) - 1;
  if (e->rule == kFusedThresholds) {
    for (int c = 0; c < kFusedChannels; ++c) codes[c] = 0;
    const Number* t = static_cast<const Number*>(e->thresholds) + first;
    for (int32_t j = 0; j < n; ++j, t += padded) {
      for (int c = 0; c < kFusedChannels; ++c) codes[c] += x[c] >= t[c] ? 1 : 0;
    }
    return;
  }
  const float *multiply = e->line_multiply + first, *offset = e->line_offset + first, most = static_cast<float>(n);
  for (int c = 0; c < kFusedChannels; ++c) {
    float v = static_cast<float>(x[c]) * multiply[c] + offset[c];
    v = v > 0.0f ? v : 0.0f;  // 0 where it is NaN
    v = v < most ? v : most;
    codes[c] = round_code(v);
  }
}

static void store_plain_codes(const FusedEpilogue* e, int32_t first, int32_t channels, const int32_t* codes,
                              const PlainPixel* to) {
  uint8_t bytes[kFusedChannels];
  for (int c = 0; c < kFusedChannels; ++c) bytes[c] = static_cast<uint8_t>(c < channels ? codes[c] : 0);
  if (!e->planes) {
    __builtin_memcpy(to->codes + first, bytes, static_cast<unsigned>(channels));
    return;
  }
  for (int32_t b = 0; b < channels; b += 8) {
    uint64_t word;
    __builtin_memcpy(&word, bytes + b, 8);
    uint8_t* plane = to->codes + (first + b) / 8;
    for (int32_t i = 0; i < e->bits; ++i, plane += to->codes_plane) {
      *plane = static_cast<uint8_t>((word >> i & 0x0101010101010101u) * 0x0102040810204080u >> 56);
    }
  }
}

// All that leaves of channels first .. first + channels - 1 of a pixel; d holds 64 of them.
static void finish_plain(const FusedEpilogue* e, int32_t first, int32_t channels, int64_t padded, const int32_t* d,
                         const PlainPixel* to) {
  int32_t codes[kFusedChannels];
  float y[kFusedChannels];
  if (e->wants_codes && e->codes_from_int) {
    plain_codes(e, first, padded, d, codes);
    store_plain_codes(e, first, channels, codes, to);
  }
  if (!e->wants_float && !(e->wants_codes && !e->codes_from_int)) return;
  plain_values(e, first, channels, d, e->has_residual ? to->residual : nullptr, y);
  if (e->wants_float) __builtin_memcpy(to->out + first, y, static_cast<unsigned>(channels) * 4);
  if (!e->wants_codes || e->codes_from_int) return;
  plain_codes(e, first, padded, y, codes);
  store_plain_codes(e, first, channels, codes, to);
}
