// Linear layers from sums of m q on, in loops that compilers vectorise. Included after fused_plain.inl,
// fused_linear_pixels.inl and
//   constexpr int kMostField, kMostPixels        of weights in bits, at a time
//   template <int field> void multiply(const uint8_t* const* x, int pixels, const uint8_t* weights, int64_t groups,
//                                      int32_t* sums)      [pixels][64] sums of m q of the weights of one block

// D from sums of m q.
static void correct_sums(const FusedSpec* spec, int32_t codes, const int32_t* border, int32_t* sums) {
  const auto step = static_cast<uint32_t>(spec->code_step);
  const uint32_t add = static_cast<uint32_t>(spec->lowest_code) * static_cast<uint32_t>(codes);
  for (int c = 0; c < kFusedChannels; ++c) {
    sums[c] = static_cast<int32_t>(step * static_cast<uint32_t>(sums[c]) + add);
  }
  if (border == nullptr) return;
  for (int c = 0; c < kFusedChannels; ++c) sums[c] += border[c];
}

template <int field>
static void run_block(const FusedSpec* spec, const FusedBand* band, const LinearPixels* pixels, int32_t channel) {
  int32_t sums[kMostPixels * kFusedChannels];
  const FusedEpilogue* const e = &spec->epilogue;
  const int32_t left = band->first_channel + band->channels - channel;
  const int32_t channels = left < kFusedChannels ? left : kFusedChannels;
  const uint8_t* const weights =
      static_cast<const uint8_t*>(band->prepared) + channel / kFusedChannels * linear_block_bytes(spec);
  for (int32_t p = 0, count; p < pixels->count; p += count) {
    count = pixels->count - p < kMostPixels ? pixels->count - p : kMostPixels;
    multiply<field>(pixels->x + p, count, weights, linear_groups(spec), sums);
    for (int32_t i = 0; i < count; ++i) {
      int32_t* const d = sums + i * kFusedChannels;
      correct_sums(spec, pixels->sums[p + i], e->border != nullptr ? pixels->border[p + i] + channel : nullptr, d);
      const PlainPixel to = {pixels->codes[p + i], pixels->out[p + i], pixels->residual[p + i], band->codes_plane};
      finish_plain(e, channel, channels, linear_blocks(spec) * kFusedChannels, d, &to);
    }
  }
}

static void run(const FusedSpec* spec, const FusedBand* band) {
  LinearPixels pixels;
  const int32_t all = band->rows * band->width, past = band->first_channel + band->channels;
  const int32_t field = field_bits(spec->weight_bits);
  for (int32_t first = 0; first < all; first += kLinearBand) {
    locate_pixels(spec, band, first, kLinearBand, &pixels);
    for (int32_t c = band->first_channel; c < past; c += kFusedChannels) {
      if (field == 1) run_block<1>(spec, band, &pixels, c);
      if (field == 2) run_block<2>(spec, band, &pixels, c);
      if (field == 4) run_block<4>(spec, band, &pixels, c);
      if constexpr (kMostField == 8) {
        if (field == 8) run_block<8>(spec, band, &pixels, c);
      }
    }
  }
}

static bool prepare(const FusedSpec* spec, const uint8_t* m, void* prepared) {
  prepare_linear_weights(spec, m, false, prepared);
  return true;
}

static int64_t scratch_bytes(const FusedSpec*) { return 0; }
