// What the popcount kernels serve, and what it costs. Included inside a namespace of the kernel file's own.

// Cycles. Sapphire Rapids: fitted to 2800 times of layers of ten networks, kernel by kernel, half of which it gives
// within 5 %. The others by the throughput of their instructions, Zen 5's corrected by layers measured with kernels of
// this form.
struct PopcountRates {
  double gigahertz;
  double product;                 // and, count, add of a vector
  double narrow, dword;           // a broadcast of one or two bytes, of four
  double pair, tile;              // a plane pair of a tile, a tile
  double pixel, input;            // an output pixel, 64 bytes of an input pixel
  double bit8, bit16;             // a bit of 64 codes from lanes
  double ints, comparison;        // 16 codes of D by a line; a threshold of 16 numbers
  double scale, residual, codes;  // 16 floats; what they are added to; their codes
  double call;                    // of a layer
  double far;                     // 16 floats at least, where there are more than the L2 cache holds
};

constexpr int64_t kNear = 3 << 19;  // bytes

constexpr PopcountRates kOfZen5 = {4.2, 0.78, 0.25, 0.25, 5, 5, 5, 1.0, 1.3, 2.2, 3, 1.0, 4, 2, 1.5, 400, 4.5};
constexpr PopcountRates kOfFew = {2.9,  1.43, 0.978, 0.6, 4.23, 0.45, 0.6, 2.63, 6.58,
                                  2.44, 5.8,  2.1,   0.3, 3.4,  3,    548, 12};
constexpr PopcountRates kOfBytes = {2.9, 2.39, 0.06, 0.6,  18.7, 20.1, 2.94, 1.57, 3.57,
                                    6.9, 5.8,  2.1,  6.44, 2.82, 4.09, 660,  9.32};
constexpr PopcountRates kOfWords = {2.9,  1.81, 0.789, 0.6,  15.5, 15.5, 4.25, 1.05, 4.3,
                                    5.98, 5.8,  2.1,   7.52, 3.3,  3.64, 654,  9.99};
constexpr PopcountRates kOfDwords = {2.9, 1.65, 1.2,   0.463, 12.1, 17.6, 8.48, 0.932, 4.3,
                                     6.9, 10.3, 0.105, 7.88,  4.47, 4.3,  617,  10.4};
constexpr PopcountRates kOfOthers = {3.6, 1.55, 0.25, 0.25, 14, 9, 10, 2, 3, 5, 5, 1.5, 6, 3, 3, 400, 9};

// By reference: GCC 12 copies such a structure by vectors, and does not clear their upper halves when it returns.
static inline const PopcountRates& popcount_rates(Machine machine, int bytes, bool few) {
  switch (machine) {
    case Machine::kZen5:
      return kOfZen5;
    case Machine::kIceLake:
    case Machine::kSapphireRapids:
      if (few) return kOfFew;
      return bytes == 1 ? kOfBytes : bytes == 2 ? kOfWords : kOfDwords;
    default:
      return kOfOthers;
  }
}

template <int bytes>
static bool serves(const FusedSpec* s) {
  const FusedEpilogue* const e = &s->epilogue;
  if (s->groups != 1 || !s->input_planes) return false;
  if (s->code_step != 1 && s->code_step != 2 && s->code_step != 4) return false;
  if (e->wants_codes && e->bits > 4 && e->rule != kFusedLine) return false;
  if (border_classes(s) > 1024) return false;
  if constexpr (bytes < 4) {
    if (!sums_fit_lanes<bytes>(s) || s->largest_product > (bytes == 1 ? 255 : 65535)) return false;
    if (s->largest_border >= 1 << 22) return false;
    return !has_lane_codes<bytes>(s) || lane_thresholds_bytes<bytes>(s) < 1 << 24;
  }
  return s->largest_sum + s->largest_border < int64_t{1} << 31;
}

// Cycles of all products of an output pixel.
template <int bytes>
static double count_cycles(const FusedSpec* s, const PopcountRates& r) {
  const int lanes = 64 / bytes, vectors = (s->out_channels + lanes - 1) / lanes, rest = vectors % kBlockVectors;
  const int steps = run_count(s) * run_steps<bytes>(s), pairs = s->weight_bits * s->activation_bits;
  const double wide = vectors / kBlockVectors, broadcast = bytes < 4 ? r.narrow : r.dword;
  const double tiles = wide / 4 + (rest == 0 ? 0 : rest == 3 ? 0.2 : 0.125);
  const double blocks = wide + (rest != 0);
  return pairs * (steps * (vectors * r.product + blocks * broadcast) + tiles * r.pair) + tiles * r.tile;
}

