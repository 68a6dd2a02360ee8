// Dot products of every method but kTables.
#include <cmath>

#include "checks.h"

namespace bitorch {
namespace {

struct DotCase {
  std::vector<const uint8_t*> pixel;
  std::vector<int32_t> step;
  DotTile tile;
};

// The bits of a case. kDepthwise draws its own; kFloat and kDepthwiseFloat have none.
struct Bits {
  int weight, activation;
};

// Random offsets into `size` bytes of input, of which each load reads `load_bytes` from step 0 on and planes lie
// beyond.
DotCase make_case(Random& random, const KernelTable& table, int method, int steps, Bits bits, int load_bytes,
                  int align) {
  DotCase c;
  const int pixels = random.from(1, table.tile_pixels[method]);
  const int64_t plane_bytes = method == kPopcount ? random.from(4, 3000) : 0;
  const int span = random.from(64, 4096) / align * align;
  const size_t size = static_cast<size_t>(2 * span + plane_bytes * (bits.activation - 1) + load_bytes);
  const uint8_t* input = input_memory().last(size);
  for (int p = 0; p < pixels; ++p) c.pixel.push_back(input + random.from(0, span / align) * align);
  for (int s = 0; s < steps; ++s) c.step.push_back(random.from(0, span / align) * align);
  c.pixel[0] = input + span;
  c.step[0] = span;        // this load ends at the fence
  if (random.one_in(2)) {  // runs of neighbours, as in a row of pixels: some kernels load several at once
    for (int s = 1; s < steps; ++s) {
      if (!random.one_in(9) && c.step[s - 1] + load_bytes <= span) c.step[s] = c.step[s - 1] + load_bytes;
    }
  }
  c.tile = {};
  c.tile.plane_bytes = plane_bytes;
  c.tile.pixels = pixels;
  c.tile.steps = steps;
  c.tile.channels = any_channels(random);
  c.tile.weight_bits = bits.weight;
  c.tile.activation_bits = bits.activation;
  return c;
}

void describe_dot(const KernelTable& table, int method, const DotTile& t, Fill fill) {
  describe("%s dot[%d] (%s): W%d A%d, pixels %d, steps %d, channels %d, plane_bytes %lld, fill %d", table.name, method,
           table.dot_name[method] ? table.dot_name[method] : "unnamed", t.weight_bits, t.activation_bits, t.pixels,
           t.steps, t.channels, static_cast<long long>(t.plane_bytes), fill);
}

void run(const KernelTable& table, int method, DotCase& c, const void* weights, Tile& out) {
  c.tile.pixel = c.pixel.data();
  c.tile.step = c.step.data();
  c.tile.weights = weights;
  table.dot[method](&c.tile, out.data());
}

void run_and_compare(const KernelTable& table, int method, DotCase& c, const void* weights,
                     const std::vector<uint32_t>& expected) {
  Tile out(c.tile.pixels);
  run(table, method, c, weights, out);
  for (int p = 0; p < c.tile.pixels; ++p) {
    for (int ch = 0; ch < c.tile.channels; ++ch) {
      if (out.at(p, ch) != expected[p * kBlock + ch]) {
        fail("sum", p * kBlock + ch, static_cast<int32_t>(out.at(p, ch)),
             static_cast<int32_t>(expected[p * kBlock + ch]));
      }
    }
  }
  out.check_guards();
}

// ---- kPopcount ----

// The sums of one pixel, a bit plane of it and a step after the other.
void add_popcounts(const DotCase& c, Aligned<uint32_t>& w, int p, uint32_t* expected) {
  for (int i = 0; i < c.tile.activation_bits; ++i) {
    for (int s = 0; s < c.tile.steps; ++s) {
      uint32_t x;
      memcpy(&x, c.pixel[p] + i * c.tile.plane_bytes + c.step[s], 4);
      for (int j = 0; j < c.tile.weight_bits; ++j) {
        for (int ch = 0; ch < kBlock; ++ch) {
          expected[ch] +=
              static_cast<uint32_t>(popcount(w[(static_cast<size_t>(j) * c.tile.steps + s) * kBlock + ch] & x))
              << (i + j);
        }
      }
    }
  }
}

void check_popcount(Random& random, const KernelTable& table, int steps, Bits bits, Fill fill) {
  DotCase c = make_case(random, table, kPopcount, steps, bits, 4, 1);
  describe_dot(table, kPopcount, c.tile, fill);
  fill_input(random, fill, size_t{8192} + 8 * 3000, 255);
  Aligned<uint32_t> w(static_cast<size_t>(bits.weight) * steps * kBlock);
  for (int i = 0; i < bits.weight * steps * kBlock; ++i) {
    const uint32_t any = static_cast<uint32_t>(random.word());
    w[i] = fill == kMost || fill == kLeast ? 0xffffffffu
           : fill == kSparse               ? any & static_cast<uint32_t>(random.word())
                                           : any;
  }
  std::vector<uint32_t> expected(static_cast<size_t>(c.tile.pixels) * kBlock);
  for (int p = 0; p < c.tile.pixels; ++p) add_popcounts(c, w, p, &expected[static_cast<size_t>(p) * kBlock]);
  run_and_compare(table, kPopcount, c, w.data(), expected);
}

// ---- kBytes and kWords ----

// Weight codes are odd numbers -n..n, n = 2^weight_bits - 1, and 0 where there is no weight; 8-bit codes are stored in
// bytes as m - 128.
int weight_code(Random& random, Fill fill, int weight_bits, bool bytes) {
  const int most = bytes && weight_bits == 8 ? 127 : (1 << weight_bits) - 1;
  const int least = bytes && weight_bits == 8 ? -128 : -most;
  if (fill == kMost) return most;
  if (fill == kLeast || fill == kLeastTimesZero) return least;  // a kernel that centres codes multiplies -128 by -128
  return fill == kSparse && random.one_in(2) ? 0 : random.from(least, most);
}

void check_bytes(Random& random, const KernelTable& table, int steps, Bits bits, Fill fill) {
  DotCase c = make_case(random, table, kBytes, steps, bits, 4, 1);
  describe_dot(table, kBytes, c.tile, fill);
  fill_input(random, fill, 8192 + 4, (1 << bits.activation) - 1);
  Aligned<int8_t> w(static_cast<size_t>(steps) * kBlock * 4);
  for (int i = 0; i < steps * kBlock * 4; ++i) w[i] = static_cast<int8_t>(weight_code(random, fill, bits.weight, true));
  std::vector<uint32_t> expected(static_cast<size_t>(c.tile.pixels) * kBlock);
  for (int p = 0; p < c.tile.pixels; ++p) {
    for (int s = 0; s < steps; ++s) {
      for (int ch = 0; ch < kBlock; ++ch) {
        for (int b = 0; b < 4; ++b) {
          expected[p * kBlock + ch] += static_cast<uint32_t>(w[(s * kBlock + ch) * 4 + b] * c.pixel[p][c.step[s] + b]);
        }
      }
    }
  }
  run_and_compare(table, kBytes, c, w.data(), expected);
}

void check_words(Random& random, const KernelTable& table, int steps, Bits bits, Fill fill) {
  DotCase c = make_case(random, table, kWords, steps, bits, 4, 2);
  describe_dot(table, kWords, c.tile, fill);
  fill_input(random, fill, 8192 + 4, (1 << bits.activation) - 1);
  for (uint8_t* high = input_memory().last(8192 + 4) + 1; high < input_memory().last(0); high += 2) *high = 0;
  Aligned<int16_t> w(static_cast<size_t>(steps) * kBlock * 2);
  for (int i = 0; i < steps * kBlock * 2; ++i) {
    w[i] = static_cast<int16_t>(weight_code(random, fill, bits.weight, false));
  }
  std::vector<uint32_t> expected(static_cast<size_t>(c.tile.pixels) * kBlock);
  for (int p = 0; p < c.tile.pixels; ++p) {
    for (int s = 0; s < steps; ++s) {
      int16_t x[2];
      memcpy(x, c.pixel[p] + c.step[s], 4);
      for (int ch = 0; ch < kBlock; ++ch) {
        for (int b = 0; b < 2; ++b) {
          expected[p * kBlock + ch] += static_cast<uint32_t>(w[(s * kBlock + ch) * 2 + b] * x[b]);
        }
      }
    }
  }
  run_and_compare(table, kWords, c, w.data(), expected);
}

// ---- kDepthwise ----

void check_depthwise(Random& random, const KernelTable& table, int steps, Fill fill) {
  const int weight_bits = random.from(1, 8), activation_bits = random.from(1, 8);
  const int most_weight = (1 << weight_bits) - 1, most_code = (1 << activation_bits) - 1;
  const int channels = random.from(1, kBlock);
  DotCase c = make_case(random, table, kDepthwise, steps, {weight_bits, activation_bits}, channels, 1);
  c.tile.channels = channels;
  describe_dot(table, kDepthwise, c.tile, fill);
  fill_input(random, fill, 8192 + 32, most_code);
  Aligned<int32_t> w(static_cast<size_t>(steps) * kBlock);
  for (int i = 0; i < steps * kBlock; ++i) {
    w[i] = fill == kMost ? most_weight : fill == kLeast ? -most_weight : random.from(-most_weight, most_weight);
  }
  std::vector<uint32_t> expected(static_cast<size_t>(c.tile.pixels) * kBlock);
  for (int p = 0; p < c.tile.pixels; ++p) {
    for (int s = 0; s < steps; ++s) {
      for (int ch = 0; ch < channels; ++ch) {
        expected[p * kBlock + ch] += static_cast<uint32_t>(w[s * kBlock + ch] * c.pixel[p][c.step[s] + ch]);
      }
    }
  }
  run_and_compare(table, kDepthwise, c, w.data(), expected);
}

// ---- kFloat and kDepthwiseFloat ----

// kFloat, where every channel reads the same number, and kDepthwiseFloat, where channel ch reads number ch.
void check_float(Random& random, const KernelTable& table, int method, int steps) {
  const int channels = any_channels(random);
  const bool depthwise = method == kDepthwiseFloat;
  DotCase c = make_case(random, table, method, steps, {8, 8}, depthwise ? 4 * channels : 4, 4);
  c.tile.channels = channels;
  describe_dot(table, method, c.tile, kRandom);
  const size_t floats = 8192 / 4 + kBlock;
  float* input = input_memory().last<float>(floats);
  for (size_t i = 0; i < floats; ++i) input[i] = random.real();
  Aligned<float> w(static_cast<size_t>(steps) * kBlock);
  for (int i = 0; i < steps * kBlock; ++i) w[i] = random.real();
  Tile out(c.tile.pixels);
  run(table, method, c, w.data(), out);
  for (int p = 0; p < c.tile.pixels; ++p) {
    for (int ch = 0; ch < c.tile.channels; ++ch) {
      double sum = 0, magnitude = 0;
      for (int s = 0; s < steps; ++s) {
        float x;
        memcpy(&x, c.pixel[p] + c.step[s] + (depthwise ? 4 * ch : 0), 4);
        sum += static_cast<double>(w[s * kBlock + ch]) * x;
        magnitude += std::fabs(static_cast<double>(w[s * kBlock + ch]) * x);
      }
      if (!(std::fabs(out.real(p, ch) - sum) <= magnitude * (steps + 1) * 0x1p-23)) {
        fail("float sum", p * kBlock + ch, out.real(p, ch), sum);
      }
    }
  }
  out.check_guards();
}

// ---- All of them ----

void check_dot(Random& random, const KernelTable& table, int method, int steps, Bits bits, Fill fill) {
  switch (method) {
    case kPopcount:
      return check_popcount(random, table, steps, bits, fill);
    case kBytes:
      return check_bytes(random, table, steps, bits, fill);
    case kWords:
      return check_words(random, table, steps, bits, fill);
    case kDepthwise:
      return check_depthwise(random, table, steps, fill);
    default:
      check_float(random, table, method, steps);
  }
}

// So many steps of the largest products that the sum comes close to 2^31.
void check_largest_sums(Random& random, const KernelTable& table, int method) {
  constexpr int64_t kLimit = (int64_t{1} << 31) - 1;
  for (Fill fill : {kMost, kLeast}) {
    if (method == kPopcount) check_popcount(random, table, kLimit / (32 * 255 * 255), {8, 8}, fill);
    if (method == kBytes) check_bytes(random, table, kLimit / (4 * 128 * 255), {8, 8}, fill);
    if (method == kBytes) check_bytes(random, table, 20000, {4, 4}, fill);
    if (method == kWords) check_words(random, table, kLimit / (2 * 255 * 255), {8, 8}, fill);
    if (method == kDepthwise) check_depthwise(random, table, static_cast<int>(kLimit / (255 * 255)), fill);
  }
}

void check_method(Random& random, const KernelTable& table, int cases, int method) {
  if (!table.dot[method]) return;
  if (table.tile_pixels[method] < 1 || table.tile_pixels[method] > kMaxTilePixels) {
    describe("%s tile_pixels[%d]", table.name, method);
    fail("tile_pixels", method, table.tile_pixels[method], kMaxTilePixels);
  }
  for (int i = 0; i < cases; ++i) {  // every pair of bits in turn, then at random
    const int weight_bits = i < 64 ? i / 8 + 1 : random.from(1, 8);
    const int activation_bits = i < 64 ? i % 8 + 1 : random.from(1, 8);
    const Fill fill = any_fill(random);
    const int steps = random.one_in(8) ? random.from(100, 400) : random.from(1, 70);
    check_dot(random, table, method, steps, {weight_bits, activation_bits}, fill);
  }
  check_largest_sums(random, table, method);
}

}  // namespace

void check_dots(Random& random, const KernelTable& table, int cases) {
  for (int method : {kPopcount, kBytes, kWords, kDepthwise, kFloat, kDepthwiseFloat}) {
    check_method(random, table, cases, method);
  }
}

}  // namespace bitorch
