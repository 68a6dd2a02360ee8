// Depthwise convolutions of few bits on bit planes, AVX-512: channels are bits, 512 of them in a vector, and counting
// is logic.
//
// A weight of W bits of the odd grid is a sum of signs, c = sum over j of 2^j s_j, s_j = -1 or 1. With n = 2^A - 1 and
// the bits b of a code q, s q = q or -q, and n - q has the bits that q has not. So
//
//   X = sum over taps, i, j of 2^(i+j) (b_i xor [s_j < 0]) = D + n * sum over taps, j of 2^j [s_j < 0]
//
// is a sum of single bits, and what it exceeds D by belongs to the channel: thresholds take it in. Single bits are
// added by full adders: three bits of one weight become one of it and one of twice the weight,
//
//   sum = a ^ b ^ c    carry = majority(a, b, c)      two vpternlog for 512 channels
//
// and every adder leaves one bit less, so that N bits take some N adders. X >= t, bit by bit from the lowest, is
// majority(x, not t, what the lower bits say): one vpternlog with memory. 3x3 with W1A2 and codes of 2 bits are 62
// operations for 512 outputs, where bytes take 24 for 64.
//
// GCC 12 takes the undefined operands inside its own AVX-512 intrinsics for uninitialised variables (GCC bug 105593).
#pragma GCC diagnostic ignored "-Wmaybe-uninitialized"
#pragma GCC diagnostic ignored "-Wuninitialized"

#include <immintrin.h>

#include <cstdint>

#include "../core/fused.h"
#include "../core/kernels.h"

namespace bitorch {

namespace fused_depthwise_planes {

// Members of classes are inline, and so emitted weakly wherever they are not inlined, unless their class is local.
namespace {

#include "fused_loops.inl"

#include "fused_depthwise.inl"

#define INLINED __attribute__((always_inline))

using Bits = __m512i;  // of 512 channels

static inline INLINED Bits parity(Bits a, Bits b, Bits c) { return _mm512_ternarylogic_epi64(a, b, c, 0x96); }
static inline INLINED Bits majority(Bits a, Bits b, Bits c) { return _mm512_ternarylogic_epi64(a, b, c, 0xe8); }

// ---- Adding single bits ----

constexpr int kMostLevels = 8;

// Bits that wait to be added, at most two of each weight 2^level.
struct Adder {
  Bits first[kMostLevels + 1], second[kMostLevels + 1];
};

// How many wait, known to the compiler: 4 bits per level.
constexpr int waiting(uint64_t counts, int level) { return static_cast<int>(counts >> (4 * level) & 15); }
constexpr uint64_t with_bit(uint64_t counts, int level) {
  return waiting(counts, level) < 2 ? counts + (uint64_t{1} << (4 * level))
                                    : with_bit(counts - (uint64_t{1} << (4 * level)), level + 1);
}

template <uint64_t counts, int level>
struct AddBit {
  static inline INLINED void to(Adder& s, Bits x) {
    if constexpr (waiting(counts, level) == 0) {
      s.first[level] = x;
    } else if constexpr (waiting(counts, level) == 1) {
      s.second[level] = x;
    } else {
      const Bits carry = majority(s.first[level], s.second[level], x);
      s.first[level] = parity(s.first[level], s.second[level], x);
      AddBit<counts - (uint64_t{1} << (4 * level)), level + 1>::to(s, carry);
    }
  }
};

// The bits of the sum: first[0 .. levels - 1].
template <uint64_t counts, int level, int levels>
struct Settle {
  static inline INLINED void run(Adder& s) {
    constexpr uint64_t kOne = uint64_t{1} << (4 * level);
    if constexpr (level == levels) {
      return;
    } else if constexpr (waiting(counts, level) == 2) {
      const Bits carry = _mm512_and_si512(s.first[level], s.second[level]);
      s.first[level] = _mm512_xor_si512(s.first[level], s.second[level]);
      if constexpr (level + 1 < levels) {
        AddBit<counts - kOne, level + 1>::to(s, carry);
        Settle<with_bit(counts - kOne, level + 1), level + 1, levels>::run(s);
      }
    } else {
      if constexpr (waiting(counts, level) == 0) s.first[level] = _mm512_setzero_si512();
      Settle<counts, level + 1, levels>::run(s);
    }
  }
};

// ---- One vector of one row ----

template <int kKernel, int kWeight, int kActivation>
struct Window {
  static constexpr int kTaps = kKernel * kKernel;
  static constexpr int kMost = kTaps * ((1 << kWeight) - 1) * ((1 << kActivation) - 1);  // of X
  static constexpr int levels(int most) { return most + 1 < 1 ? 0 : 1 + levels((most + 1) / 2 - 1); }
  static constexpr int kLevels = levels(kMost);  // also for kMost + 1, which no X reaches
  static_assert(kLevels <= kMostLevels, "bits of a sum");
  static constexpr bool kPinned = kTaps * kWeight <= 9;  // signs of weights stay in registers

