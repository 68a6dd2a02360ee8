// What conv2d, conv_transpose, linear and their float forms have in common: their descriptions become a ConvSpec, and
// core/conv does the rest.
#pragma once
#include <array>
#include <memory>
#include <string>
#include <vector>

#include "core/conv/conv.h"
#include "operations/definition.h"
#include "operations/window_keys.h"

namespace bitorch {

struct ConvolutionSpec {
  ConvSpec conv;                             // its arrays are read until plan() is done
  const Tensor* input = nullptr;             // codes, or float32 of float layers
  size_t window_axes = 0;                    // 1 to 3; none of a linear layer, which is a convolution of each pixel
  std::array<ConvAxis, kWindowAxes> window;  // where there is one; of two axes conv.geometry says the same
  const Tensor* residual = nullptr;          // float32, of the shape of the outputs, or null
  const Tensor* out_int = nullptr;           // null where not wanted, and so below
  const Tensor* out_float = nullptr;
  const Tensor* out_codes = nullptr;

  bool low_bit() const { return conv.weight_bits != 0; }
  int64_t weights_per_channel() const;  // K; Error beyond int64
  std::vector<const Tensor*> inputs() const;
  std::vector<const Tensor*> outputs() const;
  bool has_float_values() const { return !low_bit() || conv.multiply != nullptr; }
};

std::unique_ptr<Operation> make_convolution(const ConvolutionSpec& spec, Preparation& preparation);

// The parts of the four descriptions, in the order in which they are read.

void read_codes_input(const OperationReader& reader, ConvolutionSpec* spec);
void read_float_input(const OperationReader& reader, ConvolutionSpec* spec);
// "kernel_size", "stride", "padding", "dilation" and "groups", of a convolution.
void read_window(const OperationReader& reader, ConvolutionSpec* spec);
// The same and "output_padding", of a transposed one.
void read_transposed_window(const OperationReader& reader, ConvolutionSpec* spec);
// "out_channels"; float weights say it themselves: there the key is optional.
void read_out_channels(const OperationReader& reader, bool low_bit, ConvGeometry* geometry);
// That there are outputs, and that groups divide the channels.
void check_window(const OperationReader& reader, const ConvolutionSpec& spec);
// "weight_bits", "weight_grid", "sign_activations", "zero_point" and "weight".
void read_packed_weights(const OperationReader& reader, ConvolutionSpec* spec);
// "weight", float32 of this shape.
void read_float_weights(const OperationReader& reader, const std::vector<int64_t>& shape, ConvolutionSpec* spec);
// The same of the shape that the window says.
void read_float_kernel(const OperationReader& reader, ConvolutionSpec* spec);
// What follows the sums: the float stage, thresholds, and what leaves.
void read_stages(const OperationReader& reader, ConvolutionSpec* spec);

}  // namespace bitorch
