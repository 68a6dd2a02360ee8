// Sums and products of pixels of floats, AVX-512: what belongs to the channels stays in registers from pixel to pixel.
// Included inside a namespace of the kernel file's own, after avx512.inl's lane_mask().

// Channels of V vectors.
template <int V>
static inline void add_vectors(float* out, const float* in, int64_t step, int64_t pixels, const __mmask16* lanes) {
  __m512 sum[V];
#pragma GCC unroll 8
  for (int v = 0; v < V; ++v) sum[v] = _mm512_maskz_loadu_ps(lanes[v], out + kLanes * v);
  for (int64_t p = 0; p < pixels; ++p, in += step) {
#pragma GCC unroll 8
    for (int v = 0; v < V; ++v) sum[v] = _mm512_add_ps(sum[v], _mm512_maskz_loadu_ps(lanes[v], in + kLanes * v));
  }
#pragma GCC unroll 8
  for (int v = 0; v < V; ++v) _mm512_mask_storeu_ps(out + kLanes * v, lanes[v], sum[v]);
}

template <int V>
static inline void multiply_vectors(float* out, const float* in, const float* by, int64_t step, int64_t pixels,
                                    const __mmask16* lanes) {
  __m512 factor[V];
#pragma GCC unroll 8
  for (int v = 0; v < V; ++v) factor[v] = _mm512_maskz_loadu_ps(lanes[v], by + kLanes * v);
  for (int64_t p = 0; p < pixels; ++p, in += step, out += step) {
#pragma GCC unroll 8
    for (int v = 0; v < V; ++v) {
      const __m512 x = _mm512_maskz_loadu_ps(lanes[v], in + kLanes * v);
      _mm512_mask_storeu_ps(out + kLanes * v, lanes[v], _mm512_mul_ps(x, factor[v]));
    }
  }
}

// So many vectors at a time that one addition does not wait for another.
constexpr int kPixelVectors = 8;

// some(vectors, first channel, lanes) for all n channels.
template <class F>
static inline void in_vectors(int64_t n, const F& some) {
  for (int64_t c = 0; c < n; c += kPixelVectors * kLanes) {
    const int64_t left = n - c < kPixelVectors * kLanes ? n - c : kPixelVectors * kLanes;
    __mmask16 lanes[kPixelVectors];
    for (int v = 0; v < kPixelVectors; ++v) {
      const int64_t of = left - kLanes * v;
      lanes[v] = lane_mask(of <= 0 ? 0 : of < kLanes ? static_cast<int>(of) : kLanes);
    }
    some(static_cast<int>((left + kLanes - 1) / kLanes), c, lanes);
  }
}

static void add_pixels(float* out, const float* in, int64_t step, int64_t pixels, int64_t n) {
  in_vectors(n, [&](int vectors, int64_t c, const __mmask16* lanes) {
    if (vectors == 1) return add_vectors<1>(out + c, in + c, step, pixels, lanes);
    if (vectors == 2) return add_vectors<2>(out + c, in + c, step, pixels, lanes);
    if (vectors <= 4) return add_vectors<4>(out + c, in + c, step, pixels, lanes);
    add_vectors<8>(out + c, in + c, step, pixels, lanes);
  });
}

static void multiply_pixels(float* out, const float* in, const float* by, int64_t pixels, int64_t n) {
  in_vectors(n, [&](int vectors, int64_t c, const __mmask16* lanes) {
    if (vectors == 1) return multiply_vectors<1>(out + c, in + c, by + c, n, pixels, lanes);
    if (vectors == 2) return multiply_vectors<2>(out + c, in + c, by + c, n, pixels, lanes);
    if (vectors <= 4) return multiply_vectors<4>(out + c, in + c, by + c, n, pixels, lanes);
    multiply_vectors<8>(out + c, in + c, by + c, n, pixels, lanes);
  });
}
