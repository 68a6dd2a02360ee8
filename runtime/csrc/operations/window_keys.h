// The keys of a window, which is along one axis of rows, two or three.
#pragma once
#include <array>
#include <cstdint>
#include <vector>

#include "core/conv/conv_axis.h"
#include "core/graph/operation_reader.h"

namespace bitorch {

// The axes of a window, outermost first: along fewer, it says nothing about those in front, of which there is one
// place.
constexpr size_t kWindowAxes = 3;
struct WindowKeys {
  size_t axes = 2;
  std::array<ConvAxis, kWindowAxes> axis;  // depth, vertical, horizontal
};

enum class Dilation { kNone, kOptional, kNeeded };

// "kernel_size", "stride", "padding", which has two numbers for each axis, and "dilation".
WindowKeys read_window_keys(const OperationReader& reader, const Tensor& input, Dilation dilation);
// "kernel_size", "stride", "padding" and "output_padding", one number for each axis, and "dilation".
WindowKeys read_transposed_keys(const OperationReader& reader, const Tensor& input);

// How many axes a list of numbers is for: 1 to 3, and no fewer than the tensor has.
size_t read_window_axes(const OperationReader& reader, const char* key, const Tensor& input);

// A number for each axis, `missing` of those in front.
std::array<int64_t, kWindowAxes> read_per_axis(const OperationReader& reader, const char* key, size_t axes, int64_t low,
                                               int64_t missing);

}  // namespace bitorch
