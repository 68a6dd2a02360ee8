// What it takes to finish a list's pixels. Included after fused_list.inl.

// Nanoseconds, of 16 channels of a pixel but for `window`, a pixel's where weights are halved.
struct FinishNanoseconds {
  double codes, unit;           // of D by a line; of y by the unit quantizer, where nothing else leaves
  double scale, residual, out;  // floats: from D, what they are added to, written
  double line, comparison;      // their codes, by a line; a threshold of them
  double window;
  double far;  // a float read or written, at least, where the second-level cache does not hold them
};

constexpr int64_t kNearFloats = 3 << 19;  // bytes

// Of the whole image.
static double finish_nanoseconds(const FusedSpec* s, const FinishNanoseconds& ns) {
  const FusedEpilogue* const e = &s->epilogue;
  const double pixels = double{1} * s->height * s->width, sixteens = (s->out_channels + 15) / 16;
  const bool codes = e->wants_codes && !e->codes_from_int;
  double taken = e->wants_codes && e->codes_from_int ? ns.codes : 0;
  if (codes && e->rule == kFusedLine && !e->wants_float && !e->has_residual) {
    taken += ns.unit;
  } else if (e->has_float) {
    const double compared = e->rule == kFusedThresholds ? ((1 << e->bits) - 1) * ns.comparison : ns.line;
    const double floats = ns.scale + (e->has_residual ? ns.residual : 0) + (e->wants_float ? ns.out : 0);
    const bool far = int64_t{4} * s->height * s->width * s->out_channels > kNearFloats;
    const double moved = far ? (e->has_residual + e->wants_float) * ns.far : 0;
    taken += floats + moved + (codes ? compared : 0);
  }
  return pixels * (sixteens * taken + (fused_halved(s) ? ns.window : 0));
}
