// What the functions of core/training take, from Python: sizes are checked once more, as no mistake may lead beyond an
// array.
#pragma once
#include <nanobind/nanobind.h>

#include <cstdint>
#include <vector>

#include "arrays.h"
#include "core/training/shape.h"

namespace bitorch {

// Error: not `count` numbers of this dtype.
InputArray numbers(nanobind::handle object, const char* what, Dtype dtype, int64_t count);
const float* floats(const InputArray& input);

// batch, in rows, columns and channels, out channels, then rows and columns of kernel, stride and padding; groups.
ConvShape shape_from(const std::vector<int64_t>& geometry);
// Error: more than one pixel.
void check_linear(const ConvShape& shape);

// Error: not 1 to 8; not 1 to kMaxThreads.
int check_bits(const char* what, int bits);
int check_threads(int threads);

int64_t saved_bytes(const ConvShape& shape, bool linear, bool masked);

}  // namespace bitorch
