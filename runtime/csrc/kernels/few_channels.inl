// Convolutions of few channels with vectors of any length. A tile of pixels (or taps) x vectors keeps its sums in
// registers: for each step (or pixel), loads of weights (or gradients) and broadcasts feed as many fmas as there are
// sums.

#include "function_lanes.inl"

// Of a tile. With 32 registers 6 x 4 sums, 4 weights and a broadcast; with 16, 6 x 2.
constexpr int kMostPixels = 6;
#if defined(__AVX512F__)
constexpr int kMostVectors = 4;
#else
constexpr int kMostVectors = 2;
#endif
constexpr int32_t kLanes = static_cast<int32_t>(kFloatLanes);

static inline Floats load(const float* from) {
  Floats x;
  __builtin_memcpy(&x, from, sizeof x);
  return x;
}

// all_lanes() adds 0, which compilers must not leave out: it would make -0 of it.
static inline Floats broadcast(const float* from) {
#if defined(__AVX512F__)
  return (Floats)_mm512_set1_ps(*from);
#elif defined(__AVX__)
  return (Floats)_mm256_broadcast_ss(from);
#else
  return Floats{*from, *from, *from, *from};
#endif
}

static inline void store(float* to, Floats x) { __builtin_memcpy(to, &x, sizeof x); }

template <int P, int V>
__attribute__((noinline)) static void forward_tile(const FewForward* f, int64_t pixel, int32_t channel) {
  Floats sum[P][V];
#pragma GCC unroll 8
  for (int p = 0; p < P; ++p) {
#pragma GCC unroll 4
    for (int v = 0; v < V; ++v) sum[p][v] = load(f->start + channel + kLanes * v);
  }
  const int64_t width = f->width, in_step = f->in_step;
  const float *weights = f->weights + channel, *in_row = f->in + pixel * in_step;
  int32_t rows = f->rows;
  do {
    const float* in = in_row;
    int32_t steps = f->steps;
    do {
      Floats w[V];
#pragma GCC unroll 4
      for (int v = 0; v < V; ++v) w[v] = load(weights + kLanes * v);
      weights += width;
#pragma GCC unroll 8
      for (int p = 0; p < P; ++p) {
        const Floats number = broadcast(in + p * in_step);
#pragma GCC unroll 4
        for (int v = 0; v < V; ++v) sum[p][v] = fused(number, w[v], sum[p][v]);
      }
      ++in;
    } while (--steps != 0);
    in_row += f->in_row;
  } while (--rows != 0);
  float* out = f->out + pixel * f->out_step + channel;
#pragma GCC unroll 8
  for (int p = 0; p < P; ++p) {
#pragma GCC unroll 4
    for (int v = 0; v < V; ++v) store(out + p * f->out_step + kLanes * v, sum[p][v]);
  }
}

template <int P, int V>
__attribute__((noinline)) static void backward_tile(const FewBackward* b, int64_t tap, int32_t channel) {
  Floats sum[P][V];
#pragma GCC unroll 8
  for (int p = 0; p < P; ++p) {
#pragma GCC unroll 4
    for (int v = 0; v < V; ++v) sum[p][v] = Floats{};
  }
  int64_t offset[P];
#pragma GCC unroll 8
  for (int p = 0; p < P; ++p) offset[p] = b->offset[tap + p];
  const float *in = b->in, *g = b->g + channel;
  int32_t pixels = b->pixels;
  do {
    Floats of[V];
#pragma GCC unroll 4
    for (int v = 0; v < V; ++v) of[v] = load(g + kLanes * v);
#pragma GCC unroll 8
    for (int p = 0; p < P; ++p) {
      const Floats number = broadcast(in + offset[p]);
#pragma GCC unroll 4
      for (int v = 0; v < V; ++v) sum[p][v] = fused(number, of[v], sum[p][v]);
    }
    in += b->in_step;
    g += b->g_step;
  } while (--pixels != 0);
  float* sums = b->sums + tap * b->width + channel;
#pragma GCC unroll 8
  for (int p = 0; p < P; ++p) {
#pragma GCC unroll 4
    for (int v = 0; v < V; ++v) {
      float* at = sums + p * static_cast<int64_t>(b->width) + kLanes * v;
      store(at, load(at) + sum[p][v]);
    }
  }
}

template <class Job>
using Tile = void (*)(const Job*, int64_t first, int32_t channel);

#if defined(__AVX512F__)
#define BITORCH_TILES(tile, P) {tile<P, 1>, tile<P, 2>, tile<P, 3>, tile<P, 4>}
#else
#define BITORCH_TILES(tile, P) {tile<P, 1>, tile<P, 2>}
#endif
#define BITORCH_TABLE(tile)                                                \
  {BITORCH_TILES(tile, 1), BITORCH_TILES(tile, 2), BITORCH_TILES(tile, 3), \
   BITORCH_TILES(tile, 4), BITORCH_TILES(tile, 5), BITORCH_TILES(tile, 6)}
constexpr Tile<FewForward> kForward[kMostPixels][kMostVectors] = BITORCH_TABLE(forward_tile);
constexpr Tile<FewBackward> kBackward[kMostPixels][kMostVectors] = BITORCH_TABLE(backward_tile);
#undef BITORCH_TABLE
#undef BITORCH_TILES

// All tiles of `count` pixels or taps x `width` channels, as even as they can be.
template <class Job>
static void tile(const Job* job, const Tile<Job> (*tiles)[kMostVectors], int32_t count, int32_t width) {
  const int32_t vectors = width / kLanes, parts = (vectors + kMostVectors - 1) / kMostVectors;
  const int32_t blocks = (count + kMostPixels - 1) / kMostPixels;
  for (int32_t block = 0; block < blocks; ++block) {
    const int32_t first = count * block / blocks, pixels = count * (block + 1) / blocks - first;
    for (int32_t part = 0; part < parts; ++part) {
      const int32_t from = vectors * part / parts, of = vectors * (part + 1) / parts - from;
      tiles[pixels - 1][of - 1](job, first, from * kLanes);
    }
  }
}

static void forward(const FewForward* f) { tile(f, kForward, f->pixels, f->width); }
static void backward(const FewBackward* b) { tile(b, kBackward, b->taps, b->width); }
