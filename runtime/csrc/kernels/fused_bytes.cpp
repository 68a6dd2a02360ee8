// Convolutions of bytes by vpdpbusd, from codes to codes or floats: AVX-512 with VNNI.
//
// As kBytes does it (avx512.inl), output channels are lanes and four codes of a pixel are broadcast, but 64 channels at
// a time: 6 pixels x 4 vectors of channels are 24 sums, 4 vectors of weights and 6 broadcasts for 24 products, and what
// follows the sums packs whole cache lines of codes. The taps of a kernel row are one run of bytes, read 4 at a time
// whatever the number of channels; behind its end weights are 0.

// GCC 12 takes the undefined operands inside its own AVX-512 intrinsics for uninitialised variables (GCC bug 105593).
#pragma GCC diagnostic ignored "-Wmaybe-uninitialized"
#pragma GCC diagnostic ignored "-Wuninitialized"

#include <immintrin.h>

#include <cstdint>

#include "../core/fused.h"
#include "../core/kernels.h"

namespace bitorch {

namespace fused_bytes {

// Members of classes are inline, and so emitted weakly wherever they are not inlined, unless their class is local.
namespace {

#include "fused_loops.inl"

#include "fused_products.inl"

#include "fused_ints.inl"

#include "fused_lines.inl"

#include "fused_line_codes.inl"

constexpr int kSumRow = kFusedChannels;

#include "fused_list.inl"

#include "fused_list_cost.inl"

constexpr int kGroup = kFusedChannels, kLanes = 16, kVectors = kGroup / kLanes, kVectorBytes = 64;

// ---- What is prepared: how codes are made, the weights, [groups][steps][vectors][16][4] ----

struct Plan {
  int32_t runs, run_bytes, steps;  // of a window: runs of adjoining bytes, of `steps` dwords each
  int32_t padded, vectors;         // vectors: of all channels
  int64_t weights_at, bytes;
};

static Plan plan_of(const FusedSpec* s) {
  Plan p;
  const bool adjoin = s->dilation_w == 1 || s->kernel_w == 1;
  p.runs = s->kernel_h * (adjoin ? 1 : s->kernel_w);
  p.run_bytes = s->in_channels * (adjoin ? s->kernel_w : 1);
  p.steps = (p.run_bytes + 3) / 4;
  p.padded = fused_padded(s);
  p.vectors = (s->out_channels + kLanes - 1) / kLanes;
  p.weights_at = prepared_line_bytes(s);
  p.bytes = p.weights_at + int64_t{p.runs} * p.steps * p.vectors * kVectorBytes;
  return p;
}

static int vectors_of(const Plan& p, int channel) {
  const int left = p.vectors - channel / kLanes;
  return left < kVectors ? left : kVectors;
}

static int64_t group_at(const Plan& p, int channel) {
  return p.weights_at + int64_t{channel / kLanes} * p.runs * p.steps * kVectorBytes;
}

static int64_t prepared_bytes(const FusedSpec* s) { return plan_of(s).bytes; }

static bool prepare(const FusedSpec* s, const uint8_t* m, void* prepared) {
  const Plan p = plan_of(s);
  if (!prepare_line(s, prepared)) return false;
  uint8_t* const base = static_cast<uint8_t*>(prepared);
  for (int c = 0; c < s->out_channels; ++c) {
    const int vectors = vectors_of(p, c & -kGroup), v = c % kGroup / kLanes;
    uint8_t* to = base + group_at(p, c & -kGroup) + v * kVectorBytes + c % kLanes * 4;
    for (int r = 0; r < p.runs; ++r) {
      for (int k = 0; k < p.run_bytes; ++k) {
        to[int64_t{k / 4} * vectors * kVectorBytes + k % 4] = static_cast<uint8_t>(fused_weight(s, *m++));
      }
      to += int64_t{p.steps} * vectors * kVectorBytes;
    }
  }
  return true;
}

// ---- Products ----

// P pixels x V vectors of channels.
template <int P, int V>
static void multiply(const uint8_t* const* pixels, const int64_t* run_at, int runs, int steps, const uint8_t* weights,
                     int32_t* to) {
  __m512i sum[P * V];
  For<0, P * V>::each([&](auto i) __attribute__((always_inline)) { sum[i] = _mm512_setzero_si512(); });
  for (int r = 0; r < runs; ++r) {
    const uint8_t* x[P];
    For<0, P>::each([&](auto p) __attribute__((always_inline)) { x[p] = pixels[p] + run_at[r]; });
    for (int64_t k = 0; k < int64_t{steps} * 4; k += 4, weights += V * kVectorBytes) {
      __m512i w[V];
      For<0, V>::each([&](auto v) __attribute__((always_inline)) {
        w[v] = _mm512_load_si512(weights + v * kVectorBytes);
        pin(w[v]);
      });
      For<0, P>::each([&](auto p) __attribute__((always_inline)) {
        int32_t word;
        __builtin_memcpy(&word, x[p] + k, 4);
        const __m512i codes = _mm512_set1_epi32(word);
        For<0, V>::each([&](auto v) __attribute__((always_inline)) { add_products(sum[p * V + v], codes, w[v]); });
      });
    }
  }
  For<0, P>::each([&](auto p) __attribute__((always_inline)) {
    For<0, V>::each([&](auto v) __attribute__((always_inline)) {
      _mm512_store_si512(to + p * kSumRow + v * kLanes, sum[p * V + v]);
    });
  });
}

// Products wait for those before them to end: few vectors of channels need more pixels.
template <int V>
constexpr int kMostPixels = V >= 3 ? 6 : 8;

struct Multiply {
  const int64_t* run_at;
  int32_t runs, steps;
  const uint8_t* weights;
};

template <int P, int V>
static void multiply_some(int count, const uint8_t* const* pixels, const Multiply& m, int32_t* to) {
  if (count == P) {
    multiply<P, V>(pixels, m.run_at, m.runs, m.steps, m.weights, to);
  } else if constexpr (P > 1) {
    multiply_some<P - 1, V>(count, pixels, m, to);
  }
}

// All pixels of a list, as evenly as they can be divided.
template <int V>
static void multiply_list(int count, const uint8_t* const* pixels, const Multiply& m, int32_t* sums) {
  constexpr int most = kMostPixels<V>;
  for (int i = 0, rounds = (count + most - 1) / most; rounds > 0; --rounds) {
    const int now = (count - i + rounds - 1) / rounds;
    multiply_some<most, V>(now, pixels + i, m, sums + i * kSumRow);
    i += now;
  }
}

static void multiply_group(int vectors, int count, const uint8_t* const* pixels, const Multiply& m, int32_t* sums) {
  switch (vectors) {
    case 1:
      return multiply_list<1>(count, pixels, m, sums);
    case 2:
      return multiply_list<2>(count, pixels, m, sums);
    case 3:
      return multiply_list<3>(count, pixels, m, sums);
    default:
      return multiply_list<4>(count, pixels, m, sums);
  }
}

// ---- Running ----

struct alignas(64) Work {
  int32_t sums[kListPixels * kSumRow];
  int32_t windows[kListPixels];
  const uint8_t* pixels[kListPixels];
  FusedList list;
};

static int64_t scratch_bytes(const FusedSpec* s) {
  return static_cast<int64_t>(sizeof(Work)) + ((int64_t{plan_of(s).runs} * 8 + 63) & -64);
}

// The sum of a window's codes.
static int32_t window_sum(const Plan& p, const int64_t* run_at, const uint8_t* pixel) {
  const __m512i ones = _mm512_set1_epi8(1);
  __m512i sum = _mm512_setzero_si512();
  for (int r = 0; r < p.runs; ++r) {
    for (int k = 0; k < p.run_bytes; k += 64) {
      const __m512i codes = _mm512_maskz_loadu_epi8(first_lanes(p.run_bytes - k), pixel + run_at[r] + k);
      sum = _mm512_dpbusd_epi32(sum, codes, ones);
    }
  }
  return _mm512_reduce_add_epi32(sum);
}

// Pixels first .. first + count - 1 of the band, row by row.
static void locate(const FusedSpec* s, const FusedBand* b, const Plan& p, const int64_t* run_at, int first, int count,
                   Work* w) {
  w->list.count = 0;
  for (int i = 0; i < count;) {
    const int y = (first + i) / b->width, x = (first + i) % b->width;
    const int now = b->width - x < count - i ? b->width - x : count - i;
    const uint8_t* at = b->input + y * s->stride_h * b->row_bytes + x * s->stride_w * b->pixel_bytes;
    list_pixels(s, b, y, x, now, i, &w->list);
    for (int k = 0; k < now; ++k, ++i, at += s->stride_w * b->pixel_bytes) w->pixels[i] = at;
  }
  if (!fused_halved(s)) return;
  for (int i = 0; i < count; ++i) w->windows[i] = window_sum(p, run_at, w->pixels[i]);
}

// Pixels of a list: a multiple of what registers hold. Weights of 64 channels are read once for them.
constexpr int kList = 48;
// Weights beyond this leave the second-level cache before the next pixels need them.
constexpr int64_t kMostWeights = 1 << 19;

static void run(const FusedSpec* s, const FusedBand* b) {
  const Plan p = plan_of(s);
  Work* const w = reinterpret_cast<Work*>(b->scratch);
  int64_t* const run_at = reinterpret_cast<int64_t*>(b->scratch + sizeof(Work));
  const int per_row = p.runs / s->kernel_h;
  for (int r = 0; r < p.runs; ++r) {
    run_at[r] = r / per_row * s->dilation_h * b->row_bytes + r % per_row * s->dilation_w * b->pixel_bytes;
  }
  const uint8_t* const prepared = static_cast<const uint8_t*>(b->prepared);
  const FusedLineRule line = prepared_line(s, prepared);
  const int pixels = b->rows * b->width, end = b->first_channel + b->channels;
  const bool channels_outside = int64_t{b->channels} * p.runs * p.steps * 4 > kMostWeights && pixels > kList;
  const int step = channels_outside ? kGroup : b->channels;
  for (int from = b->first_channel; from < end; from += step) {
    const int to = end < from + step ? end : from + step;
    for (int i = 0; i < pixels; i += kList) {
      const int count = pixels - i < kList ? pixels - i : kList;
      locate(s, b, p, run_at, i, count, w);
      for (int c = from; c < to; c += kGroup) {
        const Multiply m = {run_at, p.runs, p.steps, prepared + group_at(p, c)};
        multiply_group(vectors_of(p, c), count, w->pixels, m, w->sums);
        finish_list(s, b, &line, &w->list, w->sums, fused_halved(s) ? w->windows : nullptr, 1, c);
      }
    }
  }
}

// ---- Cost ----

// Nanoseconds. Intel's fitted to layers of networks on Emerald Rapids, the others by the throughput of their
// instructions.
struct Rates {
  FinishNanoseconds finish;
  double product, step;  // 16 channels x 4 codes; 4 codes of a pixel for up to 64 channels
  double pixel, group;   // what a pixel takes besides, and 64 channels of it
  double window, call;   // 64 bytes of a window, where they are added
  double wait;           // a step of few pixels, whose products wait for those before them
  double near, far;      // 64 bytes of weights that the first-level cache does not hold, and the second
};

static Rates rates_of(Machine machine) {
  switch (machine) {
    case Machine::kZen4:
      return {{1.3, 2.2, 1.5, 0.8, 0.8, 1, 1, 4, 0}, 0.275, 0, 3, 1, 0.7, 200, 1.1, 0, 0.8};
    case Machine::kZen5:
      return {{0.55, 0.9, 0.8, 0.5, 0.5, 0.5, 0.5, 4, 0}, 0.12, 0, 3, 1, 0.7, 200, 0.95, 0, 0.4};
    case Machine::kIceLake:
    case Machine::kSapphireRapids:
      return {{1.04, 1.7, 1.31, 0.844, 0.579, 1.47, 1, 3.09, 1.52},
              0.189,
              0.0419,
              0.625,
              1.61,
              1.47,
              132,
              1.75,
              0.051,
              0.249};
    case Machine::kGeneric:
      break;
  }
  return {{1.3, 2.2, 1.5, 1, 1, 1, 1, 4, 0}, 0.25, 0, 3, 1, 0.7, 200, 1.3, 0.1, 2};
}

static double cost(const FusedSpec* s, Machine machine) {
  if (s->groups != 1 || s->input_planes || !fused_fits_bytes(s)) return -1;
  const Plan p = plan_of(s);
  const Rates r = rates_of(machine);
  const double pixels = double{1} * s->height * s->width, groups = p.padded / kGroup;
  const double steps = p.runs * p.steps, windows = fused_halved(s) ? p.runs * ((p.run_bytes + 63) / 64) : 0;
  const double pixel = r.pixel + groups * r.group + windows * r.window;
  const double rounds = static_cast<double>((int64_t{s->height} * s->width + 5) / 6);
  const double vectors = steps * p.vectors, product = pixels * (p.vectors * r.product + groups * r.step);
  const double waiting = rounds * groups * r.wait;
  const bool near = steps * 4 * kVectorBytes > 3 << 14, far = vectors * kVectorBytes > 2 * kMostWeights;
  const double weights = (near ? rounds * vectors * r.near : 0) + (far ? vectors * r.far : 0);
  return pixels * pixel + steps * (product > waiting ? product : waiting) + weights + finish_nanoseconds(s, r.finish) +
         r.call;
}

constexpr FusedKernel kKernel = {"bytes64 avx512-vnni", cost, prepared_bytes, prepare, scratch_bytes, run, true};

}  // namespace

}  // namespace fused_bytes

extern const FusedKernel kFusedBytesAvx512;
constexpr FusedKernel kFusedBytesAvx512 = fused_bytes::kKernel;

}  // namespace bitorch