static double comparison_cycles(const FusedSpec* s, const PopcountRates& r) {
  return s->epilogue.rule == kFusedThresholds ? ((1 << s->epilogue.bits) - 1) * r.comparison : 0;
}

static double finish_y_cycles(const FusedSpec* s, const PopcountRates& r) {
  const FusedEpilogue* const e = &s->epilogue;
  const bool codes = e->wants_codes && !e->codes_from_int;
  if (!e->wants_float && !codes) return 0;
  const double sixteen = r.scale + (e->has_residual ? r.residual : 0) + (codes ? r.codes + comparison_cycles(s, r) : 0);
  const bool far = (e->has_residual || e->wants_float) && int64_t{4} * s->height * s->width * s->out_channels > kNear;
  return (s->out_channels + 15) / 16 * (far && sixteen < r.far ? r.far : sixteen);
}

// Cycles of what becomes of the sums of an output pixel.
template <int bytes>
static double finish_cycles(const FusedSpec* s, const PopcountRates& r) {
  const FusedEpilogue* const e = &s->epilogue;
  const double sixteens = (s->out_channels + 15) / 16, groups = padded_channels(s) / kFusedChannels;
  double cycles = 0;
  if (has_lane_codes<bytes>(s)) {
    cycles += groups * e->bits * (bytes == 1 ? r.bit8 : r.bit16);
  } else if (e->wants_codes && e->codes_from_int) {
    cycles += sixteens * (r.ints + comparison_cycles(s, r));
  }
  return cycles + finish_y_cycles(s, r);
}

// Cycles of all window sums.
static double input_cycles(const FusedSpec* s, const PopcountRates& r) {
  const double inputs = static_cast<double>(s->height * s->stride_h + s->kernel_h - 1) * window_row_pixels(s);
  return inputs * s->activation_bits * r.input * ((plane_pixel_bytes(s) + 63) / 64);
}

template <int bytes>
static double cost(const FusedSpec* s, Machine machine) {
  if (!serves<bytes>(s)) return -1;
  const PopcountRates& r = popcount_rates(machine, bytes, false);
  const double pixels = static_cast<double>(s->height) * s->width;
  const double counted = pixels < 2.7 ? 2.7 : pixels;  // weights are loaded for several pixels, or for one
  return (counted * count_cycles<bytes>(s, r) + pixels * (r.pixel + finish_cycles<bytes>(s, r)) + input_cycles(s, r) +
          r.call) /
         r.gigahertz;
}

// Few channels in several pixels: a vector each.
static bool few_serves(const FusedSpec* s) {
  const FusedEpilogue* const e = &s->epilogue;
  if (s->out_channels > 32 || s->code_step > 2 || !serves<2>(s)) return false;
  if (e->row_classes * e->column_classes > 1 && few_has_codes(s)) return false;
  const FewShape shape = few_shape(s);
  return shape.pixels > 1 && (shape.pixels - 1) * s->stride_w * plane_pixel_bytes(s) + shape.bytes <= 64;
}

static double few_cost(const FusedSpec* s, Machine machine) {
  if (!few_serves(s)) return -1;
  const PopcountRates& r = popcount_rates(machine, 2, true);
  const FewShape shape = few_shape(s);
  const int pairs = s->weight_bits * s->activation_bits;
  const double vectors = static_cast<double>(s->height) * ((s->width + shape.pixels - 1) / shape.pixels);
  // Loads of windows cross cache lines, and a permutation takes what belongs to the pixels.
  const double step = r.product + 2 * r.narrow, tile = (pairs * r.pair + r.tile) / kFewVectors;
  const double bit = shape.bytes == 1 ? r.bit8 : r.bit16;
  // What is not 16 channels side by side is stored pixel by pixel.
  const double codes = few_has_codes(s) ? (s->out_channels == 16 ? 1 : 3) * s->epilogue.bits * bit : 0;
  const double count = vectors * (pairs * few_steps(s, shape.bytes) * step + tile + codes);
  const double floats = few_has_codes(s) ? finish_y_cycles(s, r) : finish_cycles<2>(s, r);
  const double pixels = static_cast<double>(s->height) * s->width;
  return (count + pixels * (0.4 * r.pixel + floats) + input_cycles(s, r) + r.call) / r.gigahertz;
}

template <int bytes>
static constexpr FusedKernel kernel(const char* name) {
  return {name, cost<bytes>, prepared_bytes<bytes>, prepare<bytes>, scratch_bytes<bytes>, run<bytes>};
}
