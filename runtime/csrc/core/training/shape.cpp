#include "core/training/shape.h"

#include <algorithm>
#include <initializer_list>
#include <string>

#include "core/base/checked.h"

namespace bitorch {
namespace {

constexpr int64_t kMostNumbers = int64_t{1} << 40;
constexpr int64_t kReadBeyond = 64;

int64_t out_extent(int64_t in, int64_t kernel, int64_t stride, int64_t padding) {
  return in + 2 * padding < kernel ? 0 : (in + 2 * padding - kernel) / stride + 1;
}

void check_extent(const char* what, int64_t value, int64_t least) {
  if (value < least || value > kMostNumbers) {
    throw Error(std::string(what) + ": " + std::to_string(value) + "; it must be from " + std::to_string(least) +
                " to 2^40");
  }
}

void check_count(const char* what, std::initializer_list<int64_t> factors) {
  int64_t count = 1;
  for (int64_t factor : factors) {
    count = checked_mul(count, factor, what);
    if (count > kMostNumbers) throw Error(std::string(what) + ": more than 2^40 numbers");
  }
}

}  // namespace

Extent ConvShape::out() const {
  return {out_extent(in.rows, kernel.rows, stride.rows, padding.rows),
          out_extent(in.columns, kernel.columns, stride.columns, padding.columns)};
}

void check_shape(const ConvShape& s) {
  check_extent("the batch", s.batch, 0);
  for (int64_t extent : {s.in.rows, s.in.columns, s.in_channels}) check_extent("an extent of x", extent, 1);
  for (int64_t extent : {s.out_channels, s.kernel.rows, s.kernel.columns}) {
    check_extent("an extent of the weight", extent, 1);
  }
  for (int64_t step : {s.stride.rows, s.stride.columns}) check_extent("the stride", step, 1);
  for (int64_t pad : {s.padding.rows, s.padding.columns}) check_extent("the padding", pad, 0);
  check_extent("the groups", s.groups, 1);
  if (s.in_channels % s.groups != 0 || s.out_channels % s.groups != 0) {
    throw Error("the groups: " + std::to_string(s.groups) + " do not divide " + std::to_string(s.in_channels) +
                " input and " + std::to_string(s.out_channels) + " output channels");
  }
  check_count("x", {s.batch, s.in.rows + 2 * s.padding.rows, s.in.columns + 2 * s.padding.columns, s.in_channels + 4});
  check_count("the weight", {s.out_channels + 4, s.kernel.rows, s.kernel.columns, s.in_channels + 4});
  const Extent out = s.out();
  if (out.rows < 1 || out.columns < 1) throw Error("the kernel is larger than the padded x: there is no output pixel");
  check_count("y", {s.batch, out.rows, out.columns + 4, s.out_channels});
}

SavedLayout::SavedLayout(const ConvShape& s, bool masked) : samples_(s.batch) {
  planes = std::min(s.stride.columns, s.kernel.columns);
  width = round_up(round_up(s.out().columns, 4) + (s.kernel.columns - 1) / s.stride.columns, 4);
  row = checked_mul(checked_mul(s.in_channels, planes, "saved"), width, "saved");
  codes = checked_mul(s.in.rows, row, "saved");
  mask = masked ? ceil_div(s.inputs(), 8) : 0;
  bytes = checked_add(checked_mul(s.batch, checked_add(codes, mask, "saved"), "saved"), kReadBeyond, "saved");
}

}  // namespace bitorch
