#include "operations/conv2d.h"

namespace bitorch {

ConvolutionSpec read_conv2d(const OperationReader& reader) {
  ConvolutionSpec spec;
  ConvGeometry& g = spec.conv.geometry;
  read_codes_input(reader, &spec);
  read_window(reader, &spec);
  read_out_channels(reader, true, &g);
  check_window(reader, spec);
  read_packed_weights(reader, &spec);
  read_stages(reader, &spec);
  return spec;
}

}  // namespace bitorch
