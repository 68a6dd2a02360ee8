#include "core/training/images.h"

#include <cstring>

#include "core/base/checked.h"
#include "core/training/tiles.h"

namespace bitorch {

void clear_image(const Image& image, uint8_t zero, uint8_t* out) {
  std::memset(out, zero, static_cast<size_t>(image.bytes()));
}

void put_image(const Image& image, const uint8_t* codes, int64_t step, uint8_t* out) {
  const int64_t pixel = image.pixel();
  for (int64_t y = 0; y < image.rows; ++y) {
    const uint8_t* from = codes + y * image.columns * step;
    uint8_t* to = out + y * image.row() + image.left * pixel;
    if (pixel == image.channels && pixel == step) {
      std::memcpy(to, from, static_cast<size_t>(image.columns * pixel));
      continue;
    }
    for (int64_t x = 0; x < image.columns; ++x) {
      std::memcpy(to + x * pixel, from + x * step, static_cast<size_t>(image.channels));
    }
  }
}

void sum_pixels(const Image& image, const uint8_t* in, int32_t* out) {
  const int64_t pixel = image.pixel();
  for (int64_t i = 0; i < image.rows * image.width; ++i) {
    int32_t sum = 0;
    for (int64_t c = 0; c < image.channels; ++c) sum += in[i * pixel + c];
    out[i] = sum;
  }
}

void put_planes(const TrainingKernels& kernels, const ConvShape& s, const SavedLayout& layout, const uint8_t* codes,
                uint8_t zero, uint8_t* out) {
  alignas(64) uint8_t four[4 * kTileChannels];
  uint8_t padding[kTileChannels];
  std::memset(padding, zero, sizeof padding);
  const int64_t pitch = layout.planes * layout.width;
  for (int64_t y = 0; y < s.in.rows; ++y) {
    const uint8_t* from = codes + y * s.in.columns * s.in_channels;
    for (int64_t plane = 0; plane < layout.planes; ++plane) {
      for (int64_t x = 0; x < layout.width; x += 4) {
        int64_t column[4];
        for (int64_t k = 0; k < 4; ++k) column[k] = (x + k) * s.stride.columns + plane - s.padding.columns;
        for (int64_t block = 0; block < blocks_of(s.in_channels); ++block) {
          const uint8_t* pixels[4];
          for (int k = 0; k < 4; ++k) {
            const bool inside = column[k] >= 0 && column[k] < s.in.columns;
            pixels[k] = inside ? from + column[k] * s.in_channels + block * kTileChannels : padding;
          }
          const int32_t channels = channels_in(block, s.in_channels);
          kernels.interleave(pixels, channels, four);
          uint8_t* to = out + y * layout.row + block * kTileChannels * pitch + plane * layout.width + x;
          for (int32_t c = 0; c < channels; ++c) std::memcpy(to + c * pitch, four + 4 * c, 4);
        }
      }
    }
  }
}

TapSums::TapSums(const TrainingKernels& kernels, const ConvShape& s, const SavedLayout& layout)
    : kernels_(kernels), s_(s), steps_(layout.planes * layout.width / 4) {
  const int64_t block = steps_ * 4 * kTileChannels, bytes = blocks_of(s.kernel.columns) * block;
  ones_ = Scratch<int8_t>(bytes);
  std::memset(ones_.data(), 0, static_cast<size_t>(bytes));
  for (int64_t k = 0; k < s.kernel.columns; ++k) {
    int8_t* tap = ones_.data() + k / kTileChannels * block + k % kTileChannels * 4;
    for (int64_t x = 0; x < s.out().columns; ++x) {
      const int64_t at = layout.tap(k) + x;
      tap[at / 4 * 4 * kTileChannels + at % 4] = 1;
    }
  }
}

void TapSums::run(const uint8_t* planes, int32_t largest, int32_t* rows, int32_t* sums) const {
  const int64_t columns = s_.kernel.columns, taps = s_.in_channels * columns;
  for (int64_t block = 0; block < blocks_of(columns); ++block) {
    const int32_t count = channels_in(block, columns);
    const TileRow row{planes, 0,      4 * steps_, ones_.data() + block * steps_ * 4 * kTileChannels,
                      0,      1,      steps_,     s_.in.rows * s_.in_channels,
                      count,  largest};
    for_tiles(kernels_, row, [&](const int32_t* tile, int64_t first, int32_t pixels) {
      for (int32_t p = 0; p < pixels; ++p) {
        int32_t* to = rows + (first + p) * columns + block * kTileChannels;
        for (int32_t k = 0; k < count; ++k) to[k] = tile[p * kTileChannels + k];
      }
    });
  }
  std::memset(sums, 0, static_cast<size_t>(s_.kernel.rows * taps) * sizeof(int32_t));
  for (int64_t y = 0; y < s_.out().rows; ++y) {
    const int64_t begin = y * s_.stride.rows - s_.padding.rows;
    const TapRange met = taps_within(begin, s_.kernel.rows, s_.in.rows);
    for (int64_t r = met.first; r < met.first + met.count; ++r) {
      for (int64_t i = 0; i < taps; ++i) sums[r * taps + i] += rows[(begin + r) * taps + i];
    }
  }
}

int64_t groups_bytes(const ConvShape& s) {
  return blocks_of(s.out_channels) * s.out().rows * ceil_div(s.out().columns, 4) * 4 * kTileChannels;
}

void put_groups(const TrainingKernels& kernels, const ConvShape& s, const int8_t* codes, int64_t step, int8_t* out) {
  const Extent extent = s.out();
  auto* to = reinterpret_cast<uint8_t*>(out);
  for (int64_t block = 0; block < blocks_of(s.out_channels); ++block) {
    for (int64_t y = 0; y < extent.rows; ++y) {
      for (int64_t x = 0; x < extent.columns; x += 4, to += 4 * kTileChannels) {
        const uint8_t* pixels[4];
        for (int64_t k = 0; k < 4; ++k) {
          const int64_t at = (y * extent.columns + x + k) * step + block * kTileChannels;
          pixels[k] = x + k < extent.columns ? reinterpret_cast<const uint8_t*>(codes) + at : nullptr;
        }
        kernels.interleave(pixels, channels_in(block, s.out_channels), to);
      }
    }
  }
}

}  // namespace bitorch
