// What depthwise kernels cost with NEON. Text of neon.cpp and neon_dotprod.cpp.

// Cycles of 16 outputs, from throughputs of Cortex-A76 and Neoverse N1, not measured: two vector operations a cycle, of
// which one multiplies, and two loads.
static double dw_cost(const FusedSpec* s, Machine) {
  if (!dw_serves(s)) return -1;
  constexpr double kGigahertz = 2.5;
  const DwShape f = dw_shape(s);
  const FusedEpilogue* e = &s->epilogue;
  const double taps = s->kernel_h * s->kernel_w;
  const bool wide = f.kind == kDwWords && s->activation_bits == 8;
  double half = taps * (f.kind == kDwBytes ? 1 : f.kind == kDwInts ? 5 : wide ? 4 : 2) + 4;
  if (f.finish == kDwTile) {
    half += 8 + (e->has_float ? 16 + (e->has_residual ? 4 : 0) : 0) + (e->wants_codes ? 20 + 2 * f.levels : 0);
  } else {
    half += f.finish == kDwLine ? 24 : 4 + f.levels * (f.finish == kDwByteCodes ? 1 : 2);
  }
  if (e->wants_codes && e->planes) half += 6 * e->bits;
  const double pixels = static_cast<double>(s->height) * s->width;
  return 500 + pixels * (2 * f.blocks * half + 10) / kGigahertz;
}
