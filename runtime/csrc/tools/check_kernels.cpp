// Checks every function of every kernel table this CPU can run against scalar code written from the comments of
// core/kernels.h alone, on random and extreme cases. Integers and floats must be equal, float dot products close.
// Inputs end at an inaccessible page and outputs are compared with everything around them, so that stray reads and
// writes are found too.
//
//   check_kernels [--kernel NAME] [--cases N] [--seed S]      exits with 1 at a difference and prints the case
#include <signal.h>

#include <cmath>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <exception>
#include <limits>
#include <string>
#include <utility>
#include <vector>

#include "check_activations.h"
#include "check_support.h"
#include "core/base/cpu.h"
#include "core/kernels.h"

namespace bitorch {
namespace {

// ---- Dot products ----

constexpr int kSlackBytes = 64;  // readable bytes behind every tensor (layout.h)

// How the values of a case are drawn.
enum Fill { kRandom, kSparse, kMost, kLeast, kLeastTimesZero };

Fill any_fill(Random& random) { return static_cast<Fill>(random.from(0, 4)); }

struct DotCase {
  std::vector<const uint8_t*> pixel;
  std::vector<int32_t> step;
  DotTile tile;
};

// Random offsets into `size` bytes of input, of which each load reads `load_bytes` from step 0 on and planes lie
// beyond.
DotCase make_case(Random& random, const KernelTable& table, int method, int steps, int weight_bits, int activation_bits,
                  int load_bytes, int align) {
  DotCase c;
  const int pixels = random.from(1, table.tile_pixels[method]);
  const int64_t plane_bytes = method == kPopcount ? random.from(4, 3000) : 0;
  const int span = random.from(64, 4096) / align * align;
  const size_t size = static_cast<size_t>(2 * span + plane_bytes * (activation_bits - 1) + load_bytes);
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
  c.tile = {nullptr,
            nullptr,
            nullptr,
            plane_bytes,
            pixels,
            steps,
            random.one_in(2) ? kBlock : random.from(1, kBlock),
            weight_bits,
            activation_bits};
  return c;
}

void fill_input(Random& random, Fill fill, size_t size, int most) {
  uint8_t* input = input_memory().last(size);
  for (size_t i = 0; i < size; ++i) {
    const int any = random.from(0, most);
    if (fill == kLeastTimesZero) {
      input[i] = 0;
      continue;
    }
    input[i] = static_cast<uint8_t>(fill == kMost || fill == kLeast ? most
                                    : fill == kSparse               ? any & random.from(0, most) & random.from(0, most)
                                                                    : any);
  }
}

void describe(const KernelTable& table, int method, const DotTile& t, Fill fill) {
  std::snprintf(case_text, sizeof(case_text),
                "%s dot[%d] (%s): W%d A%d, pixels %d, steps %d, channels %d, plane_bytes %lld, fill %d", table.name,
                method, table.dot_name[method] ? table.dot_name[method] : "unnamed", t.weight_bits, t.activation_bits,
                t.pixels, t.steps, t.channels, static_cast<long long>(t.plane_bytes), fill);
}

void run_and_compare(const KernelTable& table, int method, DotCase& c, const void* weights,
                     const std::vector<uint32_t>& expected) {
  c.tile.pixel = c.pixel.data();
  c.tile.step = c.step.data();
  c.tile.weights = weights;
  Tile out(c.tile.pixels);
  table.dot[method](&c.tile, out.data());
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

int popcount(uint32_t word) {
  int count = 0;
  for (; word; word &= word - 1) ++count;
  return count;
}

void check_popcount(Random& random, const KernelTable& table, int steps, int weight_bits, int activation_bits,
                    Fill fill) {
  DotCase c = make_case(random, table, kPopcount, steps, weight_bits, activation_bits, 4, 1);
  describe(table, kPopcount, c.tile, fill);
  fill_input(random, fill, size_t{8192} + 8 * 3000, 255);
  Aligned<uint32_t> w(static_cast<size_t>(weight_bits) * steps * kBlock);
  for (int i = 0; i < weight_bits * steps * kBlock; ++i) {
    const uint32_t any = static_cast<uint32_t>(random.word());
    w[i] = fill == kMost || fill == kLeast ? 0xffffffffu
           : fill == kSparse               ? any & static_cast<uint32_t>(random.word())
                                           : any;
  }
  std::vector<uint32_t> expected(static_cast<size_t>(c.tile.pixels) * kBlock);
  for (int p = 0; p < c.tile.pixels; ++p) {
    for (int i = 0; i < activation_bits; ++i) {
      for (int s = 0; s < steps; ++s) {
        uint32_t x;
        memcpy(&x, c.pixel[p] + i * c.tile.plane_bytes + c.step[s], 4);
        for (int j = 0; j < weight_bits; ++j) {
          for (int ch = 0; ch < kBlock; ++ch) {
            expected[p * kBlock + ch] +=
                static_cast<uint32_t>(popcount(w[(static_cast<size_t>(j) * steps + s) * kBlock + ch] & x)) << (i + j);
          }
        }
      }
    }
  }
  run_and_compare(table, kPopcount, c, w.data(), expected);
}

// Weight codes are odd numbers -n..n, n = 2^weight_bits - 1, and 0 where there is no weight; 8-bit codes are stored in
// bytes as m - 128.
int weight_code(Random& random, Fill fill, int weight_bits, bool bytes) {
  const int most = bytes && weight_bits == 8 ? 127 : (1 << weight_bits) - 1;
  const int least = bytes && weight_bits == 8 ? -128 : -most;
  if (fill == kMost) return most;
  if (fill == kLeast || fill == kLeastTimesZero) return least;  // a kernel that centres codes multiplies -128 by -128
  return fill == kSparse && random.one_in(2) ? 0 : random.from(least, most);
}

void check_bytes(Random& random, const KernelTable& table, int steps, int weight_bits, int activation_bits, Fill fill) {
  DotCase c = make_case(random, table, kBytes, steps, weight_bits, activation_bits, 4, 1);
  describe(table, kBytes, c.tile, fill);
  fill_input(random, fill, 8192 + 4, (1 << activation_bits) - 1);
  Aligned<int8_t> w(static_cast<size_t>(steps) * kBlock * 4);
  for (int i = 0; i < steps * kBlock * 4; ++i) w[i] = static_cast<int8_t>(weight_code(random, fill, weight_bits, true));
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

void check_words(Random& random, const KernelTable& table, int steps, int weight_bits, int activation_bits, Fill fill) {
  DotCase c = make_case(random, table, kWords, steps, weight_bits, activation_bits, 4, 2);
  describe(table, kWords, c.tile, fill);
  fill_input(random, fill, 8192 + 4, (1 << activation_bits) - 1);
  for (uint8_t* high = input_memory().last(8192 + 4) + 1; high < input_memory().last(0); high += 2) *high = 0;
  Aligned<int16_t> w(static_cast<size_t>(steps) * kBlock * 2);
  for (int i = 0; i < steps * kBlock * 2; ++i) {
    w[i] = static_cast<int16_t>(weight_code(random, fill, weight_bits, false));
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

void check_depthwise(Random& random, const KernelTable& table, int steps, Fill fill) {
  const int weight_bits = random.from(1, 8), activation_bits = random.from(1, 8);
  const int most_weight = (1 << weight_bits) - 1, most_code = (1 << activation_bits) - 1;
  const int channels = random.from(1, kBlock);
  DotCase c = make_case(random, table, kDepthwise, steps, weight_bits, activation_bits, channels, 1);
  c.tile.channels = channels;
  describe(table, kDepthwise, c.tile, fill);
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

// kFloat, where every channel reads the same number, and kDepthwiseFloat, where channel ch reads number ch.
void check_float(Random& random, const KernelTable& table, int method, int steps) {
  const int channels = random.one_in(2) ? kBlock : random.from(1, kBlock);
  const bool depthwise = method == kDepthwiseFloat;
  DotCase c = make_case(random, table, method, steps, 8, 8, depthwise ? 4 * channels : 4, 4);
  c.tile.channels = channels;
  describe(table, method, c.tile, kRandom);
  const size_t floats = 8192 / 4 + kBlock;
  float* input = input_memory().last<float>(floats);
  for (size_t i = 0; i < floats; ++i) input[i] = random.real();
  Aligned<float> w(static_cast<size_t>(steps) * kBlock);
  for (int i = 0; i < steps * kBlock; ++i) w[i] = random.real();
  c.tile.pixel = c.pixel.data();
  c.tile.step = c.step.data();
  c.tile.weights = w.data();
  Tile out(c.tile.pixels);
  table.dot[method](&c.tile, out.data());
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

// Bit planes of one pixel as they should be; `bytes` are its codes.
void expect_planes(uint8_t* out, int64_t plane_bytes, const std::vector<int>& codes, int bits) {
  for (int i = 0; i < bits; ++i) {
    for (size_t c = 0; c < codes.size(); c += 8) {
      int byte = 0;
      for (size_t k = c; k < codes.size() && k < c + 8; ++k) byte |= (codes[k] >> i & 1) << (k - c);
      out[i * plane_bytes + static_cast<int64_t>(c / 8)] = static_cast<uint8_t>(byte);
    }
  }
}

// stage_tables and kTables together, as in a convolution over a few rows: the entries of a table lie as the kernel
// likes.
void check_tables(Random& random, const KernelTable& table, int channels, int weight_bits, int activation_bits,
                  Fill fill) {
  const int n_a = (1 << activation_bits) - 1;
  const int kernel_h = random.from(1, 3), kernel_w = random.from(1, 3);
  const int columns = kernel_w + random.from(0, 20);
  const int pixels = random.from(1, table.tile_pixels[kTables]), outputs = random.from(1, table.table_block);
  const bool planes = random.one_in(2), outer_planes = random.one_in(2);
  const int tables = (channels + table.table_channels - 1) / table.table_channels;
  const int plane_row = (channels + 7) / 8;
  const int64_t pixel_bytes = !planes ? channels : outer_planes ? plane_row : plane_row * activation_bits;
  const int64_t plane_bytes = outer_planes ? columns * pixel_bytes : plane_row;
  const int64_t in_row_bytes = planes && outer_planes ? plane_bytes * activation_bits : columns * pixel_bytes;
  const int64_t staged_pixel = tables * table.table_bytes, row_bytes = columns * staged_pixel;
  std::snprintf(case_text, sizeof(case_text),
                "%s kTables: W%d A%d, channels %d, kernel %dx%d, columns %d, pixels %d, outputs %d, planes %d, "
                "plane_bytes %lld, fill %d",
                table.name, weight_bits, activation_bits, channels, kernel_h, kernel_w, columns, pixels, outputs,
                planes, static_cast<long long>(plane_bytes), fill);

  std::vector<std::vector<int>> codes;  // [kernel_h * columns][channels]
  uint8_t* input = input_memory().last(static_cast<size_t>(kernel_h * in_row_bytes + kSlackBytes));
  for (int i = 0; i < kernel_h * columns; ++i) {
    codes.emplace_back();
    for (int c = 0; c < channels; ++c) {
      codes.back().push_back(fill == kMost ? n_a : fill == kLeast ? 0 : random.from(0, n_a));
    }
    uint8_t* pixel = input + i / columns * in_row_bytes + i % columns * pixel_bytes;
    if (planes) {
      expect_planes(pixel, plane_bytes, codes.back(), activation_bits);
    } else {
      for (int c = 0; c < channels; ++c) pixel[c] = static_cast<uint8_t>(codes.back()[c]);
    }
  }
  uint8_t* guard = output_memory().last(static_cast<size_t>(kernel_h * row_bytes) + 64);
  memset(guard, 0xa5, 64);
  uint8_t* staged = guard + 64;
  for (int y = 0; y < kernel_h; ++y) {
    const TableStage stage = {
        input + y * in_row_bytes, pixel_bytes, plane_bytes, staged + y * row_bytes, staged_pixel, columns, channels,
        activation_bits,          planes};
    table.stage_tables(&stage);
  }
  for (int i = 0; i < 64; ++i) {
    if (guard[i] != 0xa5) fail("before the staged row", i, guard[i], 0xa5);
  }

  DotCase c;
  std::vector<int> column;
  for (int p = 0; p < pixels; ++p) {
    column.push_back(random.from(0, columns - kernel_w));
    c.pixel.push_back(staged + column[p] * staged_pixel);
  }
  for (int y = 0; y < kernel_h; ++y) {
    for (int k = 0; k < tables; ++k) {
      for (int x = 0; x < kernel_w; ++x) {
        c.step.push_back(static_cast<int32_t>(y * row_bytes + k * table.table_bytes + x * staged_pixel));
      }
    }
  }
  const int steps = static_cast<int>(c.step.size()), lanes = table.table_lanes, parts = (outputs + lanes - 1) / lanes;
  const int blocks = (outputs + kBlock - 1) / kBlock;
  Aligned<uint8_t> w(static_cast<size_t>(parts) * weight_bits * steps * lanes);
  std::vector<uint32_t> expected(static_cast<size_t>(pixels) * parts * lanes);
  for (int part = 0; part < parts; ++part) {
    for (int j = 0; j < weight_bits; ++j) {
      for (int s = 0; s < steps; ++s) {
        const int x = s % kernel_w, k = s / kernel_w % tables, y = s / kernel_w / tables;
        const int first = k * table.table_channels;
        const int valid = channels - first < table.table_channels ? channels - first : table.table_channels;
        for (int lane = 0; lane < lanes; ++lane) {
          const int index = fill == kMost || fill == kLeast ? (1 << valid) - 1 : random.from(0, (1 << valid) - 1);
          w[((static_cast<size_t>(part) * weight_bits + j) * steps + s) * lanes + lane] = static_cast<uint8_t>(index);
          for (int p = 0; p < pixels; ++p) {
            const std::vector<int>& q = codes[y * columns + column[p] + x];
            uint32_t sum = 0;
            for (int b = 0; b < valid; ++b) sum += static_cast<uint32_t>((index >> b & 1) * q[first + b]);
            expected[(static_cast<size_t>(part) * lanes + lane) * pixels + p] += sum << j;
          }
        }
      }
    }
  }
  c.tile = {c.pixel.data(), c.step.data(), w.data(), 0, pixels, steps, outputs, weight_bits, activation_bits};
  Tile out(pixels, blocks);
  table.dot[kTables](&c.tile, out.data());
  for (int o = 0; o < outputs; ++o) {
    for (int p = 0; p < pixels; ++p) {
      const uint32_t got = out.at(o / kBlock * pixels + p, o % kBlock);
      if (got != expected[o * pixels + p]) {
        fail("sum", o * pixels + p, static_cast<int32_t>(got), static_cast<int32_t>(expected[o * pixels + p]));
      }
    }
  }
  out.check_guards();
}

void check_all_tables(Random& random, const KernelTable& table, int cases) {
  if (!table.dot[kTables]) return;
  for (int i = 0; i < 64; ++i) {
    const int weight_bits = i / 8 + 1, activation_bits = i % 8 + 1;
    if (table.method[i / 8][i % 8] != kTables) continue;
    for (int k = 0; k < cases / 16 + 1; ++k) {
      check_tables(random, table, random.from(1, random.one_in(4) ? 300 : 70), weight_bits, activation_bits,
                   any_fill(random));
    }
    check_tables(random, table, 2000, weight_bits, activation_bits, kMost);  // beyond 16 bits
  }
}

void check_dots(Random& random, const KernelTable& table, int cases, int method) {
  if (!table.dot[method]) return;
  if (table.tile_pixels[method] < 1 || table.tile_pixels[method] > kMaxTilePixels) {
    std::snprintf(case_text, sizeof(case_text), "%s tile_pixels[%d]", table.name, method);
    fail("tile_pixels", method, table.tile_pixels[method], kMaxTilePixels);
  }
  for (int i = 0; i < cases; ++i) {
    // Every pair of bits in turn, then at random; now and then so many steps that the sum comes close to 2^31.
    const int weight_bits = i < 64 ? i / 8 + 1 : random.from(1, 8);
    const int activation_bits = i < 64 ? i % 8 + 1 : random.from(1, 8);
    const Fill fill = any_fill(random);
    const int steps = random.one_in(8) ? random.from(100, 400) : random.from(1, 70);
    switch (method) {
      case kPopcount:
        check_popcount(random, table, steps, weight_bits, activation_bits, fill);
        break;
      case kBytes:
        check_bytes(random, table, steps, weight_bits, activation_bits, fill);
        break;
      case kWords:
        check_words(random, table, steps, weight_bits, activation_bits, fill);
        break;
      case kDepthwise:
        check_depthwise(random, table, steps, fill);
        break;
      case kFloat:
      case kDepthwiseFloat:
        check_float(random, table, method, steps);
        break;
      default:
        break;
    }
  }
  constexpr int64_t kLimit = (int64_t{1} << 31) - 1;
  for (Fill fill : {kMost, kLeast}) {
    if (method == kPopcount) check_popcount(random, table, kLimit / (32 * 255 * 255), 8, 8, fill);
    if (method == kBytes) check_bytes(random, table, kLimit / (4 * 128 * 255), 8, 8, fill);
    if (method == kBytes) check_bytes(random, table, 20000, 4, 4, fill);
    if (method == kWords) check_words(random, table, kLimit / (2 * 255 * 255), 8, 8, fill);
    if (method == kDepthwise) check_depthwise(random, table, static_cast<int>(kLimit / (255 * 255)), fill);
  }
}

// ---- What follows the dot products ----

// Corrections of one case. add or border may be absent.
struct Corrections {
  std::vector<int32_t> add;
  std::vector<std::vector<int32_t>> border;
  std::vector<const int32_t*> rows;
  Correction correction;

  Corrections(Random& random, int pixels) {
    for (int p = 0; p < pixels; ++p) {
      add.push_back(random.from(-1000000, 1000000));
      border.emplace_back(kBlock);
      for (int32_t& term : border.back()) term = random.from(-1000, 1000);
    }
    for (const std::vector<int32_t>& row : border) rows.push_back(row.data());
    correction = {random.one_in(2) ? add.data() : nullptr, random.one_in(2) ? rows.data() : nullptr, random.from(0, 2)};
  }
  int32_t apply(uint32_t accumulator, int p, int c) const {
    uint32_t d = accumulator << correction.shift;
    if (correction.add) d += static_cast<uint32_t>(correction.add[p]);
    if (correction.border) d += static_cast<uint32_t>(correction.border[p][c]);
    return static_cast<int32_t>(d);
  }
};

uint32_t any_accumulator(Random& random) {
  if (random.one_in(4)) return static_cast<uint32_t>(random.word());
  return static_cast<uint32_t>(random.from(-3000, 3000));
}

int any_channels(Random& random) { return random.one_in(2) ? kBlock : random.from(1, kBlock); }

float multiply_add(float x, float multiply, float offset) {
  volatile float product = x * multiply;  // rounded here, whatever the compiler may fuse
  volatile float sum = product + offset;
  return sum;
}

// Numbers whose x * multiply + offset lies beside the middle of two floats, nearer than double can tell: the product is
// a half of offset's last bit, times 1 - k * k * 2^-46.
void near_tie(Random& random, float* x, float* multiply, float* offset) {
  const float k = std::ldexp(static_cast<float>(random.from(-15, 15)), -23);
  const int scale = random.from(-40, 40);
  *x = random.one_in(2) ? 1 + k : -1 - k;
  *multiply = std::ldexp(1 - k, scale);
  *offset =
      std::ldexp(static_cast<float>((1 << 24) + 2 * random.from(0, 1000)), scale) * (random.one_in(2) ? 1.0f : -1.0f);
}

void check_finish_int(Random& random, const KernelTable& table) {
  const int pixels = random.from(1, kMaxTilePixels);
  const Corrections k(random, pixels);
  const IntStage stage = {k.correction, pixels, any_channels(random)};
  std::snprintf(case_text, sizeof(case_text), "%s finish_int: pixels %d, channels %d, shift %d, add %d, border %d",
                table.name, pixels, stage.channels, k.correction.shift, k.correction.add != nullptr,
                k.correction.border != nullptr);
  Tile tile(pixels);
  std::vector<int32_t> expected;
  for (int p = 0; p < pixels; ++p) {
    for (int c = 0; c < kBlock; ++c) {
      tile.at(p, c) = any_accumulator(random);
      expected.push_back(k.apply(tile.at(p, c), p, c));
    }
  }
  table.finish_int(&stage, static_cast<int32_t*>(tile.data()));
  for (int p = 0; p < pixels; ++p) {
    for (int c = 0; c < stage.channels; ++c) {
      const int32_t got = static_cast<int32_t>(tile.at(p, c));
      if (got != expected[p * kBlock + c]) fail("D", p * kBlock + c, got, expected[p * kBlock + c]);
    }
  }
  tile.check_guards();
}

void check_to_float(Random& random, const KernelTable& table, bool from_int) {
  const int pixels = random.from(1, kMaxTilePixels), channels = any_channels(random);
  const Corrections k(random, pixels);
  Aligned<float> multiply(kBlock), offset(kBlock), norm_multiply(kBlock), norm_offset(kBlock);
  for (Aligned<float>* array : {&multiply, &offset, &norm_multiply, &norm_offset}) {
    for (int c = 0; c < kBlock; ++c) (*array)[c] = random.one_in(10) ? any_float(random) : random.real();
  }
  const bool norm = random.one_in(2), ties = norm && !from_int && random.one_in(2);
  float tie[kBlock];
  for (int c = 0; c < kBlock && ties; ++c) {
    multiply[c] = 1.0f;
    offset[c] = -0.0f;
    near_tie(random, &tie[c], &norm_multiply[c], &norm_offset[c]);
  }
  std::vector<const float*> rows;
  float* residual = input_memory().last<float>(static_cast<size_t>(pixels) * channels);
  for (int i = 0; i < pixels * channels; ++i) residual[i] = any_float(random);
  for (int p = 0; p < pixels; ++p) rows.push_back(residual + p * channels);
  const bool has_residual = random.one_in(2);
  std::vector<float> left(static_cast<size_t>(pixels) * (channels + 1),
                          7.0f);  // one float between the rows, which stays
  std::vector<float*> outs;
  for (int p = 0; p < pixels; ++p) outs.push_back(left.data() + p * (channels + 1));
  const FloatStage stage = {k.correction,
                            multiply.data(),
                            offset.data(),
                            norm ? norm_multiply.data() : nullptr,
                            norm ? norm_offset.data() : nullptr,
                            has_residual ? rows.data() : nullptr,
                            pixels,
                            channels,
                            random.from(0, 1),
                            random.one_in(2) ? outs.data() : nullptr};
  std::snprintf(case_text, sizeof(case_text),
                "%s %s: pixels %d, channels %d, shift %d, add %d, border %d, norm %d, residual %d, relu %d", table.name,
                from_int ? "int_to_float" : "float_to_float", pixels, channels, k.correction.shift,
                k.correction.add != nullptr, k.correction.border != nullptr, norm, has_residual, stage.relu);
  Tile tile(pixels);
  std::vector<float> expected;
  for (int p = 0; p < pixels; ++p) {
    for (int c = 0; c < kBlock; ++c) {
      float x;
      if (from_int) {
        tile.at(p, c) = any_accumulator(random);
        x = static_cast<float>(k.apply(tile.at(p, c), p, c));
      } else {
        x = ties ? tie[c] : any_float(random);
        tile.set_real(p, c, x);
      }
      volatile float y = multiply_add(x, multiply[c], offset[c]);
      if (norm) y = std::fma(static_cast<float>(y), norm_multiply[c], norm_offset[c]);
      if (has_residual && c < channels) y = y + rows[p][c];
      if (stage.relu && y < 0) y = 0;
      expected.push_back(static_cast<float>(y));
    }
  }
  (from_int ? table.int_to_float : table.float_to_float)(&stage, tile.data());
  for (int p = 0; p < pixels; ++p) {
    for (int c = 0; c < channels; ++c) {
      if (!same(tile.real(p, c), expected[p * kBlock + c])) {
        fail("y", p * kBlock + c, tile.real(p, c), expected[p * kBlock + c]);
      }
      if (stage.out != nullptr && !same(outs[p][c], expected[p * kBlock + c])) {
        fail("y that leaves", p * kBlock + c, outs[p][c], expected[p * kBlock + c]);
      }
    }
    if (outs[p][channels] != 7.0f) fail("behind a row", p, outs[p][channels], 7.0f);
  }
  tile.check_guards();
}

int round_to_code(double y, int most) {
  if (std::isnan(y)) return 0;
  const double rounded = std::nearbyint(y);
  return rounded < 0 ? 0 : rounded > most ? most : static_cast<int>(rounded);
}

void check_to_codes(Random& random, const KernelTable& table, bool from_int) {
  const int pixels = random.from(1, kMaxTilePixels), channels = any_channels(random), bits = random.from(1, 8);
  const int rule = random.from(kCompare, kGuided);
  const bool planes = random.one_in(2);
  const int most = (1 << bits) - 1;
  const Corrections k(random, pixels);
  Aligned<float> multiply(kBlock), offset(kBlock);
  Aligned<int32_t> negate(kBlock), int_thresholds(static_cast<size_t>(most) * kBlock);
  Aligned<float> float_thresholds(static_cast<size_t>(most) * kBlock);
  for (int c = 0; c < kBlock; ++c) {
    multiply[c] = random.one_in(10) ? any_float(random) : random.one_in(4) ? 0.5f : random.real();
    offset[c] = random.one_in(10) ? any_float(random) : random.real();
    negate[c] = -random.from(0, 1);
  }
  for (int i = 0; i < most * kBlock; ++i) {
    const int32_t extremes[] = {INT32_MIN, INT32_MAX, INT32_MIN + 1, 0};
    int_thresholds[i] = random.one_in(6) ? extremes[random.from(0, 3)] : random.from(-2000, 2000);
    do {
      float_thresholds[i] = any_float(random);
    } while (std::isnan(float_thresholds[i]));
  }
  for (int c = 0; c < kBlock; ++c) {
    for (int j = 1; j < most; ++j) {  // sorted by insertion: thresholds rise
      for (int i = j; i > 0; --i) {
        int32_t* t = &int_thresholds[(i - 1) * kBlock + c];
        float* f = &float_thresholds[(i - 1) * kBlock + c];
        if (t[0] > t[kBlock]) std::swap(t[0], t[kBlock]);
        if (f[0] > f[kBlock]) std::swap(f[0], f[kBlock]);
      }
    }
  }
  for (int c = 0; rule == kCompare && c < kBlock; ++c) {  // the last ones are never reached
    const int numbers = random.one_in(3) ? random.from(0, most) : most;
    for (int j = numbers; j < most; ++j) float_thresholds[j * kBlock + c] = std::numeric_limits<float>::quiet_NaN();
  }
  const float margin = 0.3f;
  for (int c = 0; rule == kGuided && c < kBlock; ++c) {  // thresholds up to a tenth away from where the line says
    multiply[c] = 0.03f + 0.025f * random.real();
    offset[c] = 3 * random.real();
    for (int j = 0; j < most; ++j) {
      const double v = j + 0.5 + 0.1 * static_cast<double>(random.real());
      const double x = (v - static_cast<double>(offset[c])) / static_cast<double>(multiply[c]);
      int_thresholds[j * kBlock + c] = static_cast<int32_t>(std::lround(x));
      float_thresholds[j * kBlock + c] = static_cast<float>(x);
    }
  }
  const bool negated = rule != kAffine && random.one_in(2);
  // Pixels `stride` apart, planes either within a pixel's bytes or each plane after all pixels of the one before.
  const int row_bytes = planes ? (channels + 7) / 8 : channels;
  const bool outer_planes = random.one_in(2);
  const int64_t gap = random.from(0, 5);
  const int64_t plane_stride = outer_planes ? pixels * (row_bytes + gap) : row_bytes + gap;
  const int64_t stride = outer_planes || !planes ? row_bytes + gap : bits * plane_stride;
  const size_t total =
      static_cast<size_t>((pixels - 1) * stride + (planes ? (bits - 1) * plane_stride : 0) + row_bytes);
  Guarded out(output_memory(), total);
  std::vector<uint8_t*> rows;
  for (int p = 0; p < pixels; ++p) rows.push_back(out.data() + p * stride);
  const void* thresholds = from_int ? static_cast<const void*>(int_thresholds.data()) : float_thresholds.data();
  const CodeStage stage = {k.correction,
                           rule == kAffine ? nullptr : thresholds,
                           rule == kCompare ? nullptr : multiply.data(),
                           rule == kCompare ? nullptr : offset.data(),
                           negated ? negate.data() : nullptr,
                           rows.data(),
                           plane_stride,
                           pixels,
                           channels,
                           bits,
                           rule,
                           planes,
                           margin};
  std::snprintf(case_text, sizeof(case_text),
                "%s %s: pixels %d, channels %d, bits %d, rule %d, planes %d, negate %d, shift %d, add %d, border %d, "
                "stride %lld, plane stride %lld",
                table.name, from_int ? "int_to_codes" : "float_to_codes", pixels, channels, bits, rule, planes, negated,
                k.correction.shift, k.correction.add != nullptr, k.correction.border != nullptr,
                static_cast<long long>(stride), static_cast<long long>(plane_stride));
  Tile tile(pixels);
  for (int p = 0; p < pixels; ++p) {
    std::vector<int> codes;
    for (int c = 0; c < kBlock; ++c) {
      const float y = any_float(random);
      const uint32_t accumulator = any_accumulator(random);
      if (from_int) {
        tile.at(p, c) = accumulator;
      } else {
        tile.set_real(p, c, y);
      }
      if (c >= channels) continue;
      const int32_t d = k.apply(accumulator, p, c);
      int code = 0;
      if (rule == kAffine) {
        code = round_to_code(multiply_add(from_int ? static_cast<float>(d) : y, multiply[c], offset[c]), most);
      } else {
        const int32_t signed_d = negated && negate[c] ? static_cast<int32_t>(0u - static_cast<uint32_t>(d)) : d;
        const float signed_y = negated && negate[c] ? -y : y;
        for (int j = 0; j < most; ++j) {
          code += from_int ? signed_d >= int_thresholds[j * kBlock + c] : signed_y >= float_thresholds[j * kBlock + c];
        }
      }
      codes.push_back(code);
    }
    if (planes) {
      expect_planes(out.expected() + p * stride, plane_stride, codes, bits);
    } else {
      for (int c = 0; c < channels; ++c) {
        out.expect(static_cast<size_t>(p * stride + c), static_cast<uint8_t>(codes[c]));
      }
    }
  }
  (from_int ? table.int_to_codes : table.float_to_codes)(&stage, tile.data());
  out.check("byte of the codes");
  tile.check_guards();
}

// ---- Rows ----

void check_pixel_sums(Random& random, const KernelTable& table) {
  const bool planes = random.one_in(2);
  const int pixels = random.from(1, 60), bits = random.from(1, 8);
  const int bytes = random.one_in(2) ? 8 << random.from(0, planes ? 3 : 6) : random.from(1, planes ? 70 : 600);
  const int64_t pixel_bytes = bytes + (random.one_in(2) ? 0 : random.from(0, 9));
  const int64_t plane_bytes = planes ? pixels * pixel_bytes + random.from(0, 9) : 0;
  const size_t size = static_cast<size_t>(planes ? bits * plane_bytes : pixels * pixel_bytes) + kSlackBytes;
  std::snprintf(case_text, sizeof(case_text),
                "%s pixel_sums: pixels %d, bytes %d, bits %d, planes %d, pixel_bytes %lld, plane_bytes %lld",
                table.name, pixels, bytes, bits, planes, static_cast<long long>(pixel_bytes),
                static_cast<long long>(plane_bytes));
  fill_input(random, any_fill(random), size, planes ? 255 : (1 << bits) - 1);
  const uint8_t* row = input_memory().last(size);
  Guarded sums(output_memory(), static_cast<size_t>(pixels) * 4);
  for (int x = 0; x < pixels; ++x) {
    int32_t sum = 0;
    for (int k = 0; k < bytes; ++k) {
      if (!planes) sum += row[x * pixel_bytes + k];
      for (int i = 0; planes && i < bits; ++i) sum += popcount(row[x * pixel_bytes + i * plane_bytes + k]) << i;
    }
    sums.expect(static_cast<size_t>(x) * 4, sum);
  }
  const PixelSums job = {row,    pixel_bytes, plane_bytes, reinterpret_cast<int32_t*>(sums.data()),
                         pixels, bytes,       bits,        planes};
  table.pixel_sums(&job);
  sums.check("byte of the sums");
}

size_t any_length(Random& random) {
  return static_cast<size_t>(random.one_in(4) ? random.from(1, 1000) : random.from(1, 80));
}

void describe_row(const KernelTable& table, const char* name, size_t n, int bits) {
  std::snprintf(case_text, sizeof(case_text), "%s rows.%s: n %zu, bits %d", table.name, name, n, bits);
}

void check_byte_rows(Random& random, const KernelTable& table) {
  const size_t n = any_length(random);
  uint8_t* in = input_memory().last(n);
  for (size_t i = 0; i < n; ++i) in[i] = static_cast<uint8_t>(random.word());

  describe_row(table, "max_bytes", n, 8);
  Guarded most(output_memory(), n);
  for (size_t i = 0; i < n; ++i) {
    most.data()[i] = static_cast<uint8_t>(random.word());
    most.expect(i, most.data()[i] > in[i] ? most.data()[i] : in[i]);
  }
  table.rows.max_bytes(most.data(), in, static_cast<int64_t>(n));
  most.check("byte");

  describe_row(table, "add_bytes", n, 8);
  Guarded sums(output_memory(), n * 4);
  for (size_t i = 0; i < n; ++i) {
    const int32_t before = random.from(-100000, 2000000000);
    memcpy(sums.data() + 4 * i, &before, 4);
    sums.expect(4 * i, before + in[i]);
  }
  table.rows.add_bytes(reinterpret_cast<int32_t*>(sums.data()), in, static_cast<int64_t>(n));
  sums.check("byte");

  describe_row(table, "widen_bytes", n, 8);
  Guarded words(output_memory(), n * 2);
  for (size_t i = 0; i < n; ++i) words.expect(2 * i, static_cast<int16_t>(in[i]));
  table.rows.widen_bytes(reinterpret_cast<int16_t*>(words.data()), in, static_cast<int64_t>(n));
  words.check("byte");
}

void check_add_ints(Random& random, const KernelTable& table) {
  const size_t n = any_length(random), stride = static_cast<size_t>(random.from(1, 4));
  describe_row(table, "add_ints", n, static_cast<int>(stride));
  int32_t* in = input_memory().last<int32_t>((n - 1) * stride + 1);
  for (size_t i = 0; i <= (n - 1) * stride; ++i) in[i] = random.from(-1000000, 1000000);
  Guarded sums(output_memory(), n * 4);
  for (size_t i = 0; i < n; ++i) {
    const int32_t before = random.from(-1000000, 1000000);
    memcpy(sums.data() + 4 * i, &before, 4);
    sums.expect(4 * i, before + in[i * stride]);
  }
  table.rows.add_ints(reinterpret_cast<int32_t*>(sums.data()), in, static_cast<int64_t>(stride),
                      static_cast<int64_t>(n));
  sums.check("sum");
}

void check_max_of_floats(Random& random, const KernelTable& table) {
  const size_t n = any_length(random);
  const int count = random.from(1, 9);
  describe_row(table, "max_of_floats", n, count);
  float* in = input_memory().last<float>(n * static_cast<size_t>(count));
  std::vector<const float*> rows;
  std::vector<float> expected;
  for (int k = 0; k < count; ++k) {
    rows.push_back(in + static_cast<size_t>(k) * n);
    for (size_t i = 0; i < n; ++i) {
      const float x = random.one_in(50) ? any_float(random) : random.real();
      in[static_cast<size_t>(k) * n + i] = x;
      if (k == 0) expected.push_back(x);
      if (std::isnan(x) || x > expected[i]) expected[i] = x;
    }
  }
  float* out = output_memory().last<float>(n);
  table.rows.max_of_floats(out, rows.data(), count, static_cast<int64_t>(n));
  for (size_t i = 0; i < n; ++i) {
    if (!same(out[i], expected[i])) fail("float", static_cast<long long>(i), out[i], expected[i]);
  }
}

void check_float_rows(Random& random, const KernelTable& table) {
  check_max_of_floats(random, table);
  check_add_ints(random, table);
  const size_t n = any_length(random);
  float* in = input_memory().last<float>(n);
  for (size_t i = 0; i < n; ++i) in[i] = any_float(random);
  for (int add = 0; add < 2; ++add) {
    describe_row(table, add ? "add_floats" : "max_floats", n, 32);
    float* out = output_memory().last<float>(n);
    std::vector<float> expected;
    for (size_t i = 0; i < n; ++i) {
      const float before = any_float(random);
      out[i] = before;
      const bool in_wins = std::isnan(in[i]) || (!std::isnan(before) && in[i] > before);
      expected.push_back(add ? before + in[i] : in_wins ? in[i] : before);
    }
    (add ? table.rows.add_floats : table.rows.max_floats)(out, in, static_cast<int64_t>(n));
    for (size_t i = 0; i < n; ++i) {
      if (!same(out[i], expected[i])) fail("float", static_cast<long long>(i), out[i], expected[i]);
    }
  }
  const int bits = random.from(1, 8), most = (1 << bits) - 1;
  describe_row(table, "quantize_unit", n, bits);
  for (size_t i = 0; i < n; ++i) {
    if (random.one_in(2)) in[i] = static_cast<float>(random.from(-1, 2 * most + 1)) * 0.5f / static_cast<float>(most);
  }
  Guarded codes(output_memory(), n);
  for (size_t i = 0; i < n; ++i) {
    volatile float scaled = in[i] * static_cast<float>(most);
    codes.expect(i, static_cast<uint8_t>(round_to_code(scaled, most)));
  }
  table.rows.quantize_unit(codes.data(), in, static_cast<int64_t>(n), bits);
  codes.check("code");
}

void check_affine(Random& random, const KernelTable& table) {
  const size_t n = any_length(random), period = any_length(random);
  const int parts = random.from(0, 15);
  const float infinity = std::numeric_limits<float>::infinity();
  std::vector<float> channels[5];
  for (std::vector<float>& array : channels) {
    for (size_t c = 0; c < period; ++c) array.push_back(any_float(random));
  }
  float* memory = input_memory().last<float>(2 * n);
  for (size_t i = 0; i < 2 * n; ++i) memory[i] = any_float(random);
  AffineRow row = {};
  row.x = memory + n;
  row.residual = parts & 8 ? memory : nullptr;
  const bool ties = random.one_in(2);
  for (size_t c = 0; c < period && ties; ++c) {
    float x;
    near_tie(random, &x, &channels[3][c], &channels[4][c]);
    for (size_t i = c; i < n; i += period) memory[n + i] = x;
  }
  row.out = output_memory().last<float>(n + 1);
  row.out[n] = 42.0f;
  row.divide = parts & 1 ? channels[0].data() : nullptr;
  row.multiply = parts & 2 ? channels[1].data() : nullptr;
  row.offset = parts & 2 ? channels[2].data() : nullptr;
  row.norm_multiply = parts & 4 ? channels[3].data() : nullptr;
  row.norm_offset = parts & 4 ? channels[4].data() : nullptr;
  row.n = static_cast<int64_t>(n);
  row.period = static_cast<int64_t>(period);
  row.low = random.one_in(2) ? -infinity : -0.5f;
  row.high = random.one_in(2) ? infinity : 200.0f;
  std::snprintf(case_text, sizeof(case_text), "%s rows.affine: n %zu, period %zu, parts %d, from %g to %g", table.name,
                n, period, parts, static_cast<double>(row.low), static_cast<double>(row.high));
  table.rows.affine(&row);
  for (size_t i = 0; i < n; ++i) {
    const size_t c = i % period;
    volatile float y = row.x[i];
    if (parts & 1) y = y / row.divide[c];
    if (parts & 2) y = multiply_add(y, row.multiply[c], row.offset[c]);
    if (parts & 4) y = std::fma(static_cast<float>(y), row.norm_multiply[c], row.norm_offset[c]);
    if (parts & 8) y = y + row.residual[i];
    if (y < row.low) y = row.low;
    if (y > row.high) y = row.high;
    if (!same(row.out[i], y)) fail("float", static_cast<long long>(i), row.out[i], y);
  }
  if (!same(row.out[n], 42.0f)) fail("after the row", static_cast<long long>(n), row.out[n], 42.0);
}

void check_plane_rows(Random& random, const KernelTable& table) {
  const int bits = random.from(1, 8);
  const size_t channels = any_length(random);
  const int64_t n = static_cast<int64_t>(channels + 7) / 8;
  const int64_t in_stride = n + random.from(0, 9), out_stride = n + random.from(0, 9);
  const size_t in_size = static_cast<size_t>((bits - 1) * in_stride + n),
               out_size = static_cast<size_t>((bits - 1) * out_stride + n);
  std::vector<int> a, b, most;
  for (size_t c = 0; c < channels; ++c) {
    a.push_back(random.from(0, (1 << bits) - 1));
    b.push_back(random.one_in(3) ? a[c] : random.from(0, (1 << bits) - 1));
    most.push_back(a[c] > b[c] ? a[c] : b[c]);
  }
  uint8_t* in = input_memory().last(in_size);

  describe_row(table, "max_planes", channels, bits);
  expect_planes(in, in_stride, a, bits);
  Guarded maximum(output_memory(), out_size);
  expect_planes(maximum.data(), out_stride, b, bits);
  expect_planes(maximum.expected(), out_stride, most, bits);
  table.rows.max_planes(maximum.data(), out_stride, in, in_stride, n, bits);
  maximum.check("byte of the planes");

  describe_row(table, "planes_to_bytes", channels, bits);
  Guarded bytes(output_memory(), channels);
  for (size_t c = 0; c < channels; ++c) bytes.expect(c, static_cast<uint8_t>(a[c]));
  table.rows.planes_to_bytes(bytes.data(), in, in_stride, static_cast<int64_t>(channels), bits);
  bytes.check("code");

  describe_row(table, "bytes_to_planes", channels, bits);
  uint8_t* codes = input_memory().last(channels);
  for (size_t c = 0; c < channels; ++c) codes[c] = static_cast<uint8_t>(b[c]);
  Guarded planes(output_memory(), out_size);
  expect_planes(planes.expected(), out_stride, b, bits);
  table.rows.bytes_to_planes(planes.data(), out_stride, codes, static_cast<int64_t>(channels), bits);
  planes.check("byte of the planes");
}

void check_choices(const KernelTable& table) {
  std::snprintf(case_text, sizeof(case_text), "%s method[W-1][A-1]", table.name);
  for (int i = 0; i < 64; ++i) {
    const int method = table.method[i / 8][i % 8];
    if (method > kTables || !table.dot[method]) fail("a method that the table does not have", i, method, kBytes);
  }
  for (int method : {kBytes, kFloat, kDepthwiseFloat}) {
    if (!table.dot[method]) fail("a method that every table has", method, 0, 1);
  }
}

void check_table(const KernelTable& table, int cases, uint64_t seed) {
  Random random(seed);
  check_choices(table);
  for (int method : {kPopcount, kBytes, kWords, kDepthwise, kFloat, kDepthwiseFloat})
    check_dots(random, table, cases, method);
  check_all_tables(random, table, cases);
  for (int i = 0; i < cases; ++i) {
    check_finish_int(random, table);
    check_to_float(random, table, true);
    check_to_float(random, table, false);
    for (int k = 0; k < 4; ++k) check_to_codes(random, table, k % 2 == 0);
    check_pixel_sums(random, table);
    check_byte_rows(random, table);
    check_float_rows(random, table);
    check_affine(random, table);
    check_plane_rows(random, table);
    check_activations(random, table);
    check_softmax(random, table);
  }
}

int run(int argc, char** argv) {
  const Arguments arguments(argc, argv, "check_kernels [--kernel NAME] [--cases N] [--seed S]",
                            {"--kernel", "--cases", "--seed"});
  if (!arguments.paths().empty()) arguments.fail("it takes no files");
  const int64_t cases = arguments.number("--cases", 200, 1, 1000000000);
  const int64_t seed = arguments.number("--seed", 1, 0, 1000000000);
  std::vector<std::string> names = arguments.texts("--kernel");
  if (names.empty()) names = available_kernels();
  signal(SIGSEGV, report_signal);
  signal(SIGBUS, report_signal);
  for (const std::string& name : names) {
    check_table(kernels(name), static_cast<int>(cases), static_cast<uint64_t>(seed));
    std::printf("%s: %llu cases of each function, all equal\n", name.c_str(), static_cast<unsigned long long>(cases));
  }
  return 0;
}

}  // namespace
}  // namespace bitorch

int main(int argc, char** argv) {
  try {
    return bitorch::run(argc, argv);
  } catch (const bitorch::Difference&) {
    return 1;
  } catch (const std::exception& error) {
    std::fprintf(stderr, "check_kernels: %s\n", error.what());
    return 2;
  }
}
