// The keys of a window, which is along one axis of rows or two.
#pragma once
#include <cstdint>
#include <vector>

#include "core/graph/operation_reader.h"

namespace bitorch {

// As two axes have it: along one axis, a window says nothing about the other, which is one row.
struct WindowKeys {
  size_t axes = 2;
  std::vector<int64_t> kernel, stride, dilation;  // vertical, horizontal
  std::vector<int64_t> padding;                   // top, left, bottom, right
};

enum class Dilation { kNone, kOptional, kNeeded };

// "kernel_size", "stride", "padding", which has two numbers for each axis, and "dilation".
WindowKeys read_window_keys(const OperationReader& reader, const Tensor& input, Dilation dilation);

// How many axes a list of numbers is for: 1 or 2, and no fewer than the tensor has.
size_t read_window_axes(const OperationReader& reader, const char* key, const Tensor& input);

// [top, left, bottom, right] of a list of [before, after], or of both axes.
std::vector<int64_t> read_borders(const OperationReader& reader, const char* key, size_t axes);

}  // namespace bitorch
