// A convolution along one axis, transposed or not, as ordinary convolutions of parts of it.
//
// A transposed convolution puts tap k of pixel i at output i * stride + k * dilation - before. Outputs that lie
// `stride` apart are made of the same taps, and of pixels that lie side by side: they are an ordinary convolution of
// stride 1 with some of the taps, the last one first.
//
//   kernel 4, stride 2, before 1          taps
//   outputs 0 2 4 6 ..                    3 of pixels -1 0 1 2 .., 1 of pixels 0 1 2 3 ..
//   outputs 1 3 5 7 ..                    2 of pixels  0 1 2 3 .., 0 of pixels 1 2 3 4 ..
//
// Pixels outside of the image contribute 0, whatever the code that means 0.
#pragma once
#include <cstdint>
#include <vector>

#include "core/base/budget.h"

namespace bitorch {

struct ConvAxis {
  int64_t size = 1, kernel = 1, stride = 1, dilation = 1;
  int64_t before = 0, after = 0;  // pixels of zero around the image; transposed: outputs that are cut off, or if after
                                  // is negative, that are added behind
  bool transposed = false;

  int64_t extent() const { return dilation * (kernel - 1) + 1; }
  int64_t outputs() const;  // less than 1 where there are none
};

// Outputs first_output, first_output + output_step, ... of an axis, and the convolution that makes them.
struct AxisPart {
  int64_t first_output = 0, output_step = 1, outputs = 1;
  std::vector<int64_t> taps;  // of the kernel, in the order of the pixels that they meet; none: nothing is seen there
  int64_t first_pixel = 0, pixels = 1;  // of the image: the others are not seen
  int64_t stride = 1, dilation = 1, before = 0, after = 0;
};

// All outputs, each in one part. Error where making them is more work than is left.
std::vector<AxisPart> parts_of(const ConvAxis& axis, Budget& budget);

// The taps of the kernel that output o sees real pixels with, and these, in their order.
struct SeenPixel {
  int64_t tap = 0, pixel = 0;
};
std::vector<SeenPixel> seen_by(const ConvAxis& axis, int64_t o);

}  // namespace bitorch
