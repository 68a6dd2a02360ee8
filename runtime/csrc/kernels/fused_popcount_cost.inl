// What the popcount kernels serve, and what it costs. Included inside a namespace of the kernel file's own.

// Cycles. Sapphire Rapids: fitted to 800 layers of all shapes and epilogues, half of which it gives within 6 %. The
// others by the throughput of their instructions, Zen 5's corrected by layers measured with kernels of this form.
struct PopcountRates {
  double gigahertz;
  double product;                 // and, count, add of a vector
  double narrow, dword;           // a broadcast of one or two bytes, of four
  double pair, tile;              // a plane pair of a tile, a tile
  double pixel, input;            // an output pixel, 64 bytes of an input pixel
  double bit8, bit16;             // a bit of 64 codes from lanes
  double ints, comparison;        // 16 codes of D by a line; a threshold of 16 numbers
  double scale, residual, codes;  // 16 floats; what they are added to; their codes
};

static inline PopcountRates popcount_rates(Machine machine) {
  switch (machine) {
    case Machine::kZen5:
      return {4.2, 0.8, 0.25, 0.25, 8, 6, 7, 1.2, 1.8, 3.2, 3, 1.0, 4, 2, 1.5};
    case Machine::kIceLake:
      return {2.9, 1.64, 1.0, 0.6, 17, 9, 12, 2.1, 4.3, 6.9, 5.8, 2.1, 6, 3.4, 3};
    case Machine::kSapphireRapids:
      return {2.5, 1.64, 1.0, 0.6, 17, 9, 12, 2.1, 4.3, 6.9, 5.8, 2.1, 6, 3.4, 3};
    default:
      return {3.6, 1.55, 0.25, 0.25, 14, 9, 10, 2, 3, 5, 5, 1.5, 6, 3, 3};
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
    return lane_thresholds_bytes<bytes>(s) < 1 << 24;
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

// Cycles of what becomes of the sums of an output pixel.
template <int bytes>
static double finish_cycles(const FusedSpec* s, const PopcountRates& r) {
  const FusedEpilogue* const e = &s->epilogue;
  const double sixteens = (s->out_channels + 15) / 16, groups = padded_channels(s) / kFusedChannels;
  const double comparisons = e->rule == kFusedThresholds ? ((1 << e->bits) - 1) * r.comparison : 0;
  const bool codes_of_y = e->wants_codes && !e->codes_from_int;
  double cycles = 0;
  if (has_lane_codes<bytes>(s)) {
    cycles += groups * e->bits * (bytes == 1 ? r.bit8 : r.bit16);
  } else if (e->wants_codes && e->codes_from_int) {
    cycles += sixteens * (r.ints + comparisons);
  }
  if (!e->wants_float && !codes_of_y) return cycles;
  return cycles + sixteens * (r.scale + (e->has_residual ? r.residual : 0) + (codes_of_y ? r.codes + comparisons : 0));
}

template <int bytes>
static double cost(const FusedSpec* s, Machine machine) {
  if (!serves<bytes>(s)) return -1;
  const PopcountRates r = popcount_rates(machine);
  const double pixels = static_cast<double>(s->height) * s->width;
  const double inputs = static_cast<double>(s->height * s->stride_h + s->kernel_h - 1) * window_row_pixels(s);
  const double per_input = s->activation_bits * r.input * ((plane_pixel_bytes(s) + 63) / 64);
  return (pixels * (r.pixel + count_cycles<bytes>(s, r) + finish_cycles<bytes>(s, r)) + inputs * per_input) /
         r.gigahertz;
}

template <int bytes>
static constexpr FusedKernel kernel(const char* name) {
  return {name, cost<bytes>, prepared_bytes<bytes>, prepare<bytes>, scratch_bytes<bytes>, run<bytes>};
}
