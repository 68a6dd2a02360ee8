#include "operations/conv2d_float.h"

namespace bitorch {

ConvolutionSpec read_conv2d_float(const OperationReader& reader) {
  ConvolutionSpec spec;
  ConvGeometry& g = spec.conv.geometry;
  read_float_input(reader, &spec);
  read_window(reader, &spec);
  read_out_channels(reader, false, &g);
  check_window(reader, g);
  std::vector<int64_t> shape = {g.out_channels, g.kernel_h, g.kernel_w, g.in_channels / g.groups};
  if (spec.window_axes == 1) shape.erase(shape.begin() + 1);
  read_float_weights(reader, shape, &spec);
  read_stages(reader, &spec);
  return spec;
}

}  // namespace bitorch
