// What depthwise kernels cost with AVX2. Text of avx2.cpp.

// Operations of 32 outputs, and how many begin in a nanosecond; those of 32 floats by the stages.
static double dw_cost(const FusedSpec* s, Machine machine) {
  if (!dw_serves(s)) return -1;
  const DwShape f = dw_shape(s);
  const FusedEpilogue* e = &s->epilogue;
  const double per_ns = machine == Machine::kZen5 ? 14 : machine == Machine::kZen4 ? 9 : 4.5;
  const double taps = s->kernel_h * s->kernel_w;
  double block = 2 * taps + 4;
  if (f.kind != kDwBytes) {
    dw_with_pairs(s, [&](auto pairs) {
      using P = decltype(pairs);
      const double moves = (f.kind == kDwWords ? 4.0 : 8.0) * P::kPairs,
                   products = (f.kind == kDwWords ? 4.0 : 8.0) * P::kUsed;
      block = P::kKernel * (moves + products) / (s->stride_h > 2 || s->dilation_h != 1 ? 1 : 2) + 4;
    });
  }
  if (f.finish == kDwTile) {
    block +=
        20 + (e->has_float ? 40 + (e->has_residual ? 12 : 0) : 0) + (e->wants_codes ? 30 + 12 * f.levels / 4.0 : 0);
  } else {
    block += f.finish == kDwLine ? 40 : 6 + (f.finish == kDwByteCodes ? 2 : 4) * f.levels;
  }
  const double pixels = static_cast<double>(s->height) * s->width;
  return 200 + pixels * (f.blocks * (block + 8) + 12) / per_ns;
}

static constexpr FusedKernel kFusedDepthwise = {"depthwise32 avx2", dw_cost,          dw_prepared_bytes,
                                                dw_prepare,         dw_scratch_bytes, dw_run};