  // Bit b of tap, weight plane j and activation plane i, in this order.
  template <int b, uint64_t counts>
  static inline INLINED void add(Adder& s, const Bits* sign, const Bits (&pinned)[kPinned ? kTaps * kWeight : 1],
                                 const uint8_t* x, const Source& source) {
    if constexpr (b < kTaps * kWeight * kActivation) {
      constexpr int i = b % kActivation, j = b / kActivation % kWeight, tap = b / kActivation / kWeight;
      constexpr int ky = tap / kKernel, kx = tap % kKernel;
      const uint8_t* from = x + ky * source.row + i * source.plane + source.tap[kx];
      Bits negative;
      if constexpr (kPinned) {
        negative = pinned[tap * kWeight + j];
      } else {
        negative = sign[tap * kWeight + j];
      }
      AddBit<counts, i + j>::to(s, _mm512_xor_si512(negative, _mm512_loadu_si512(from)));
      add<b + 1, with_bit(counts, i + j)>(s, sign, pinned, x, source);
    } else {
      Settle<counts, 0, kLevels>::run(s);
    }
  }
};

// ---- Codes ----

// unreached: [n][levels], the complements of the thresholds' bits. The codes' planes are sums of the levels reached:
// thresholds rise, so plane i counts, modulo 2, those j + 1 that 2^i divides.
template <int kLevels, int kBits>
static inline INLINED void count_reached(const Adder& s, const Bits* unreached, Bits (&plane)[kBits]) {
  For<0, (1 << kBits) - 1>::each([&](auto j) INLINED {
    Bits reached = _mm512_or_si512(s.first[0], unreached[j * kLevels]);
    For<1, kLevels>::each([&](auto l) INLINED { reached = majority(s.first[l], reached, unreached[j * kLevels + l]); });
    For<0, kBits>::each([&](auto i) INLINED {
      if constexpr ((j + 1) % (1 << i) == 0) {
        plane[i] = j + 1 == 1 << i ? reached : _mm512_xor_si512(plane[i], reached);
      }
    });
  });
}

// 64 bytes of planes, the first `bytes` of them wanted, become up to 512 codes in bytes.
template <int kBits>
static void store_bytes(uint8_t* to, const Bits (&plane)[kBits], int bytes) {
  alignas(64) uint64_t words[kBits][8];
  for (int i = 0; i < kBits; ++i) _mm512_store_si512(words[i], plane[i]);
  for (int b = 0; b < bytes; b += 8, to += 64) {
    Bits codes = _mm512_maskz_set1_epi8(words[0][b / 8], 1);
    for (int i = 1; i < kBits; ++i) {
      codes = _mm512_or_si512(codes, _mm512_maskz_set1_epi8(words[i][b / 8], static_cast<char>(1 << i)));
    }
    const int left = (bytes - b) * 8;
    if (left >= 64) {
      _mm512_storeu_si512(to, codes);
    } else {
      _mm512_mask_storeu_epi8(to, (__mmask64{1} << left) - 1, codes);
    }
  }
}

// Where codes go.
struct Target {
  uint8_t* out;  // of row 0, byte 0 of the plane, or channel 0
  int64_t row, plane;
  bool planes;
};
using ColumnFunction = void (*)(const Column&, const Target&);

template <int kBits>
static inline INLINED void store_codes(uint8_t* to, const Target& target, const Bits (&plane)[kBits], int bytes) {
  if (!target.planes) return store_bytes<kBits>(to, plane, bytes);
  if (bytes == 64) {
    For<0, kBits>::each([&](auto i) INLINED { _mm512_storeu_si512(to + i * target.plane, plane[i]); });
    return;
  }
  const __mmask64 keep = first_bytes(bytes);
  For<0, kBits>::each([&](auto i) INLINED { _mm512_mask_storeu_epi8(to + i * target.plane, keep, plane[i]); });
}

template <int kKernel, int kWeight, int kActivation, int kBits>
static void run_column(const Column& c, const Target& target) {
  using W = Window<kKernel, kWeight, kActivation>;
  constexpr int kSigns = W::kTaps * kWeight;
  Bits pinned[W::kPinned ? kSigns : 1];
  if constexpr (W::kPinned) {
    For<0, kSigns>::each([&](auto k) INLINED {
      pinned[k] = c.numbers[k];
      __asm__("" : "+v"(pinned[k]));
    });
  }
  const Source source = *c.source;
  for (int32_t y = 0; y < c.rows; ++y) {
    const uint8_t* in = c.in + y * source.in_row;
    uint8_t* to = target.out + y * target.row + c.at;
    for (int32_t x = 0; x < c.columns; ++x, in += c.in_column, to += c.column) {
      Adder s;
      Bits plane[kBits];
      W::template add<0, 0>(s, c.numbers, pinned, in, source);
      count_reached<W::kLevels>(s, c.numbers + kSigns, plane);
      store_codes<kBits>(to, target, plane, c.bytes);
    }
  }
}

// ---- Which layers ----

struct Shape {
  int32_t kernel, weight, activation, bits, levels;
  ColumnFunction run;
};

template <int kKernel, int kWeight, int kActivation, int kBits>
static constexpr Shape shape() {
  return {kKernel,
          kWeight,
          kActivation,
          kBits,
          Window<kKernel, kWeight, kActivation>::kLevels,
          run_column<kKernel, kWeight, kActivation, kBits>};
}

static constexpr Shape kShapes[] = {
    shape<3, 1, 1, 1>(), shape<3, 1, 1, 2>(), shape<3, 1, 2, 1>(), shape<3, 1, 2, 2>(), shape<3, 1, 2, 3>(),
    shape<3, 1, 3, 2>(), shape<3, 1, 3, 3>(), shape<3, 1, 4, 2>(), shape<3, 1, 4, 4>(), shape<3, 2, 1, 1>(),
    shape<3, 2, 1, 2>(), shape<3, 2, 2, 1>(), shape<3, 2, 2, 2>(), shape<5, 1, 1, 1>(), shape<5, 1, 1, 2>(),
    shape<5, 1, 2, 1>(), shape<5, 1, 2, 2>(), shape<5, 2, 2, 2>(), shape<7, 1, 1, 1>(), shape<7, 1, 2, 2>(),
};

static const Shape* shape_of(const FusedSpec* s) {
  const FusedEpilogue& e = s->epilogue;
  const bool suits = is_depthwise(s) && s->input_planes && s->code_step == 2 &&
                     s->lowest_code == 1 - (1 << s->weight_bits) && e.row_classes == 0 && e.codes_from_int &&
                     e.bits <= 4 && e.wants_codes && !e.wants_float && (e.planes || s->out_channels % 8 == 0);
  if (!suits) return nullptr;
  for (const Shape& shape : kShapes) {
    if (shape.kernel == s->kernel_h && shape.weight == s->weight_bits && shape.activation == s->activation_bits &&
        shape.bits == e.bits) {
      return &shape;
    }
  }
  return nullptr;
}

static int64_t pixel_bytes_of(const FusedSpec* s) { return (s->in_channels + 7) / 8; }
static Numbers numbers_of(const Shape& shape) {
  return {0, 0, shape.kernel * shape.kernel * shape.weight + ((1 << shape.bits) - 1) * shape.levels};
}
// Wider pixels that are whole vectors need no parting.
static bool parts(const FusedSpec* s) {
  const int64_t pixel = pixel_bytes_of(s);
  return s->stride_w == 2 && pixel < 64;
}

// ---- Weights ----

static inline void set_bit(uint8_t* bits, int64_t c) { bits[c / 8] = static_cast<uint8_t>(bits[c / 8] | 1 << c % 8); }

static bool prepare(const FusedSpec* s, const uint8_t* m, void* prepared) {
  const Shape& shape = *shape_of(s);
  const Numbers numbers = numbers_of(shape);
  uint8_t* const to = static_cast<uint8_t*>(prepared);
  const int64_t pixel = pixel_bytes_of(s), padded = (s->out_channels + 63) / 64 * 64;
  const int taps = shape.kernel * shape.kernel, n = (1 << s->activation_bits) - 1;
  const int most = taps * n * ((1 << shape.weight) - 1);
  const int32_t* const thresholds = static_cast<const int32_t*>(s->epilogue.thresholds);
  for (int64_t c = 0; c < pixel * 8; ++c) {
    int excess = 0, k = 0;  // of X over D
    for (; k < taps * shape.weight; ++k) {
      const int tap = k / shape.weight, j = k % shape.weight;
      if (c >= s->out_channels || (m[c * taps + tap] >> j & 1)) continue;
      set_bit(byte_of(numbers, pixel, to, k), c);
      excess += n << j;
    }
    for (int j = 0; j < (1 << shape.bits) - 1; ++j) {
      const int64_t d = c < s->out_channels ? int64_t{thresholds[j * padded + c]} + excess : most + 1;
      const int64_t x = d < 0 ? 0 : d > most ? most + 1 : d;
      for (int l = 0; l < shape.levels; ++l, ++k) {
        if (!(x >> l & 1)) set_bit(byte_of(numbers, pixel, to, k), c);
      }
    }
  }
  repeat_numbers(numbers, pixel, to);
  return true;
}

static int64_t prepared_bytes(const FusedSpec* s) {
  return all_number_bytes(numbers_of(*shape_of(s)), pixel_bytes_of(s));
}

// ---- Rows ----

// What some rows of outputs read stays in the first cache.
constexpr int64_t kInputBytes = 24 << 10;

static int64_t rows_at_once(const FusedSpec* s, int64_t row_bytes) {
  const int64_t fit = kInputBytes / (row_bytes * s->stride_h), rows = fit < 4 ? 4 : fit > 16 ? 16 : fit;
  return rows < s->height ? rows : s->height;
}

static int64_t scratch_bytes(const FusedSpec* s) {
  const int64_t numbers = numbers_of(*shape_of(s)).vectors() * 64;
  if (!parts(s)) return numbers;
  const Parted p = parted_rows(s, pixel_bytes_of(s), s->activation_bits);
  return numbers + p.row * rows_read(s, rows_at_once(s, p.row));
}

static void run(const FusedSpec* s, const FusedBand* t) {
  const Shape& shape = *shape_of(s);
  const bool parted = parts(s);
  const Parted p = parted ? parted_rows(s, pixel_bytes_of(s), s->activation_bits) : Parted{};
  Walk w = {};
  w.numbers = numbers_of(shape);
  w.prepared = static_cast<const uint8_t*>(t->prepared);
  w.gathered = reinterpret_cast<Bits*>(t->scratch);
  w.pixel = pixel_bytes_of(s);
  w.first = t->first_channel / 8;
  w.wanted = (t->channels + 7) / 8;
  w.out_scale = s->epilogue.planes ? 1 : 8;
  w.out_pixel = t->codes_pixel;
  w.pixels = s->width;
  w.most_columns = s->width * 64;
  uint8_t* const room = parted ? t->scratch + w.numbers.vectors() * 64 : nullptr;
  const int64_t step = rows_at_once(s, parted ? p.row : t->row_bytes);
  Target target = {t->codes, t->codes_row, t->codes_plane, s->epilogue.planes != 0};
  for (int64_t y = 0; y < t->rows; y += step, target.out += step * t->codes_row) {
    w.rows = static_cast<int32_t>(t->rows - y < step ? t->rows - y : step);
    if (parted) part_rows(s, t, p, s->activation_bits, y, w.rows, room);
    w.source = source_of(s, t, p, y, room);
    walk(w, [&](const Column& c) { shape.run(c, target); });
  }
}

static double cost(const FusedSpec* s, Machine machine) {
  const Shape* shape = shape_of(s);
  if (shape == nullptr) return -1;
  const int bits = shape->kernel * shape->kernel * shape->weight * shape->activation, n = (1 << shape->bits) - 1;
  // Loads at any address take their share.
  double vector = 1.3 * (3.0 * bits - shape->levels + n * shape->levels + n);
  if (!s->epilogue.planes) vector += 8.0 * (3.0 + 2.0 * shape->bits);
  const int64_t pixel = pixel_bytes_of(s);
  double operations = vector * output_vectors(s, pixel, s->stride_w == 1 || parts(s));
  operations += gather_operations(s, numbers_of(*shape), pixel, 8);
  if (parts(s)) operations += parting_operations(s, pixel, shape->activation);
  return kCallNanoseconds + operations * operation_nanoseconds(machine);
}

}  // namespace

}  // namespace fused_depthwise_planes

extern const FusedKernel kFusedDepthwisePlanes;
constexpr FusedKernel kFusedDepthwisePlanes = {"depthwise planes avx512-vbmi",         fused_depthwise_planes::cost,
                                               fused_depthwise_planes::prepared_bytes, fused_depthwise_planes::prepare,
                                               fused_depthwise_planes::scratch_bytes,  fused_depthwise_planes::run};

}  // namespace bitorch
