// What the popcount kernels serve, and what it costs. Included inside a namespace of the kernel file's own.

template <int bytes>
static bool serves(const FusedSpec* s) {
  const FusedEpilogue* const e = &s->epilogue;
  if (s->groups != 1 || !s->input_planes) return false;
  if (s->code_step != 1 && s->code_step != 2) return false;
  if (e->wants_codes && e->bits > 4 && e->rule != kFusedLine) return false;
  const int64_t classes = border_classes(s);
  if (classes < 1 || classes > 1024) return false;
  if constexpr (bytes < 4) {
    if (!sums_fit_lanes<bytes>(s) || s->largest_product > (bytes == 1 ? 255 : 65535)) return false;
    if (s->largest_border >= 1 << 22) return false;
    return lane_thresholds_bytes<bytes>(s) < 1 << 24;
  }
  return true;
}

template <int bytes>
static double cost(const FusedSpec* s, Machine) {
  if (!serves<bytes>(s)) return -1;
  return 1;
}

template <int bytes>
static constexpr FusedKernel kernel(const char* name) {
  return {name, cost<bytes>, prepared_bytes<bytes>, prepare<bytes>, scratch_bytes<bytes>, run<bytes>};
}
