#include "operations/linear_float.h"

namespace bitorch {

ConvolutionSpec read_linear_float(const OperationReader& reader) {
  ConvolutionSpec spec;
  ConvGeometry& g = spec.conv.geometry;
  read_float_input(reader, &spec);
  read_out_channels(reader, false, &g);
  check_window(reader, spec);
  read_float_weights(reader, {g.out_channels, g.in_channels}, &spec);
  read_stages(reader, &spec);
  return spec;
}

}  // namespace bitorch
