// Where the pixels of a band are, for linear layers. Included after fused_linear.inl, and a function
//   int32_t sum_of_codes(const uint8_t* x, int32_t channels)

// Pixels that share a pass over the weights: where they are, and the sums of their codes.
constexpr int kLinearBand = 128;

struct LinearPixels {
  int32_t count;
  const uint8_t* x[kLinearBand];
  uint8_t* codes[kLinearBand];
  float* out[kLinearBand];
  const float* residual[kLinearBand];
  const int32_t* border[kLinearBand];
  int32_t sums[kLinearBand];
};

template <class Pointer>
static inline Pointer moved(Pointer from, int64_t bytes) {
  return from == nullptr ? nullptr
                         : reinterpret_cast<Pointer>(reinterpret_cast<uintptr_t>(from) + static_cast<uintptr_t>(bytes));
}

// Pixels from `first` on, `most` at most.
static void locate_pixels(const FusedSpec* spec, const FusedBand* band, int32_t first, int32_t most, LinearPixels* to) {
  const FusedEpilogue& e = spec->epilogue;
  const int32_t width = band->width, all = band->rows * width;
  const int64_t padded = linear_blocks(spec) * kFusedChannels;
  to->count = all - first < most ? all - first : most;
  for (int32_t i = 0; i < to->count; ++i) {
    const int64_t y = (first + i) / width, x = (first + i) % width;
    to->x[i] = band->input + y * spec->stride_h * band->row_bytes + x * spec->stride_w * band->pixel_bytes;
    to->codes[i] = moved(band->codes, y * band->codes_row + x * band->codes_pixel);
    to->out[i] = moved(band->out, y * band->out_row + x * band->out_pixel);
    to->residual[i] = moved(band->residual, y * band->residual_row + x * band->residual_pixel);
    to->sums[i] = sum_of_codes(to->x[i], spec->in_channels);
    if (e.border == nullptr) continue;
    const bool one = e.row_classes * e.column_classes == 1;
    to->border[i] =
        one ? e.border : e.border + (e.row_class[band->y0 + y] * e.column_classes + e.column_class[x]) * padded;
  }
}
