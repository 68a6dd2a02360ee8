// What tables cost beside their look-ups. Included inside a namespace of the kernel file's own, after
// fused_table_walk.inl.

// Cycles. Sapphire Rapids measured in layers; the others by the throughput of their instructions, Zen 5's corrected by
// layers measured with kernels of this form.
struct FinishRates {
  double gigahertz;
  double pixel;                                          // of the output, whatever its channels
  double call;                                           // of a layer
  double bit, ints, comparison, scale, residual, codes;  // 64 channels, as in fused_popcount_cost.inl
};

static inline FinishRates finish_rates(Machine machine) {
  switch (machine) {
    case Machine::kZen5:
      return {4.2, 8, 600, 3.6, 13, 4, 12, 8, 6};
    case Machine::kIceLake:
      return {2.9, 14, 600, 8.6, 28, 8.4, 24, 24, 13.6};
    case Machine::kSapphireRapids:
      return {2.5, 23.5, 30, 12.6, 28, 8.4, 37.6, 18.6, 19.3};
    default:
      return {3.6, 12, 600, 6, 20, 6, 20, 24, 12};
  }
}

// Cycles of what becomes of the sums of 64 channels of a pixel.
static double finish_cycles(const FusedSpec* s, const FinishRates& r) {
  const FusedEpilogue* const e = &s->epilogue;
  const double comparisons = e->rule == kFusedThresholds ? ((1 << e->bits) - 1) * r.comparison : 0;
  const bool codes_of_y = e->wants_codes && !e->codes_from_int;
  double cycles = 0;
  if (has_lane_codes(s)) {
    cycles += e->bits * r.bit;
  } else if (e->wants_codes && e->codes_from_int) {
    cycles += r.ints + comparisons;
  }
  if (!e->wants_float && !codes_of_y) return cycles;
  return cycles + r.scale + (e->has_residual ? r.residual : 0) + (codes_of_y ? r.codes + comparisons : 0);
}

// Cycles of look-ups and expanded tables, by those of a column of 64 channels and of a column's tables, both of a pair
// of groups.
static double walk_cycles(const FusedSpec* s, const TablesScratch& scratch, double pairs, double look_ups,
                          double tables) {
  const int parts = padded_channels(s) / 64, bands = (s->height + scratch.rows - 1) / scratch.rows;
  const int blocks = (parts + scratch.parts - 1) / scratch.parts;
  return scratch.columns * pairs * (s->height * parts * look_ups + (s->height + 2.0 * bands) * blocks * tables);
}

static double finished_cycles(const FusedSpec* s, const FinishRates& r) {
  return r.call + static_cast<double>(s->height) * s->width * (r.pixel + padded_channels(s) / 64 * finish_cycles(s, r));
}
