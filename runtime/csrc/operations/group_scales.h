// What linear_weight_only and linear_groups have in common: a scale for each group of inputs, and results that are made
// by blocks of columns, for the rows of all images.
#pragma once
#include <algorithm>

#include "operations/definition.h"

namespace bitorch {

// How many scales each output channel has: "scale" is float32 [channels][groups], where groups divide the inputs.
int64_t read_groups(const OperationReader& reader, int64_t channels, int64_t inputs);

// Row `row` of all images' rows.
inline uint8_t* row_of(const RunContext& context, const Tensor& tensor, int64_t row) {
  const int64_t in_image = row % tensor.pixels();
  return context.pixel(tensor, row / tensor.pixels(), in_image / tensor.width, in_image % tensor.width);
}

constexpr int64_t kMostRows = 64;  // whose inputs are there at a time

// Calls f(first, count) for the rows of all images, a part of them after the other.
template <class F>
inline void for_parts_of_rows(const RunContext& context, const Tensor& input, const Tensor& output, const F& f) {
  zero_halo(output.layout, context.data(output), context.batch);
  const int64_t rows = context.batch * input.pixels();
  for (int64_t first = 0; first < rows; first += kMostRows) f(first, std::min(kMostRows, rows - first));
}

// Columns of a result, a step of `step` floats from one row to the next, become channels from `channel` on of rows from
// `first` on, with the bias [channels], which may be null, added; columns beyond the last channel are left out.
inline void give_columns(const RunContext& context, const Tensor& output, int64_t first, int64_t rows, int64_t channel,
                         const float* sums, int64_t step, const float* bias) {
  const int64_t count = std::min(step, output.channels - channel);
  for (int64_t row = 0; row < rows; ++row, sums += step) {
    float* to = reinterpret_cast<float*>(row_of(context, output, first + row)) + channel;
    if (bias == nullptr) {
      std::copy_n(sums, count, to);
    } else {
      for (int64_t i = 0; i < count; ++i) to[i] = sums[i] + bias[channel + i];
    }
  }
}

}  // namespace bitorch
