#include "operations/conv2d_float.h"

namespace bitorch {

ConvolutionSpec read_conv2d_float(const OperationReader& reader) {
  ConvolutionSpec spec;
  ConvGeometry& g = spec.conv.geometry;
  read_float_input(reader, &spec);
  read_window(reader, &g);
  read_out_channels(reader, false, &g);
  check_window(reader, g);
  read_float_weights(reader, {g.out_channels, g.kernel_h, g.kernel_w, g.in_channels / g.groups}, &spec);
  read_stages(reader, &spec);
  return spec;
}

}  // namespace bitorch
