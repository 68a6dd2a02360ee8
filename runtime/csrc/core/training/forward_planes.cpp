#include "core/training/forward_planes.h"

#include <cstring>
#include <vector>

#include "core/base/checked.h"
#include "core/base/cpu.h"

namespace bitorch {
namespace {

constexpr int64_t kVectorChannels = 16;

// Of bytes, of which that of the padding may be the largest.
int bits_of(const InputCodes& input) {
  int bits = 1;
  while (input.largest() >> bits != 0) ++bits;
  return bits;
}

int64_t bytes_of_pixel(const ConvShape& s) { return ceil_div(s.in_channels, 8); }
// A window's row is a run of bits, so that only its last dword is not full.
int64_t steps_of(const ConvShape& s) { return ceil_div(s.kernel.columns * bytes_of_pixel(s), 4); }

// Cycles of an output pixel, measured on Zen 4 with 1 to 256 channels and 1 to 4 pairs of planes. Ice Lake and Sapphire
// Rapids multiply bytes in half the cycles, and bits in as many.
double cycles_of_bytes(const ConvShape& s) {
  const bool twice = machine() == Machine::kIceLake || machine() == Machine::kSapphireRapids;
  const auto products =
      static_cast<double>(s.taps() * ceil_div(s.in_channels, 4) * ceil_div(s.out_channels, kVectorChannels));
  return products * (twice ? 0.5 : 1);
}

double cycles_of_planes(const ConvShape& s, int weight_bits, int bits) {
  constexpr double kProduct = 1.6, kWindow = 14, kInput = 16, kWord = 4;  // a word is 64 bits of one plane
  const int64_t vectors = ceil_div(s.out_channels, kVectorChannels);
  const auto products = static_cast<double>(bits * weight_bits * s.kernel.rows * steps_of(s) * vectors);
  const double input = kInput + kWord * static_cast<double>(bits * ceil_div(s.in_channels, 64));
  const auto inputs = static_cast<double>(s.in.rows * s.in.columns);
  return kProduct * products + kWindow + input * inputs / static_cast<double>(s.out().rows * s.out().columns);
}

}  // namespace

bool planes_pay(const TrainingKernels& kernels, const ConvShape& s, const WeightCodes& weight,
                const InputCodes& input) {
  if (kernels.planes == nullptr || weight.odd_bits() == 0 || s.groups > 1) return false;
  return cycles_of_planes(s, weight.odd_bits(), bits_of(input)) < cycles_of_bytes(s);
}

ConvShape row_of_samples(const ConvShape& s) {
  return {1, {1, s.batch}, s.in_channels, s.out_channels, {1, 1}, {1, 1}, {0, 0}};
}

ForwardPlanes::ForwardPlanes(const TrainingKernels& kernels, const ConvShape& shape, const WeightCodes& weight,
                             const InputCodes& input)
    : kernels_(kernels),
      s_(shape),
      input_(input),
      bits_(bits_of(input)),
      weight_bits_(weight.odd_bits()),
      pixel_(bytes_of_pixel(shape)),
      width_(std::max(shape.in.columns + shape.padding.columns,
                      (shape.out().columns - 1) * shape.stride.columns + shape.kernel.columns)),
      steps_(steps_of(shape)) {
  pack(weight);
}

// c + n = 2k, whose bits from 1 on are those of k.
void ForwardPlanes::pack(const WeightCodes& weight) {
  const int64_t rows = s_.kernel.rows, row_bytes = 4 * steps_, plane_bytes = rows * row_bytes;
  packed_ = Scratch<uint32_t>(weight_bits_ * weight_plane());
  std::memset(packed_.data(), 0, static_cast<size_t>(weight_bits_ * weight_plane()) * sizeof(uint32_t));
  const Scratch<uint8_t> bits(weight_bits_ * plane_bytes);
  std::memset(bits.data(), 0, static_cast<size_t>(weight_bits_ * plane_bytes));
  for (int64_t o = 0; o < s_.out_channels; ++o) {
    for (int64_t r = 0; r < rows; ++r) {
      const PlanePixels pixels{reinterpret_cast<const uint8_t*>(weight.of(o, r * s_.kernel.columns)),
                               weight.step(),
                               s_.kernel.columns,
                               s_.in_channels,
                               static_cast<uint8_t>((1 << weight_bits_) - 1),
                               1,
                               weight_bits_,
                               bits.data() + r * row_bytes,
                               pixel_,
                               plane_bytes,
                               nullptr};
      kernels_.planes->planes(&pixels);
    }
    const int64_t block = o / kTileChannels, channel = o % kTileChannels;
    for (int i = 0; i < weight_bits_; ++i) {
      uint32_t* to = packed_.data() + i * weight_plane() + block * rows * weight_row() + channel;
      for (int64_t step = 0; step < rows * steps_; ++step) {
        std::memcpy(to + step * kTileChannels, bits.data() + i * plane_bytes + 4 * step, 4);
      }
    }
  }
}

ForwardPlanes::Room ForwardPlanes::make_room() const {
  Room room{Scratch<uint8_t>(bits_ * plane()), Scratch<int32_t>(s_.in.rows * width_), Scratch<int32_t>(width_),
            Scratch<int32_t>(s_.out().rows * s_.out().columns)};
  if (width_ == s_.in.columns) return room;
  const std::vector<uint8_t> zero(static_cast<size_t>(s_.in_channels), input_.zero());
  for (int64_t y = 0; y < s_.in.rows; ++y) put(room, zero.data(), 0, y, -s_.padding.columns, width_);
  return room;
}

void ForwardPlanes::put(const Room& room, const uint8_t* codes, int64_t step, int64_t row_index, int64_t first,
                        int64_t count) const {
  const int64_t column = s_.padding.columns + first;
  const PlanePixels pixels{codes,
                           step,
                           count,
                           s_.in_channels,
                           0,
                           0,
                           bits_,
                           room.planes.data() + row_index * row() + column * pixel_,
                           pixel_,
                           plane(),
                           room.pixels.data() + row_index * width_ + column};
  kernels_.planes->planes(&pixels);
}

// Columns first: sums over rows of whole rows are a few instructions.
void ForwardPlanes::sum_windows(const Room& room) const {
  const Extent out = s_.out();
  const auto factor = static_cast<uint32_t>((1 << weight_bits_) - 1);
  for (int64_t y = 0; y < out.rows; ++y) {
    const int64_t begin = y * s_.stride.rows - s_.padding.rows;
    const TapRange met = taps_within(begin, s_.kernel.rows, s_.in.rows);
    int32_t* const column = room.column.data();
    std::fill(column, column + width_, 0);
    for (int64_t r = 0; r < met.count; ++r) {
      const int32_t* from = room.pixels.data() + (begin + met.first + r) * width_;
      for (int64_t x = 0; x < width_; ++x) column[x] += from[x];
    }
    for (int64_t x = 0; x < out.columns; ++x) {
      uint32_t sum = 0;
      for (int64_t k = 0; k < s_.kernel.columns; ++k) sum += static_cast<uint32_t>(column[x * s_.stride.columns + k]);
      room.halves[y * out.columns + x] = static_cast<int32_t>(0 - factor * sum);
    }
  }
}

PlaneDots ForwardPlanes::row_dots(const Room& room, int64_t block, int64_t y) const {
  const int64_t begin = y * s_.stride.rows - s_.padding.rows;
  const TapRange met = taps_within(begin, s_.kernel.rows, s_.in.rows);
  return {room.planes.data() + (met.count == 0 ? 0 : (begin + met.first) * row()),
          plane(),
          row(),
          s_.stride.columns * pixel_,
          packed_.data() + (block * s_.kernel.rows + met.first) * weight_row(),
          weight_plane(),
          weight_row(),
          bits_,
          weight_bits_,
          static_cast<int32_t>(met.count),
          static_cast<int32_t>(steps_),
          0,
          channels_in(block, s_.out_channels),
          nullptr};
}

}  // namespace bitorch
