#include "core/conv/border.h"

#include <algorithm>

#include "core/base/checked.h"
#include "core/conv/conv_weights.h"

namespace bitorch {

namespace {

// The kernel taps of one axis that fall on real pixels: a class per distinct range of taps.
struct TapRange {
  int64_t first, last;  // past the last one
};

struct TapClasses {
  AlignedArray<int32_t> of;         // [out size]
  TemporaryArray<TapRange> ranges;  // [out size], of which there are `count`
  int64_t count = 0;
};

TapClasses tap_classes(Budget& budget, int64_t size, int64_t out, int64_t pad, int64_t kernel, int64_t stride,
                       int64_t dilation) {
  const char* what = "classes of border pixels";
  TapClasses classes = {{budget, out, what}, {budget, out, what}};
  budget.work(checked_mul(out, 8, what));
  for (int64_t o = 0; o < out; ++o) {
    const int64_t start = o * stride - pad;
    const int64_t first = start >= 0 ? 0 : std::min(kernel, ceil_div(-start, dilation));
    const int64_t last = start >= size ? 0 : std::min(kernel, (size - 1 - start) / dilation + 1);
    const TapRange range{first, std::max(first, last)};
    // Both ends fall as o grows, so equal ranges are neighbours.
    const bool is_new = classes.count == 0 || classes.ranges[classes.count - 1].first != range.first ||
                        classes.ranges[classes.count - 1].last != range.last;
    if (is_new) classes.ranges[classes.count++] = range;
    classes.of[o] = static_cast<int32_t>(classes.count) - 1;
  }
  return classes;
}

}  // namespace

ConvBorder make_border(const ConvSpec& spec, int64_t times, const uint8_t* negate,
                       const std::vector<BlockRange>& ranges, Budget& budget) {
  const ConvGeometry& g = spec.geometry;
  TapClasses rows = tap_classes(budget, g.height, g.out_height(), g.pad_top, g.kernel_h, g.stride_h, g.dilation_h);
  TapClasses columns = tap_classes(budget, g.width, g.out_width(), g.pad_left, g.kernel_w, g.stride_w, g.dilation_w);
  const int64_t blocks = static_cast<int64_t>(ranges.size());
  const int64_t entries = checked_mul(checked_mul(rows.count, columns.count, "conv2d"), blocks * kBlock, "conv2d");
  ConvBorder border = {std::move(rows.of), std::move(columns.of), columns.count, {budget, entries, "a border of sums"}};
  budget.work(checked_add(checked_mul(entries, 4, "conv2d"),
                          checked_mul(g.out_channels, checked_mul(g.inputs_per_output(), 3, "conv2d"), "conv2d"),
                          "conv2d"));
  const int64_t per_group = g.in_channels / g.groups;
  const int step = spec.code_step(), lowest = spec.lowest_code();
  // corner[ky][kx]: the sum over the taps above and left of (ky, kx), so that any rectangle of taps is four of them.
  const int64_t stride = g.kernel_w + 1;
  WeightRows weights(budget, spec, negate);
  TemporaryArray<int64_t> corner(budget, checked_mul(g.kernel_h + 1, stride, "conv2d"), "sums of weights");
  for (int64_t b = 0; b < blocks; ++b) {
    for (int32_t c = 0; c < ranges[static_cast<size_t>(b)].channels; ++c) {
      const uint8_t* m = weights.codes(ranges[static_cast<size_t>(b)].first_channel + c);
      for (int64_t ky = 0; ky < g.kernel_h; ++ky) {
        int64_t row = 0;
        for (int64_t kx = 0; kx < g.kernel_w; ++kx) {
          for (int64_t k = 0; k < per_group; ++k) row += step * *m++ + lowest;
          corner[(ky + 1) * stride + kx + 1] = corner[ky * stride + kx + 1] + row;
        }
      }
      for (int64_t r = 0; r < rows.count; ++r) {
        const int64_t top = rows.ranges[r].first * stride, bottom = rows.ranges[r].last * stride;
        for (int64_t q = 0; q < columns.count; ++q) {
          const auto [left, right] = columns.ranges[q];
          const int64_t sum = corner[bottom + right] - corner[bottom + left] - corner[top + right] + corner[top + left];
          const int64_t klass = r * columns.count + q;
          border.sums[(klass * blocks + b) * kBlock + c] = static_cast<int32_t>(-times * sum);
        }
      }
    }
  }
  return border;
}

}  // namespace bitorch
