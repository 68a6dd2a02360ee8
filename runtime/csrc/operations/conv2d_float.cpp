#include "operations/conv2d_float.h"

namespace bitorch {

ConvolutionSpec read_conv2d_float(const OperationReader& reader) {
  ConvolutionSpec spec;
  ConvGeometry& g = spec.conv.geometry;
  read_float_input(reader, &spec);
  read_window(reader, &spec);
  read_out_channels(reader, false, &g);
  check_window(reader, spec);
  read_float_kernel(reader, &spec);
  read_stages(reader, &spec);
  return spec;
}

}  // namespace bitorch
