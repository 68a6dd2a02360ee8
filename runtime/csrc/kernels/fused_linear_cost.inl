// What linear layers take, for both kernels. Included after fused_linear.inl.

// Of one core, for vectors of 64 bytes.
struct LinearMachine {
  double cycle;            // nanoseconds
  double multiply, other;  // cycles that a multiply-add takes where nothing waits, and another operation
  double cached, far;      // nanoseconds to get 64 bytes of weights from the second-level cache, and from behind it
  double call, pixel;      // of a layer, of a pixel
  double result, scale, residual, out, line, comparison;  // of 64 channels of a pixel
  double sum;                                             // 64 codes of a pixel
  double cache_bytes;  // of weights that stay in the former from run to run; of twice as many none do
};

constexpr LinearMachine kLinearZen4 = {0.27, 1.0, 0.5, 0.6, 1.6, 150, 2, 12, 2, 4, 4, 4, 2.5, 1.9, 0.8e6};
constexpr LinearMachine kLinearZen5 = {0.234, 0.5, 0.25, 0.35, 0.9, 150, 2, 12, 2, 4, 4, 4, 2.5, 1.9, 0.8e6};
constexpr LinearMachine kLinearIceLake = {0.436, 0.482, 0.439, 0.516, 2.45,  139,   0.526, 19.7,
                                          0.1,   0.2,   2.27,  5.98,  0.201, 0.769, 1e6};
constexpr LinearMachine kLinearSapphireRapids = {0.436, 0.482, 0.439, 0.516, 2.45,  139,   0.526, 19.7,
                                                 0.1,   0.2,   2.27,  5.98,  0.201, 0.769, 1.5e6};
constexpr LinearMachine kLinearGeneric = {0.33, 1.0, 0.5, 0.6, 2.0, 150, 2, 12, 2, 4, 4, 4, 2.5, 1.9, 0.8e6};

// By reference: GCC 12 copies such a structure by vectors, and does not clear their upper halves when it returns.
static const LinearMachine& linear_machine(Machine machine) {
  switch (machine) {
    case Machine::kZen4:
      return kLinearZen4;
    case Machine::kZen5:
      return kLinearZen5;
    case Machine::kIceLake:
      return kLinearIceLake;
    case Machine::kSapphireRapids:
      return kLinearSapphireRapids;
    case Machine::kGeneric:
      break;
  }
  return kLinearGeneric;
}

// Nanoseconds that come on top of the products of `pixels` pixels: calls, and what becomes of 64 channels of a pixel.
static double linear_rest(const FusedSpec* spec, const LinearMachine& on, double pixels) {
  const FusedEpilogue& e = spec->epilogue;
  const double codes = e.rule == kFusedThresholds ? ((1 << e.bits) - 1) * on.comparison : on.line;
  const double finish = on.result + (e.has_float ? on.scale : 0) + (e.has_residual ? on.residual : 0) +
                        (e.wants_float ? on.out : 0) + (e.wants_codes ? codes : 0);
  const double sums = (spec->in_channels + 63) / 64 * on.sum;
  return on.call + pixels * (on.pixel + static_cast<double>(linear_blocks(spec)) * finish + sums);
}

static double weight_nanoseconds(const FusedSpec* spec, const LinearMachine& on) {
  const double bytes = static_cast<double>(linear_bytes(spec)), beyond = bytes / on.cache_bytes - 1;
  const double far = beyond < 0 ? 0 : beyond > 1 ? 1 : beyond;
  return bytes / 64 * (far * on.far + (1 - far) * on.cached);
}
