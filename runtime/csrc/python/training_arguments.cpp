#include "training_arguments.h"

#include <string>

#include "core/base/checked.h"
#include "core/base/threads.h"
#include "core/training/forward.h"

namespace nb = nanobind;

namespace bitorch {

InputArray numbers(nb::handle object, const char* what, Dtype dtype, int64_t count) {
  InputArray input = input_array(object, what);
  check_numbers(input.view, what, dtype, count);
  return input;
}

const float* floats(const InputArray& input) { return static_cast<const float*>(input.view.data); }

ConvShape shape_from(const std::vector<int64_t>& g) {
  if (g.size() != 12) throw Error("geometry: it must be 12 numbers");
  const ConvShape shape{g[0], {g[1], g[2]}, g[3], g[4], {g[5], g[6]}, {g[7], g[8]}, {g[9], g[10]}, g[11]};
  check_shape(shape);
  return shape;
}

void check_linear(const ConvShape& s) {
  for (int64_t one : {s.in.rows, s.in.columns, s.kernel.rows, s.kernel.columns, s.stride.rows, s.stride.columns,
                      s.padding.rows + 1, s.padding.columns + 1, s.groups}) {
    if (one != 1) throw Error("geometry: a linear layer has one pixel, and one group");
  }
}

int check_bits(const char* what, int bits) {
  if (bits < 1 || bits > 8) throw Error(std::string(what) + ": " + std::to_string(bits) + "; it must be from 1 to 8");
  return bits;
}

int check_threads(int threads) {
  if (threads < 1 || threads > kMaxThreads) {
    throw Error("threads: " + std::to_string(threads) + "; it must be from 1 to " + std::to_string(kMaxThreads));
  }
  return threads;
}

int64_t saved_bytes(const ConvShape& shape, bool linear, bool masked) {
  return linear ? LinearSaved(shape.batch, shape.in_channels, masked).bytes : SavedLayout(shape, masked).bytes;
}

}  // namespace bitorch
