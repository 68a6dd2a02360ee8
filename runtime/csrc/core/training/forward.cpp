#include "core/training/forward.h"

#include <algorithm>
#include <atomic>
#include <cstring>
#include <limits>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "core/base/checked.h"
#include "core/training/forward_planes.h"
#include "core/training/images.h"
#include "core/training/tiles.h"
#include "core/training/workers.h"

namespace bitorch {
namespace {

// Sums over the window of each output pixel, from those of input pixels.
void sum_windows(const ConvShape& s, const Image& image, const int32_t* pixels, int32_t* out) {
  const Extent extent = s.out();
  for (int64_t y = 0; y < extent.rows; ++y) {
    const int64_t begin = y * s.stride.rows - s.padding.rows;
    const TapRange met = taps_within(begin, s.kernel.rows, s.in.rows);
    for (int64_t x = 0; x < extent.columns; ++x) {
      int32_t sum = 0;
      for (int64_t r = 0; r < met.count; ++r) {
        const int32_t* row = pixels + (begin + met.first + r) * image.width + x * s.stride.columns;
        for (int64_t k = 0; k < s.kernel.columns; ++k) sum += row[k];
      }
      out[y * extent.columns + x] = sum;
    }
  }
}

// The weight of one group, and what its sums are scaled by.
struct ForwardGroup {
  Scratch<int8_t> packed;
  Scratch<int32_t> above;
  Scratch<float> scale, bias;
};

// What one thread works in.
struct ForwardRoom {
  Scratch<uint8_t> codes, image;
  Scratch<int32_t> pixels, halves;
  ForwardPlanes::Room planes;  // in place of image, pixels and halves
  NormQuantizer::Room norm;
};

class ConvForward {
 public:
  explicit ConvForward(const ForwardArgs& args)
      : a_(args),
        s_(args.shape),
        of_group_(s_.of_group()),
        layout_(s_, args.masked),
        image_{s_.in.rows, s_.in.columns, of_group_.in_channels, s_.padding.columns, width()} {
    if (planes_pay(*args.kernels, s_, *args.weight, args.input)) {
      planes_.emplace(*args.kernels, s_, *args.weight, args.input);
    }
    for (int64_t group = 0; group < s_.groups; ++group) groups_.push_back(make_group(group * of_group_.out_channels));
    if (args.norm != nullptr) norm_ = std::make_unique<NormQuantizer>(*args.norm, args.input.levels);
    for (int i = 0; i < args.threads; ++i) rooms_.push_back(make_room());
  }

  bool run() {
    for_items(s_.batch, a_.threads, [this](int slot, int64_t sample) { run_sample(rooms_[slot], sample); });
    return nan_.load(std::memory_order_relaxed);
  }

 private:
  int64_t width() const {
    return std::max(s_.in.columns + s_.padding.columns, (s_.out().columns - 1) * s_.stride.columns + s_.kernel.columns);
  }

  ForwardGroup make_group(int64_t first) const {
    const int64_t channels = of_group_.out_channels;
    const float* scale = a_.scale_per_channel ? a_.scale + first : a_.scale;
    ForwardGroup group{{}, {}, of_blocks(scale, a_.scale_per_channel, channels), {}};
    if (!planes_) group.packed = pack_forward(*a_.weight, of_group_, first);
    if (a_.bias != nullptr) group.bias = of_blocks(a_.bias + first, true, channels);
    if (a_.input.low != 0) group.above = sums_above(*a_.weight, of_group_, first);
    return group;
  }

  ForwardRoom make_room() const {
    ForwardRoom room{Scratch<uint8_t>(s_.inputs()), {}, {}, {}, {}, {}};
    if (norm_ != nullptr) room.norm = norm_->make_room();
    if (planes_) {
      room.planes = planes_->make_room();
      return room;
    }
    room.image = Scratch<uint8_t>(image_.bytes());
    clear_image(image_, a_.input.zero(), room.image.data());
    if (a_.weight->halved()) {
      room.pixels = Scratch<int32_t>(image_.rows * image_.width);
      room.halves = Scratch<int32_t>(s_.out().rows * s_.out().columns);
    }
    return room;
  }

  void run_sample(const ForwardRoom& room, int64_t sample) {
    if (quantize(room, sample)) {
      nan_.store(true, std::memory_order_relaxed);
    }
    if (a_.saved != nullptr) {
      put_planes(*a_.kernels, s_, layout_, room.codes.data(), a_.input.zero(), layout_.codes_of(a_.saved, sample));
    }
    for (int64_t group = 0; group < s_.groups; ++group) run_group(room, sample, group);
  }

  void run_group(const ForwardRoom& room, int64_t sample, int64_t group) const {
    put(room, group);
    float* y = a_.y + sample * s_.outputs() + group * of_group_.out_channels;
    for (int64_t block = 0; block < blocks_of(of_group_.out_channels); ++block) {
      for (int64_t row = 0; row < s_.out().rows; ++row) {
        run_row(room, groups_[static_cast<size_t>(group)], block, row, y + row * s_.out().columns * s_.out_channels);
      }
    }
  }

