#include "core/training/grad_input.h"

#include <algorithm>

#include "core/base/checked.h"

namespace bitorch {
namespace {

// Columns before the first, and after the last, that windows reach.
Image image_of(const ConvShape& s, const std::vector<Phase>& columns) {
  const Extent out = s.out();
  int64_t left = 0, end = out.columns;
  for (const Phase& phase : columns) {
    left = std::max(left, -phase.begin);
    end = std::max(end, phase.begin + phase.count - 1 + phase.taps);
  }
  return {out.rows, out.columns, s.out_channels, left, left + end};
}

}  // namespace

GradInput::GradInput(const TrainingKernels& kernels, const ConvShape& whole, const WeightCodes& weight,
                     const GradientSpec& gradient, int64_t group)
    : kernels_(kernels),
      s_(whole.of_group()),
      group_(group),
      in_step_(whole.in_channels),
      out_step_(whole.out_channels),
      halved_(weight.halved()),
      twice_(gradient.multiple() == 2),
      largest_(weight.largest_product(gradient.largest())) {
  const std::vector<Phase> rows = phases_of(s_.in.rows, s_.kernel.rows, s_.stride.rows, s_.padding.rows);
  const std::vector<Phase> columns = phases_of(s_.in.columns, s_.kernel.columns, s_.stride.columns, s_.padding.columns);
  image_ = image_of(s_, columns);
  const int64_t first_channel = group * s_.out_channels;
  const std::vector<int32_t> sums = weight.sums(first_channel, s_.out_channels);
  for (const Phase& row : rows) {
    for (const Phase& column : columns) {
      Part part{row, column, classes_of(row, s_.out().rows), classes_of(column, s_.out().columns), {}, {}};
      part.packed = pack_backward(kernels, weight, s_, first_channel, row, column);
      part.border = border_of(part, sums, gradient.n());
      parts_.push_back(std::move(part));
    }
  }
}

GradInput::Room GradInput::make_room() const {
  Room room{Scratch<uint8_t>(image_.bytes()), {}, {}};
  clear_image(image_, 0, room.image.data());
  if (halved_) {
    room.pixels = Scratch<int32_t>(image_.rows * image_.width);
    room.halves = Scratch<int32_t>(s_.in.rows * s_.in.columns);
  }
  return room;
}

GradInput::Classes GradInput::classes_of(const Phase& phase, int64_t extent) {
  Classes classes;
  for (int64_t i = 0; i < phase.count; ++i) {
    const TapRange range = taps_within(phase.begin + i, phase.taps, extent);
    size_t found = 0;
    while (found < classes.ranges.size() &&
           (classes.ranges[found].first != range.first || classes.ranges[found].count != range.count)) {
      ++found;
    }
    if (found == classes.ranges.size()) classes.ranges.push_back(range);
    classes.of.push_back(static_cast<int32_t>(found));
  }
  return classes;
}

Scratch<int32_t> GradInput::border_of(const Part& part, const std::vector<int32_t>& sums, int n) const {
  const int64_t padded = blocks_of(s_.in_channels) * kTileChannels;
  const auto &rows = part.row_classes.ranges, &columns = part.column_classes.ranges;
  Scratch<int32_t> border(static_cast<int64_t>(rows.size() * columns.size()) * padded);
  int32_t* to = border.data();
  for (const TapRange& row : rows) {
    for (const TapRange& column : columns) {
      std::fill(to, to + padded, 0);
      for (int64_t t = row.first; t < row.first + row.count; ++t) {
        for (int64_t u = column.first; u < column.first + column.count; ++u) {
          const int64_t tap =
              part.rows.tap(t, s_.stride.rows) * s_.kernel.columns + part.columns.tap(u, s_.stride.columns);
          for (int64_t c = 0; c < s_.in_channels; ++c) to[c] -= n * sums[tap * s_.in_channels + c];
        }
      }
      to += padded;
    }
  }
  return border;
}

void GradInput::sum_windows(const Room& room, const Part& part) const {
  for (int64_t i = 0; i < part.rows.count; ++i) {
    const int64_t begin = part.rows.begin + i;
    const TapRange met = taps_within(begin, part.rows.taps, image_.rows);
    for (int64_t k = 0; k < part.columns.count; ++k) {
      int32_t sum = 0;
      for (int64_t t = 0; t < met.count; ++t) {
        const int32_t* row = room.pixels.data() + (begin + met.first + t) * image_.width + image_.left;
        for (int64_t u = 0; u < part.columns.taps; ++u) sum += row[part.columns.begin + k + u];
      }
      room.halves[i * part.columns.count + k] = sum;
    }
  }
}

void GradInput::run(const Room& room, const uint8_t* levels, float scale, const uint8_t* mask, float* dx) const {
  put_image(image_, levels + group_ * s_.out_channels, out_step_, room.image.data());
  if (halved_) sum_pixels(image_, room.image.data(), room.pixels.data());
  for (const Part& part : parts_) {
    if (halved_) sum_windows(room, part);
    for (int64_t block = 0; block < blocks_of(s_.in_channels); ++block) {
      for (int64_t i = 0; i < part.rows.count; ++i) run_row(room, part, block, i, scale, mask, dx);
    }
  }
}

void GradInput::run_row(const Room& room, const Part& part, int64_t block, int64_t i, float scale, const uint8_t* mask,
                        float* dx) const {
  const int64_t begin = part.rows.begin + i;
  const TapRange met = taps_within(begin, part.rows.taps, image_.rows);
  const int64_t steps = part.columns.taps * image_.pixel() / 4, weight_row = steps * 4 * kTileChannels;
  const int32_t channels = channels_in(block, s_.in_channels);
  const bool reads = met.count > 0 && part.columns.taps > 0;
  const TileRow row{reads ? room.image.data() + (begin + met.first) * image_.row() +
                                (image_.left + part.columns.begin) * image_.pixel()
                          : room.image.data(),
                    image_.row(),
                    reads ? image_.pixel() : 0,
                    part.packed.data() + (block * part.rows.taps + met.first) * weight_row,
                    weight_row,
                    reads ? met.count : 0,
                    steps,
                    part.columns.count,
                    channels,
                    largest_};
  const int64_t y = part.rows.first + i * s_.stride.rows, step = s_.stride.columns * in_step_;
  const int64_t at =
      (y * s_.in.columns + part.columns.first) * in_step_ + group_ * s_.in_channels + block * kTileChannels;
  const int64_t padded = blocks_of(s_.in_channels) * kTileChannels;
  const int32_t* of_row = part.border.data() + block * kTileChannels +
                          part.row_classes.of[i] * static_cast<int64_t>(part.column_classes.ranges.size()) * padded;
  for_tiles(kernels_, row, [&](const int32_t* tile, int64_t first, int32_t count) {
    const int32_t* border[kTilePixels];
    for (int32_t p = 0; p < count; ++p) border[p] = of_row + part.column_classes.of[first + p] * padded;
    const FinishGradient finish{tile,    halved_ ? room.halves.data() + i * part.columns.count + first : nullptr,
                                twice_,  border,
                                &scale,  0,
                                mask,    at + first * step,
                                step,    dx + at + first * step,
                                step,    count,
                                channels};
    kernels_.finish_gradient(&finish);
  });
}

}  // namespace bitorch
