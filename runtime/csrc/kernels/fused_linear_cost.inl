// What linear layers take, for both kernels. Included after fused_linear.inl.

// Of one core, for vectors of 64 bytes.
struct LinearMachine {
  double cycle;            // nanoseconds
  double multiply, other;  // cycles that a multiply-add takes where nothing waits, and another operation
  double cached, far;      // nanoseconds to get 64 bytes of weights from the second-level cache, and from behind it
  double cache_bytes;      // of weights that stay in the former from run to run; of twice as many none do
};

static LinearMachine linear_machine(Machine machine) {
  switch (machine) {
    case Machine::kZen4:
      return {0.27, 1.0, 0.5, 0.6, 1.6, 0.8e6};
    case Machine::kZen5:
      return {0.234, 0.5, 0.25, 0.35, 0.9, 0.8e6};
    case Machine::kIceLake:
      return {0.36, 0.52, 0.35, 0.6, 2.45, 1e6};
    case Machine::kSapphireRapids:
      return {0.37, 0.52, 0.35, 0.5, 2.45, 1.5e6};
    case Machine::kGeneric:
      break;
  }
  return {0.33, 1.0, 0.5, 0.6, 2.0, 0.8e6};
}

// Nanoseconds that come on top of the products of `pixels` pixels: calls, and what becomes of 64 channels of a pixel.
static double linear_rest(const FusedSpec* spec, double pixels) {
  const FusedEpilogue& e = spec->epilogue;
  const bool counted = e.wants_codes && e.rule == kFusedThresholds;
  const double finish = 12 + (e.wants_float ? 4 : 0) + (counted ? 2.5 * ((1 << e.bits) - 1) : 0);
  const double sums = 0.03 * spec->in_channels;
  return 150 + pixels * (static_cast<double>(linear_blocks(spec)) * finish + sums);
}

static double weight_nanoseconds(const FusedSpec* spec, const LinearMachine& on) {
  const double bytes = static_cast<double>(linear_bytes(spec)), beyond = bytes / on.cache_bytes - 1;
  const double far = beyond < 0 ? 0 : beyond > 1 ? 1 : beyond;
  return bytes / 64 * (far * on.far + (1 - far) * on.cached);
}
