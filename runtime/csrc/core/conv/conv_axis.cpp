#include "core/conv/conv_axis.h"

#include <algorithm>
#include <numeric>

#include "core/base/checked.h"

namespace bitorch {

namespace {

constexpr const char* kWhat = "the parts of a convolution";

}  // namespace

int64_t ConvAxis::outputs() const {
  if (transposed) return (size - 1) * stride + extent() - before - after;
  const int64_t room = size + before + after - extent();
  return room < 0 ? 0 : room / stride + 1;
}

namespace {

// Where the window is outside of the image altogether the part has no taps.
void set_window(AxisPart* part, int64_t size, int64_t before) {
  const int64_t last = part->outputs - 1 - before + (static_cast<int64_t>(part->taps.size()) - 1) * part->dilation;
  const int64_t after = last - (size - 1);  // stride is 1
  part->before = std::max<int64_t>(before, 0);
  part->after = std::max<int64_t>(after, 0);
  part->first_pixel = std::max<int64_t>(-before, 0);
  part->pixels = size - part->first_pixel - std::max<int64_t>(-after, 0);
  if (part->pixels < 1) part->taps.clear();
}

AxisPart transposed_part(const ConvAxis& axis, int64_t first_output) {
  AxisPart part;
  part.first_output = first_output;
  part.output_step = axis.stride;
  part.outputs = ceil_div(axis.outputs() - first_output, axis.stride);
  const int64_t common = std::gcd(axis.dilation, axis.stride), step = axis.stride / common;
  part.dilation = axis.dilation / common;
  const int64_t at = first_output + axis.before;  // of what is not cut
  int64_t first = 0;                              // tap that reaches these outputs
  while (first < std::min(step, axis.kernel) && (at - first * axis.dilation) % axis.stride != 0) ++first;
  if (first == std::min(step, axis.kernel)) return part;
  for (int64_t tap = first; tap < axis.kernel; tap += step) part.taps.push_back(tap);
  std::reverse(part.taps.begin(), part.taps.end());
  // Output m of the part has tap `first` of pixel m + beyond, and those behind it of pixels `dilation` less each.
  const int64_t beyond = (at - first * axis.dilation) / axis.stride;
  set_window(&part, axis.size, (static_cast<int64_t>(part.taps.size()) - 1) * part.dilation - beyond);
  return part;
}

}  // namespace

std::vector<AxisPart> parts_of(const ConvAxis& axis, Budget& budget) {
  budget.work(checked_mul(axis.kernel, 4, kWhat));
  if (!axis.transposed) {
    AxisPart whole;
    whole.outputs = axis.outputs();
    whole.taps.resize(static_cast<size_t>(axis.kernel));
    std::iota(whole.taps.begin(), whole.taps.end(), 0);
    whole.pixels = axis.size;
    whole.stride = axis.stride;
    whole.dilation = axis.dilation;
    whole.before = axis.before;
    whole.after = axis.after;
    return {whole};
  }
  std::vector<AxisPart> parts;
  constexpr int64_t kPartBytes = 256;
  const int64_t count = std::min(axis.stride, axis.outputs());
  budget.charge(checked_add(checked_mul(count, kPartBytes, kWhat), axis.kernel * 16, kWhat), kWhat);
  budget.work(checked_mul(count, std::min(axis.stride, axis.kernel) + 64, kWhat));
  for (int64_t first = 0; first < count; ++first) parts.push_back(transposed_part(axis, first));
  return parts;
}

std::vector<SeenPixel> seen_by(const ConvAxis& axis, int64_t o) {
  std::vector<SeenPixel> seen;
  for (int64_t k = 0; k < axis.kernel; ++k) {
    const int64_t tap = axis.transposed ? axis.kernel - 1 - k : k;
    const int64_t at =
        axis.transposed ? o + axis.before - tap * axis.dilation : o * axis.stride - axis.before + tap * axis.dilation;
    if (axis.transposed && at % axis.stride != 0) continue;
    const int64_t pixel = axis.transposed ? at / axis.stride : at;
    if (at >= 0 && pixel < axis.size) seen.push_back({tap, pixel});
  }
  return seen;
}

}  // namespace bitorch
