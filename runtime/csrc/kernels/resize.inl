// Loops that the compiler vectorises with the flags of the file. Sums go from left to right; nothing is fused.

static void blend_two(float* __restrict out, const float* a, const float* b, float wa, float wb, int64_t n) {
  for (int64_t i = 0; i < n; ++i) out[i] = a[i] * wa + b[i] * wb;
}

static void blend_four(float* __restrict out, const float* const* in, const float* w, int64_t n) {
  const float *a = in[0], *b = in[1], *c = in[2], *d = in[3];
  const float wa = w[0], wb = w[1], wc = w[2], wd = w[3];
  for (int64_t i = 0; i < n; ++i) out[i] = ((a[i] * wa + b[i] * wb) + c[i] * wc) + d[i] * wd;
}

static void blend_rows(float* out, const float* const* in, const float* weights, int32_t count, int64_t n) {
  if (count == 2) return blend_two(out, in[0], in[1], weights[0], weights[1], n);
  blend_four(out, in, weights, n);
}

// Few channels: their number known, the loop over them is gone.
template <int kChannels>
static void blend_pixels_of(const ResizeColumns* r) {
  for (int64_t x = 0; x < r->width; ++x) {
    const int32_t* places = r->places + x * r->count;
    const float* weights = r->weights + x * r->count;
    for (int c = 0; c < kChannels; ++c) {
      float sum = r->in[int64_t{places[0]} * kChannels + c] * weights[0];
      for (int32_t k = 1; k < r->count; ++k) sum += r->in[int64_t{places[k]} * kChannels + c] * weights[k];
      r->out[x * kChannels + c] = sum;
    }
  }
}

static void blend_columns(const ResizeColumns* r) {
  switch (r->channels) {
    case 1:
      return blend_pixels_of<1>(r);
    case 2:
      return blend_pixels_of<2>(r);
    case 3:
      return blend_pixels_of<3>(r);
    default:
      break;
  }
  for (int64_t x = 0; x < r->width; ++x) {
    const float* in[4] = {};
    for (int32_t k = 0; k < r->count; ++k) in[k] = r->in + r->places[x * r->count + k] * r->channels;
    blend_rows(r->out + x * r->channels, in, r->weights + x * r->count, r->count, r->channels);
  }
}
