#include "operations/conv_transpose_float.h"

namespace bitorch {

ConvolutionSpec read_conv_transpose_float(const OperationReader& reader) {
  ConvolutionSpec spec;
  read_float_input(reader, &spec);
  read_transposed_window(reader, &spec);
  read_out_channels(reader, false, &spec.conv.geometry);
  check_window(reader, spec);
  read_float_kernel(reader, &spec);
  read_stages(reader, &spec);
  return spec;
}

}  // namespace bitorch
