// Convolutions of groups of 8, 16, 24, ... channels on bytes, AVX-512 with VNNI, 8 output channels at a time.
//
// Eight codes of a pixel's group are a qword, broadcast to the qwords of a vector: there each output channel has its
// eight weights, and leaves two sums of four products each, which are added in the end.
//
//   lanes     0       1       2       3      ..   15
//   codes     q0..q3  q4..q7  q0..q3  q4..q7 ..   q4..q7
//   weights   of channel 0    of channel 1   ..   of channel 7
//
// No lane is idle, whatever the group's width; 8 pixels share each vector of weights. Of the odd 8-bit weights, which
// do not fit a byte, m - 128 are multiplied and the sums doubled; then the codes are added, as 2 m - 255 is one more.

// GCC 12 takes the undefined operands inside its own AVX-512 intrinsics for uninitialised variables (GCC bug 105593).
#pragma GCC diagnostic ignored "-Wmaybe-uninitialized"
#pragma GCC diagnostic ignored "-Wuninitialized"

#include <immintrin.h>

#include <cstdint>

#include "../core/fused.h"
#include "../core/kernels.h"

namespace bitorch {

namespace fused_grouped {

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

constexpr int kOctet = 8, kVectorBytes = 64;

// ---- What is prepared: how codes are made, the weights, [octets][steps][8][8] ----

struct Plan {
  int32_t taps, inputs, outputs;  // of a group
  int32_t steps, all_steps;       // of 8 products of an output, and with those that add its codes
  int32_t padded;
  int64_t weights_at, bytes;
};

static Plan plan_of(const FusedSpec* s) {
  Plan p;
  p.taps = s->kernel_h * s->kernel_w;
  p.inputs = s->in_channels / s->groups;
  p.outputs = s->out_channels / s->groups;
  p.steps = p.taps * p.inputs / kOctet;
  p.all_steps = fused_halved(s) ? 2 * p.steps : p.steps;
  p.padded = fused_padded(s);
  p.weights_at = prepared_line_bytes(s);
  p.bytes = p.weights_at + int64_t{s->out_channels / kOctet} * p.steps * kVectorBytes;
  return p;
}

static int64_t octet_at(const Plan& p, int channel) {
  return p.weights_at + int64_t{channel / kOctet} * p.steps * kVectorBytes;
}

static int64_t prepared_bytes(const FusedSpec* s) { return plan_of(s).bytes; }

static bool prepare(const FusedSpec* s, const uint8_t* m, void* prepared) {
  const Plan p = plan_of(s);
  if (!prepare_line(s, prepared)) return false;
  uint8_t* const base = static_cast<uint8_t*>(prepared);
  const int products = p.taps * p.inputs;
  for (int c = 0; c < s->out_channels; ++c, m += products) {
    uint8_t* const to = base + octet_at(p, c) + c % kOctet * kOctet;
    for (int k = 0; k < products; ++k) {
      to[int64_t{k} / kOctet * kVectorBytes + k % kOctet] = static_cast<uint8_t>(fused_weight(s, m[k]));
    }
  }
  return true;
}

// ---- Products ----

struct Multiply {
  const int64_t* step_at;  // from a window's first code of the group to the eight of each step
  int32_t steps;
  bool halved;
  int64_t group_at;  // from a pixel's first channel to the group's
  const uint8_t* weights;
};

// The products of all steps; with the same weights in each, where ones are given.
template <int P, bool ones>
static inline __attribute__((always_inline)) void add_steps(const uint8_t* const (&x)[P], const Multiply& m,
                                                            __m512i (&sum)[P]) {
  const uint8_t* weights = m.weights;
  for (int k = 0; k < m.steps; ++k, weights += kVectorBytes) {
    const int64_t at = m.step_at[k];
    __m512i w = ones ? _mm512_set1_epi8(1) : _mm512_load_si512(weights);
    pin(w);
    For<0, P>::each([&](auto p) __attribute__((always_inline)) {
      int64_t codes;
      __builtin_memcpy(&codes, x[p] + at, 8);
      add_products(sum[p], _mm512_set1_epi64(codes), w);
    });
  }
}

// 8 channels of P pixels.
template <int P>
static void multiply(const uint8_t* const* pixels, const Multiply& m, int32_t* to) {
  __m512i sum[P];
  const uint8_t* x[P];
  For<0, P>::each([&](auto p) __attribute__((always_inline)) {
    sum[p] = _mm512_setzero_si512();
    x[p] = pixels[p] + m.group_at;
  });
  add_steps<P, false>(x, m, sum);
  if (m.halved) {
    For<0, P>::each([&](auto p) __attribute__((always_inline)) { sum[p] = _mm512_add_epi32(sum[p], sum[p]); });
    add_steps<P, true>(x, m, sum);
  }
  const __m512i even = _mm512_setr_epi32(0, 2, 4, 6, 8, 10, 12, 14, 16, 18, 20, 22, 24, 26, 28, 30);
  const __m512i odd = _mm512_add_epi32(even, _mm512_set1_epi32(1));
  For<0, (P + 1) / 2>::each([&](auto i) __attribute__((always_inline)) {
    constexpr int p = 2 * i.value, q = p + 1 < P ? p + 1 : p;
    const __m512i both = _mm512_add_epi32(_mm512_permutex2var_epi32(sum[p], even, sum[q]),
                                          _mm512_permutex2var_epi32(sum[p], odd, sum[q]));
    _mm256_store_si256(reinterpret_cast<__m256i*>(to + p * kSumRow), _mm512_castsi512_si256(both));
    _mm256_store_si256(reinterpret_cast<__m256i*>(to + q * kSumRow), _mm512_extracti64x4_epi64(both, 1));
  });
}

template <int P>
static void multiply_some(int count, const uint8_t* const* pixels, const Multiply& m, int32_t* to) {
  if (count == P) {
    multiply<P>(pixels, m, to);
  } else if constexpr (P > 1) {
    multiply_some<P - 1>(count, pixels, m, to);
  }
}

constexpr int kMostPixels = 8;

// All pixels of a list, as evenly as they can be divided.
static void multiply_list(int count, const uint8_t* const* pixels, const Multiply& m, int32_t* sums) {
  for (int i = 0, rounds = (count + kMostPixels - 1) / kMostPixels; rounds > 0; --rounds) {
    const int now = (count - i + rounds - 1) / rounds;
    multiply_some<kMostPixels>(now, pixels + i, m, sums + i * kSumRow);
    i += now;
  }
}

// ---- Running ----

struct alignas(64) Work {
  int32_t sums[kListPixels * kSumRow];
  const uint8_t* pixels[kListPixels];
  FusedList list;
};

static int64_t scratch_bytes(const FusedSpec* s) {
  return static_cast<int64_t>(sizeof(Work)) + ((int64_t{plan_of(s).steps} * 8 + 63) & -64);
}

// Pixels first .. first + count - 1 of the band, row by row.
static void locate(const FusedSpec* s, const FusedBand* b, int first, int count, Work* w) {
  w->list.count = 0;
  for (int i = 0; i < count;) {
    const int y = (first + i) / b->width, x = (first + i) % b->width;
    const int now = b->width - x < count - i ? b->width - x : count - i;
    const uint8_t* at = b->input + y * s->stride_h * b->row_bytes + x * s->stride_w * b->pixel_bytes;
    list_pixels(s, b, y, x, now, i, &w->list);
    for (int k = 0; k < now; ++k, ++i, at += s->stride_w * b->pixel_bytes) w->pixels[i] = at;
  }
}

static void set_steps(const FusedSpec* s, const FusedBand* b, const Plan& p, int64_t* step_at) {
  const int each = p.inputs / kOctet;
  for (int k = 0; k < p.steps; ++k) {
    const int tap = k / each;
    step_at[k] = tap / s->kernel_w * s->dilation_h * b->row_bytes + tap % s->kernel_w * s->dilation_w * b->pixel_bytes +
                 k % each * kOctet;
  }
}

// Pixels of a list: a multiple of what registers hold.
constexpr int kList = 48;

static void run(const FusedSpec* s, const FusedBand* b) {
  const Plan p = plan_of(s);
  Work* const w = reinterpret_cast<Work*>(b->scratch);
  int64_t* const step_at = reinterpret_cast<int64_t*>(b->scratch + sizeof(Work));
  set_steps(s, b, p, step_at);
  const uint8_t* const prepared = static_cast<const uint8_t*>(b->prepared);
  const FusedLineRule line = prepared_line(s, prepared);
  const int pixels = b->rows * b->width, end = b->first_channel + b->channels;
  for (int i = 0; i < pixels; i += kList) {
    const int count = pixels - i < kList ? pixels - i : kList;
    locate(s, b, i, count, w);
    for (int first = b->first_channel; first < end; first += kFusedChannels) {
      const int last = end - first < kFusedChannels ? end : first + kFusedChannels;
      for (int c = first; c < last; c += kOctet) {
        const int64_t group_at = int64_t{c / p.outputs} * p.inputs;
        const Multiply m = {step_at, p.steps, fused_halved(s), group_at, prepared + octet_at(p, c)};
        multiply_list(count, w->pixels, m, w->sums + (c - first));
      }
      finish_list(s, b, &line, &w->list, w->sums, nullptr, 1, first);
    }
  }
}

// ---- Cost ----

// Nanoseconds. Intel's measured on Emerald Rapids, the others by the throughput of their instructions.
struct Rates {
  FinishNanoseconds finish;
  double product, octet;  // 8 channels x 8 codes, and 8 channels of a pixel
  double pixel, call;     // what a pixel takes besides
};

static Rates rates_of(Machine machine) {
  switch (machine) {
    case Machine::kZen4:
      return {{1.3, 2.2, 1.5, 0.8, 0.8, 1, 1, 4, 0}, 0.28, 1, 3, 200};
    case Machine::kZen5:
      return {{0.55, 0.9, 0.8, 0.5, 0.5, 0.5, 0.5, 4, 0}, 0.14, 0.6, 3, 200};
    case Machine::kIceLake:
    case Machine::kSapphireRapids:
      return {{1.04, 1.7, 1.3, 0.844, 0.61, 1.47, 1, 3.09, 1.52}, 0.237, 0.715, 3.38, 162};
    case Machine::kGeneric:
      break;
  }
  return {{1.3, 2.2, 1.5, 1, 1, 1, 1, 4, 0}, 0.28, 1, 3, 200};
}

static double cost(const FusedSpec* s, Machine machine) {
  if (s->groups == 1 || s->input_planes) return -1;
  if (s->in_channels / s->groups % kOctet != 0 || s->out_channels / s->groups % kOctet != 0) return -1;
  if (!fused_fits_bytes(s)) return -1;
  const Plan p = plan_of(s);
  const Rates r = rates_of(machine);
  const double pixels = double{1} * s->height * s->width, octets = s->out_channels / kOctet;
  return pixels * (r.pixel + octets * (r.octet + p.all_steps * r.product)) + finish_nanoseconds(s, r.finish) + r.call;
}

constexpr FusedKernel kKernel = {"grouped avx512-vnni", cost, prepared_bytes, prepare, scratch_bytes, run};

}  // namespace

}  // namespace fused_grouped

extern const FusedKernel kFusedGrouped;
constexpr FusedKernel kFusedGrouped = fused_grouped::kKernel;

}  // namespace bitorch