  // Returns whether x holds a NaN.
  bool quantize(const ForwardRoom& room, int64_t sample) const {
    uint8_t* mask = a_.saved == nullptr ? nullptr : layout_.mask_of(a_.saved, sample);
    if (norm_ != nullptr) {
      norm_->run(room.norm, sample, room.codes.data(), mask);
      return false;
    }
    return a_.input.take(*a_.kernels, a_.x + sample * s_.inputs(), s_.inputs(), room.codes.data(), mask) != 0;
  }

  // Codes to where the products read them, and sums of them.
  void put(const ForwardRoom& room, int64_t group) const {
    if (planes_) {
      const int64_t row = s_.in.columns * s_.in_channels;
      for (int64_t y = 0; y < s_.in.rows; ++y) {
        planes_->put(room.planes, room.codes.data() + y * row, s_.in_channels, y, 0, s_.in.columns);
      }
      planes_->sum_windows(room.planes);
      return;
    }
    put_image(image_, room.codes.data() + group * image_.channels, s_.in_channels, room.image.data());
    if (a_.weight->halved()) {
      sum_pixels(image_, room.image.data(), room.pixels.data());
      sum_windows(s_, image_, room.pixels.data(), room.halves.data());
    }
  }

  const int32_t* halves_of(const ForwardRoom& room) const {
    if (planes_) return room.planes.halves.data();
    return a_.weight->halved() ? room.halves.data() : nullptr;
  }

  TileRow tile_row(const ForwardRoom& room, const ForwardGroup& group, int64_t block, int64_t y) const {
    const int64_t begin = y * s_.stride.rows - s_.padding.rows;
    const TapRange met = taps_within(begin, s_.kernel.rows, s_.in.rows);
    const int64_t steps = s_.kernel.columns * image_.pixel() / 4, weight_row = steps * 4 * kTileChannels;
    return {met.count == 0 ? room.image.data() : room.image.data() + (begin + met.first) * image_.row(),
            image_.row(),
            s_.stride.columns * image_.pixel(),
            group.packed.data() + (block * s_.kernel.rows + met.first) * weight_row,
            weight_row,
            met.count,
            steps,
            s_.out().columns,
            channels_in(block, of_group_.out_channels),
            a_.weight->largest_product(a_.input.largest())};
  }

  // row_out: y of the group's first channel in the row's first pixel.
  void run_row(const ForwardRoom& room, const ForwardGroup& group, int64_t block, int64_t y, float* row_out) const {
    const Extent out = s_.out();
    const int32_t* halves = halves_of(room);
    alignas(64) int32_t border[kTileChannels];
    if (a_.input.low != 0) {
      find_border(group, taps_within(y * s_.stride.rows - s_.padding.rows, s_.kernel.rows, s_.in.rows), block, border);
    }
    float* to = row_out + block * kTileChannels;
    const auto finish_tile = [&](const int32_t* tile, int64_t first, int32_t count) {
      const FinishForward finish{tile,
                                 halves == nullptr ? nullptr : halves + y * out.columns + first,
                                 a_.input.low != 0 ? border : nullptr,
                                 group.scale.data() + block * kTileChannels,
                                 a_.bias == nullptr ? nullptr : group.bias.data() + block * kTileChannels,
                                 to + first * s_.out_channels,
                                 s_.out_channels,
                                 count,
                                 channels_in(block, of_group_.out_channels)};
      a_.kernels->finish_forward(&finish);
    };
    if (planes_) {
      planes_->for_tiles(room.planes, block, y, 0, out.columns, finish_tile);
    } else {
      for_tiles(*a_.kernels, tile_row(room, group, block, y), finish_tile);
    }
  }

  // What sums over these rows of the kernel lack, as they are of bytes.
  void find_border(const ForwardGroup& group, const TapRange& met, int64_t block, int32_t* border) const {
    const int64_t padded = blocks_of(of_group_.out_channels) * kTileChannels;
    const int32_t* first = group.above.data() + met.first * padded + block * kTileChannels;
    for (int64_t c = 0; c < kTileChannels; ++c) border[c] = a_.input.low * (first[met.count * padded + c] - first[c]);
  }

  const ForwardArgs& a_;
  const ConvShape& s_;
  ConvShape of_group_;
  SavedLayout layout_;
  Image image_;
  std::optional<ForwardPlanes> planes_;
  std::vector<ForwardGroup> groups_;
  std::unique_ptr<NormQuantizer> norm_;
  std::vector<ForwardRoom> rooms_;
  std::atomic<bool> nan_{false};
};

}  // namespace

Scratch<float> of_blocks(const float* from, bool per_channel, int64_t channels) {
  const int64_t padded = blocks_of(channels) * kTileChannels;
  Scratch<float> out(padded);
  for (int64_t c = 0; c < padded; ++c) out[c] = !per_channel ? from[0] : c < channels ? from[c] : 0;
  return out;
}

void check_sums(const char* what, int64_t inputs, int64_t weight, int64_t code) {
  if (checked_mul(checked_mul(inputs, weight, what), code, what) <= std::numeric_limits<int32_t>::max()) return;
  throw Error(std::string(what) + ": sums of " + std::to_string(inputs) + " products of codes up to " +
              std::to_string(weight) + " and " + std::to_string(code) +
              " do not fit in int32; use fewer bits, or floats");
}

bool conv_forward(const ForwardArgs& args) {
  check_sums("forward", args.shape.taps() * args.shape.of_group().in_channels, args.weight->largest(),
             args.input.largest());
  return ConvForward(args).run();
}

}  // namespace bitorch
