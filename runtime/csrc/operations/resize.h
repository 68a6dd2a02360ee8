// resize: images of another size, by the nearest pixels or by pixels between pixels, with PyTorch's weights.
#pragma once
#include <array>

#include "operations/definition.h"
#include "operations/window_keys.h"

namespace bitorch {

inline constexpr const char* kResizeKeys[] = {"input", "output", "output_size", "mode", "align_corners", "scale"};

enum class ResizeMode { kNearest, kLinear, kCubic };

struct ResizeAxis {
  int64_t size = 1, outputs = 1;
  double scale = 0.0;  // outputs of a pixel, where it is not outputs / size; else 0
};

struct ResizeSpec {
  const Tensor* input = nullptr;  // float32; of kNearest also codes
  ResizeMode mode = ResizeMode::kLinear;
  bool align_corners = false;
  size_t axes = 2;
  std::array<ResizeAxis, kWindowAxes> axis;  // depth, vertical, horizontal
  const Tensor* output = nullptr;            // of the same values
};

ResizeSpec read_resize(const OperationReader& reader);
std::unique_ptr<Operation> make_resize(const ResizeSpec& spec, Preparation& preparation);

}  // namespace bitorch
