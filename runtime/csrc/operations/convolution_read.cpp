// Reading what the four descriptions of convolutions have in common.
#include <algorithm>

#include "core/base/packing.h"
#include "operations/code_keys.h"
#include "operations/convolution.h"

namespace bitorch {

namespace {

void read_input(const OperationReader& reader, Values values, ConvolutionSpec* spec) {
  spec->input = reader.input("input", {values});
  ConvGeometry& g = spec->conv.geometry;
  g.height = spec->input->height;
  g.width = spec->input->width;
  g.in_channels = spec->input->channels;
}

// What the codes of the input stand for.
void read_activations(const OperationReader& reader, ConvolutionSpec* spec) {
  const Tensor& input = *spec->input;
  ConvSpec& conv = spec->conv;
  conv.activation_bits = input.bits;
  conv.sign_activations = reader.flag("sign_activations", false);
  if (conv.sign_activations && input.bits != 1) {
    reader.fail("sign_activations", "needs an input of 1 bit, but it is " + input.describe());
  }
  if (!reader.has("zero_point")) return;
  conv.zero_point = static_cast<int>(reader.integer("zero_point", 0, (int64_t{1} << input.bits) - 1));
  if (conv.sign_activations && conv.zero_point != 0) {
    reader.fail("zero_point", "must be 0 or missing beside \"sign_activations\", whose codes mean -1 and +1");
  }
}

// The bits that fill up a row are zero: anything else is a row of another shape or another order.
void check_fill(const OperationReader& reader, const ConvSpec& conv, int64_t row_bytes, int64_t row_bits) {
  if (row_bits % 8 == 0) return;
  const int64_t channels = conv.geometry.out_channels;
  reader.preparation().budget().work(channels);
  for (int64_t channel = 0; channel < channels; ++channel) {
    if (conv.packed_weights[(channel + 1) * row_bytes - 1] >> (row_bits % 8) == 0) continue;
    reader.fail("weight", "channel " + std::to_string(channel) + ": the last " + std::to_string(8 - row_bits % 8) +
                              " bits of its row must be zero");
  }
}

}  // namespace

void read_codes_input(const OperationReader& reader, ConvolutionSpec* spec) {
  read_input(reader, Values::kCodes, spec);
}

void read_float_input(const OperationReader& reader, ConvolutionSpec* spec) {
  read_input(reader, Values::kFloat32, spec);
}

std::vector<const Tensor*> ConvolutionSpec::inputs() const {
  if (residual == nullptr) return {input};
  return {input, residual};
}

std::vector<const Tensor*> ConvolutionSpec::outputs() const {
  std::vector<const Tensor*> made;
  for (const Tensor* tensor : {out_int, out_float, out_codes}) {
    if (tensor != nullptr) made.push_back(tensor);
  }
  return made;
}

int64_t ConvolutionSpec::weights_per_channel() const {
  const ConvGeometry& g = conv.geometry;
  int64_t count = g.in_channels / g.groups;
  for (const ConvAxis& axis : window) count = checked_mul(count, axis.kernel, "the weights");
  return count;
}

void read_window(const OperationReader& reader, ConvolutionSpec* spec) {
  const WindowKeys keys = read_window_keys(reader, *spec->input, Dilation::kNeeded);
  spec->window_axes = keys.axes;
  spec->window = keys.axis;
  const ConvAxis &y = keys.axis[1], &x = keys.axis[2];
  ConvGeometry* g = &spec->conv.geometry;
  g->height = y.size;
  g->width = x.size;
  g->kernel_h = y.kernel;
  g->kernel_w = x.kernel;
  g->stride_h = y.stride;
  g->stride_w = x.stride;
  g->pad_top = y.before;
  g->pad_left = x.before;
  g->pad_bottom = y.after;
  g->pad_right = x.after;
  g->dilation_h = y.dilation;
  g->dilation_w = x.dilation;
  g->groups = reader.integer("groups", 1, kMaxChannels);
}

void read_transposed_window(const OperationReader& reader, ConvolutionSpec* spec) {
  const WindowKeys keys = read_transposed_keys(reader, *spec->input);
  spec->window_axes = keys.axes;
  spec->window = keys.axis;
  spec->conv.geometry.groups = reader.integer("groups", 1, kMaxChannels);
}

void read_out_channels(const OperationReader& reader, bool low_bit, ConvGeometry* g) {
  if (low_bit || reader.has("out_channels")) {
    g->out_channels = reader.integer("out_channels", 1, kMaxChannels);
    return;
  }
  const std::vector<int64_t>& shape = reader.array("weight").shape;
  if (shape.empty() || shape[0] < 1 || shape[0] > kMaxChannels) {
    reader.fail("weight", "the array is " + reader.array("weight").describe() + ", but must have from 1 to " +
                              std::to_string(kMaxChannels) + " output channels");
  }
  g->out_channels = shape[0];
}

void check_window(const OperationReader& reader, const ConvolutionSpec& spec) {
  std::vector<int64_t> extents, padded, made;
  bool fits = true;
  for (size_t i = kWindowAxes - std::max<size_t>(spec.window_axes, 2); i < kWindowAxes; ++i) {
    const ConvAxis& axis = spec.window[i];
    extents.push_back(axis.extent());
    padded.push_back(axis.size + axis.before + axis.after);
    made.push_back(axis.outputs());
    fits = fits && axis.outputs() >= 1;
  }
  if (!fits && spec.window[0].transposed) {
    reader.fail("padding", "leaves nothing of the result: " + shape_text(made) + " pixels");
  }
  if (!fits) {
    reader.fail("kernel_size", "with its dilation it spans " + shape_text(extents) +
                                   " pixels, more than the padded input's " + shape_text(padded));
  }
  const ConvGeometry& g = spec.conv.geometry;
  if (g.in_channels % g.groups != 0 || g.out_channels % g.groups != 0) {
    reader.fail("groups", "must divide the input's " + std::to_string(g.in_channels) + " channels and the " +
                              std::to_string(g.out_channels) + " output channels");
  }
}

void read_packed_weights(const OperationReader& reader, ConvolutionSpec* spec) {
  ConvSpec& conv = spec->conv;
  conv.weight_bits = reader.bits("weight_bits");
  if (reader.has("weight_grid") && reader.choice("weight_grid", {"odd", "signed"}) == "signed") {
    conv.weight_grid = WeightGrid::kSigned;
  }
  read_activations(reader, spec);
  const int64_t count = spec->weights_per_channel();
  const int64_t product = -int64_t{conv.lowest_code()} * ((1 << conv.activation_bits) - 1);
  if (checked_mul(count, product, "the weights") >= int64_t{1} << 31) {
    reader.fail(std::to_string(count) + " weights per output, times the largest weight and activation code, " +
                std::to_string(product) + ", must stay below 2^31: use fewer bits or more groups");
  }
  const int64_t row_bytes = packed_row_bytes(count, conv.weight_bits);
  conv.packed_weights = reader.bytes("weight", {conv.geometry.out_channels, row_bytes});
  check_fill(reader, conv, row_bytes, count * conv.weight_bits);
}

void read_float_weights(const OperationReader& reader, const std::vector<int64_t>& shape, ConvolutionSpec* spec) {
  spec->weights_per_channel();
  spec->conv.float_weights = reader.floats("weight", shape);
}

void read_float_kernel(const OperationReader& reader, ConvolutionSpec* spec) {
  const ConvGeometry& g = spec->conv.geometry;
  std::vector<int64_t> shape = {g.out_channels};
  for (size_t i = kWindowAxes - spec->window_axes; i < kWindowAxes; ++i) shape.push_back(spec->window[i].kernel);
  shape.push_back(g.in_channels / g.groups);
  read_float_weights(reader, shape, spec);
}

namespace {

// A linear layer has the rows of its input.
RowAxes output_axes(const ConvolutionSpec& spec) {
  if (spec.window_axes == 0) return spec.input->axes;
  RowAxes axes;
  for (size_t i = kWindowAxes - spec.window_axes; i < kWindowAxes; ++i) axes.push_back(spec.window[i].outputs());
  return axes;
}

void read_residual(const OperationReader& reader, ConvolutionSpec* spec) {
  if (!reader.has("residual")) return;
  if (!spec->has_float_values()) reader.fail("residual", "needs the float stage: \"multiply\" and \"offset\"");
  spec->residual = reader.input("residual", {Values::kFloat32});
  spec->conv.has_residual = true;
  Tensor output;
  output.axes = output_axes(*spec);
  output.channels = spec->conv.geometry.out_channels;
  if (!spec->residual->same_shape(output)) {
    reader.fail("residual",
                "the tensor is " + spec->residual->describe() + ", but the output is " + shape_text(output.shape()));
  }
}

void read_float_stage(const OperationReader& reader, ConvolutionSpec* spec) {
  ConvSpec& conv = spec->conv;
  const int64_t channels = conv.geometry.out_channels;
  if (reader.has("multiply") != reader.has("offset")) {
    reader.fail("the float stage needs both \"multiply\" and \"offset\", or neither");
  }
  if (reader.has("multiply")) {
    conv.multiply = reader.floats("multiply", {channels});
    conv.offset = reader.floats("offset", {channels});
  }
  if (reader.has("norm_multiply") != reader.has("norm_offset")) {
    reader.fail("it needs both \"norm_multiply\" and \"norm_offset\", or neither");
  }
  if (reader.has("norm_multiply")) {
    if (!spec->has_float_values()) {
      reader.fail("norm_multiply", "needs the float stage: \"multiply\" and \"offset\"");
    }
    conv.norm_multiply = reader.floats("norm_multiply", {channels});
    conv.norm_offset = reader.floats("norm_offset", {channels});
  }
  conv.relu = reader.flag("relu", false);
  if (conv.relu && !spec->has_float_values()) reader.fail("relu", "needs the float stage: \"multiply\" and \"offset\"");
  read_residual(reader, spec);
}

void read_code_stage(const OperationReader& reader, ConvolutionSpec* spec) {
  if (!reader.has("codes")) return refuse_code_keys(reader);
  ConvSpec& conv = spec->conv;
  conv.code = read_code_keys(reader, conv.geometry.out_channels, spec->low_bit());
  if (conv.code.int_thresholds != nullptr || spec->has_float_values()) return;
  reader.fail("codes", conv.code.float_thresholds != nullptr
                           ? "float32 thresholds need the float stage: \"multiply\" and \"offset\" (int32 ones do not)"
                           : "without thresholds they need the float stage: \"multiply\" and \"offset\"");
}

void define_outputs(const OperationReader& reader, ConvolutionSpec* spec) {
  const ConvGeometry& g = spec->conv.geometry;
  const RowAxes axes = output_axes(*spec);
  const auto define = [&](const char* key, Values values, int bits) -> const Tensor* {
    return reader.has(key) ? reader.output(key, values, bits, axes, g.out_channels) : nullptr;
  };
  if (spec->low_bit()) spec->out_int = define("int32", Values::kInt32, 0);
  spec->out_float = define("float32", Values::kFloat32, 0);
  spec->out_codes = define("codes", Values::kCodes, spec->conv.code.bits);
  spec->conv.wants_int = spec->out_int != nullptr;
  spec->conv.wants_float = spec->out_float != nullptr;
  if (spec->out_int != nullptr || spec->out_float != nullptr || spec->out_codes != nullptr) return;
  reader.fail(spec->low_bit() ? "needs an output: \"int32\", \"float32\" or \"codes\""
                              : "needs an output: \"float32\" or \"codes\"");
}

}  // namespace

void read_stages(const OperationReader& reader, ConvolutionSpec* spec) {
  read_float_stage(reader, spec);
  read_code_stage(reader, spec);
  if (reader.has("float32") && !spec->has_float_values()) {
    reader.fail("float32", "needs the float stage: \"multiply\" and \"offset\"");
  }
  define_outputs(reader, spec);
  if (!spec->window[0].transposed) spec->conv.geometry.check();
}

}  // namespace bitorch
