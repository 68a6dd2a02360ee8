// stage_tables and kTables together, as in a convolution over a few rows: the entries of a table lie as the kernel
// likes.
#include "checks.h"

namespace bitorch {
namespace {

constexpr size_t kGuardBytes = 64;

// kernel_h rows of `columns` pixels, read by `pixels` windows of kernel_h x kernel_w.
struct TableCase {
  const KernelTable& table;
  int channels, weight_bits, activation_bits;
  Fill fill;
  int kernel_h, kernel_w, columns, pixels, outputs, tables;
  bool planes;
  int64_t pixel_bytes, plane_bytes, in_row_bytes;  // of the input
  int64_t staged_pixel, row_bytes;                 // of the tables
  std::vector<std::vector<int>> codes;             // [kernel_h * columns][channels]
  std::vector<int> column;                         // [pixels], where a window begins
  std::vector<int32_t> step;

  TableCase(Random& random, const KernelTable& kernels, int inputs, int w_bits, int a_bits, Fill how);
  const uint8_t* write_input(Random& random);
  const uint8_t* stage(const uint8_t* input) const;
  void list_steps();
  void draw_weights(Random& random, Aligned<uint8_t>& w, std::vector<uint32_t>& expected) const;
  int parts() const { return (outputs + table.table_lanes - 1) / table.table_lanes; }
};

TableCase::TableCase(Random& random, const KernelTable& kernels, int inputs, int w_bits, int a_bits, Fill how)
    : table(kernels), channels(inputs), weight_bits(w_bits), activation_bits(a_bits), fill(how) {
  kernel_h = random.from(1, 3);
  kernel_w = random.from(1, 3);
  columns = kernel_w + random.from(0, 20);
  pixels = random.from(1, table.tile_pixels[kTables]);
  outputs = random.from(1, table.table_block);
  planes = random.one_in(2);
  const bool outer_planes = random.one_in(2);  // each plane after all pixels of the one before
  tables = (channels + table.table_channels - 1) / table.table_channels;
  const int plane_row = (channels + 7) / 8;
  pixel_bytes = !planes ? channels : outer_planes ? plane_row : plane_row * activation_bits;
  plane_bytes = outer_planes ? columns * pixel_bytes : plane_row;
  in_row_bytes = planes && outer_planes ? plane_bytes * activation_bits : columns * pixel_bytes;
  staged_pixel = tables * table.table_bytes;
  row_bytes = columns * staged_pixel;
  describe(
      "%s kTables: W%d A%d, channels %d, kernel %dx%d, columns %d, pixels %d, outputs %d, planes %d, plane_bytes %lld, "
      "fill %d",
      table.name, weight_bits, activation_bits, channels, kernel_h, kernel_w, columns, pixels, outputs, planes,
      static_cast<long long>(plane_bytes), fill);
}

const uint8_t* TableCase::write_input(Random& random) {
  const int most = (1 << activation_bits) - 1;
  uint8_t* input = input_memory().last(static_cast<size_t>(kernel_h * in_row_bytes + kSlackBytes));
  for (int i = 0; i < kernel_h * columns; ++i) {
    codes.emplace_back();
    for (int c = 0; c < channels; ++c) {
      codes.back().push_back(fill == kMost ? most : fill == kLeast ? 0 : random.from(0, most));
    }
    uint8_t* pixel = input + i / columns * in_row_bytes + i % columns * pixel_bytes;
    if (planes) {
      expect_planes(pixel, plane_bytes, codes.back(), activation_bits);
    } else {
      for (int c = 0; c < channels; ++c) pixel[c] = static_cast<uint8_t>(codes.back()[c]);
    }
  }
  for (int p = 0; p < pixels; ++p) column.push_back(random.from(0, columns - kernel_w));
  return input;
}

const uint8_t* TableCase::stage(const uint8_t* input) const {
  uint8_t* guard = output_memory().last(static_cast<size_t>(kernel_h * row_bytes) + kGuardBytes);
  memset(guard, 0xa5, kGuardBytes);
  uint8_t* staged = guard + kGuardBytes;
  for (int y = 0; y < kernel_h; ++y) {
    TableStage row = {};
    row.row = input + y * in_row_bytes;
    row.pixel_bytes = pixel_bytes;
    row.plane_bytes = plane_bytes;
    row.out = staged + y * row_bytes;
    row.out_pixel_bytes = staged_pixel;
    row.pixels = columns;
    row.channels = channels;
    row.bits = activation_bits;
    row.planes = planes;
    table.stage_tables(&row);
  }
  for (size_t i = 0; i < kGuardBytes; ++i) {
    if (guard[i] != 0xa5) fail("before the staged row", static_cast<long long>(i), guard[i], 0xa5);
  }
  return staged;
}

void TableCase::list_steps() {
  for (int y = 0; y < kernel_h; ++y) {
    for (int k = 0; k < tables; ++k) {
      for (int x = 0; x < kernel_w; ++x) {
        step.push_back(static_cast<int32_t>(y * row_bytes + k * table.table_bytes + x * staged_pixel));
      }
    }
  }
}

// w: [part][plane][step][lane]; expected: [output][pixel].
void TableCase::draw_weights(Random& random, Aligned<uint8_t>& w, std::vector<uint32_t>& expected) const {
  const int steps = static_cast<int>(step.size()), lanes = table.table_lanes;
  size_t at = 0;
  for (int i = 0; i < parts() * weight_bits * steps; ++i) {
    const int s = i % steps, j = i / steps % weight_bits, part = i / steps / weight_bits;
    const int x = s % kernel_w, k = s / kernel_w % tables, y = s / kernel_w / tables;
    const int first = k * table.table_channels;
    const int valid = channels - first < table.table_channels ? channels - first : table.table_channels;
    for (int lane = 0; lane < lanes; ++lane) {
      const int index = fill == kMost || fill == kLeast ? (1 << valid) - 1 : random.from(0, (1 << valid) - 1);
      w[at++] = static_cast<uint8_t>(index);
      for (int p = 0; p < pixels; ++p) {
        const std::vector<int>& q = codes[y * columns + column[p] + x];
        uint32_t sum = 0;
        for (int b = 0; b < valid; ++b) sum += static_cast<uint32_t>((index >> b & 1) * q[first + b]);
        expected[(static_cast<size_t>(part) * lanes + lane) * pixels + p] += sum << j;
      }
    }
  }
}

void check_case(Random& random, const KernelTable& table, int channels, int weight_bits, int activation_bits,
                Fill fill) {
  TableCase c(random, table, channels, weight_bits, activation_bits, fill);
  const uint8_t* staged = c.stage(c.write_input(random));
  c.list_steps();
  const int steps = static_cast<int>(c.step.size());
  Aligned<uint8_t> w(static_cast<size_t>(c.parts()) * weight_bits * steps * table.table_lanes);
  std::vector<uint32_t> expected(static_cast<size_t>(c.pixels) * c.parts() * table.table_lanes);
  c.draw_weights(random, w, expected);
  std::vector<const uint8_t*> pixel;
  for (int column : c.column) pixel.push_back(staged + column * c.staged_pixel);
  const DotTile tile = {pixel.data(), c.step.data(), w.data(),       0, c.pixels, steps,
                        c.outputs,    weight_bits,   activation_bits};
  Tile out(c.pixels, (c.outputs + kBlock - 1) / kBlock);
  table.dot[kTables](&tile, out.data());
  for (int o = 0; o < c.outputs; ++o) {
    for (int p = 0; p < c.pixels; ++p) {
      const uint32_t got = out.at(o / kBlock * c.pixels + p, o % kBlock);
      if (got != expected[o * c.pixels + p]) {
        fail("sum", o * c.pixels + p, static_cast<int32_t>(got), static_cast<int32_t>(expected[o * c.pixels + p]));
      }
    }
  }
  out.check_guards();
}

}  // namespace

void check_tables(Random& random, const KernelTable& table, int cases) {
  if (!table.dot[kTables]) return;
  for (int i = 0; i < 64; ++i) {
    const int weight_bits = i / 8 + 1, activation_bits = i % 8 + 1;
    if (table.method[i / 8][i % 8] != kTables) continue;
    for (int k = 0; k < cases / 16 + 1; ++k) {
      const Fill fill = any_fill(random);
      check_case(random, table, random.from(1, random.one_in(4) ? 300 : 70), weight_bits, activation_bits, fill);
    }
    check_case(random, table, 2000, weight_bits, activation_bits, kMost);  // beyond 16 bits
  }
}

}  // namespace bitorch
