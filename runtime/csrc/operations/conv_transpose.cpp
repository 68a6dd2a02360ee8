#include "operations/conv_transpose.h"

namespace bitorch {

ConvolutionSpec read_conv_transpose(const OperationReader& reader) {
  ConvolutionSpec spec;
  read_codes_input(reader, &spec);
  read_transposed_window(reader, &spec);
  read_out_channels(reader, true, &spec.conv.geometry);
  check_window(reader, spec);
  read_packed_weights(reader, &spec);
  read_stages(reader, &spec);
  return spec;
}

}  // namespace bitorch
