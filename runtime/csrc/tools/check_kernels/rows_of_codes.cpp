// Rows of codes and of integers: bytes, bit planes, sums.
#include <vector>

#include "checks.h"

namespace bitorch {

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

void check_pixel_sums(Random& random, const KernelTable& table) {
  const bool planes = random.one_in(2);
  const int pixels = random.from(1, 60), bits = random.from(1, 8);
  const int bytes = random.one_in(2) ? 8 << random.from(0, planes ? 3 : 6) : random.from(1, planes ? 70 : 600);
  const int64_t pixel_bytes = bytes + (random.one_in(2) ? 0 : random.from(0, 9));
  const int64_t plane_bytes = planes ? pixels * pixel_bytes + random.from(0, 9) : 0;
  const size_t size = static_cast<size_t>(planes ? bits * plane_bytes : pixels * pixel_bytes) + kSlackBytes;
  describe("%s pixel_sums: pixels %d, bytes %d, bits %d, planes %d, pixel_bytes %lld, plane_bytes %lld", table.name,
           pixels, bytes, bits, planes, static_cast<long long>(pixel_bytes), static_cast<long long>(plane_bytes));
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

void check_look_up(Random& random, const KernelTable& table) {
  const size_t n = any_length(random), entries = size_t{1} << random.from(1, 4);
  const size_t period = n + (random.one_in(2) ? 0 : random.below(70));
  describe_row(table, "look_up", n, static_cast<int>(entries));
  std::vector<uint8_t> rows(entries * period);
  for (uint8_t& entry : rows) entry = static_cast<uint8_t>(random.word());
  uint8_t* codes = input_memory().last(n);
  Guarded found(output_memory(), n);
  for (size_t i = 0; i < n; ++i) {
    codes[i] = static_cast<uint8_t>(random.below(entries));
    found.expect(i, rows[codes[i] * period + i]);
  }
  table.rows.look_up(found.data(), codes, rows.data(), static_cast<int64_t>(n), static_cast<int64_t>(period),
                     static_cast<int>(entries));
  found.check("byte");
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

}  // namespace bitorch
