// Reading what the four descriptions of convolutions have in common.
#include "core/base/packing.h"
#include "operations/code_keys.h"
#include "operations/convolution.h"
#include "operations/window_keys.h"

namespace bitorch {

namespace {

void read_input(const OperationReader& reader, Values values, ConvolutionSpec* spec) {
  spec->input = reader.input("input", {values});
  ConvGeometry& g = spec->conv.geometry;
  g.height = spec->input->height;
  g.width = spec->input->width;
  g.in_channels = spec->input->channels;
}

// A size that cannot be is an Error.
int64_t checked_weights_per_channel(const ConvGeometry& g) {
  return checked_mul(checked_mul(g.kernel_h, g.kernel_w, "the weights"), g.in_channels / g.groups, "the weights");
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

void read_window(const OperationReader& reader, ConvolutionSpec* spec) {
  const WindowKeys keys = read_window_keys(reader, *spec->input, Dilation::kNeeded);
  ConvGeometry* g = &spec->conv.geometry;
  spec->window_axes = keys.axes;
  g->kernel_h = keys.kernel[0];
  g->kernel_w = keys.kernel[1];
  g->stride_h = keys.stride[0];
  g->stride_w = keys.stride[1];
  g->pad_top = keys.padding[0];
  g->pad_left = keys.padding[1];
  g->pad_bottom = keys.padding[2];
  g->pad_right = keys.padding[3];
  g->dilation_h = keys.dilation[0];
  g->dilation_w = keys.dilation[1];
  g->groups = reader.integer("groups", 1, kMaxChannels);
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

void check_window(const OperationReader& reader, const ConvGeometry& g) {
  const int64_t extent_h = g.dilation_h * (g.kernel_h - 1) + 1, extent_w = g.dilation_w * (g.kernel_w - 1) + 1;
  const int64_t padded_h = g.height + g.pad_top + g.pad_bottom, padded_w = g.width + g.pad_left + g.pad_right;
  if (extent_h > padded_h || extent_w > padded_w) {
    reader.fail("kernel_size", "with its dilation it spans " + shape_text({extent_h, extent_w}) +
                                   " pixels, more than the padded input's " + shape_text({padded_h, padded_w}));
  }
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
  const int64_t count = checked_weights_per_channel(conv.geometry);
  if (conv.largest_sum() >= int64_t{1} << 31) {
    reader.fail(std::to_string(count) + " weights per output, times the largest weight and activation code, " +
                std::to_string(conv.largest_sum() / count) + ", must stay below 2^31: use fewer bits or more groups");
  }
  const int64_t row_bytes = packed_row_bytes(count, conv.weight_bits);
  conv.packed_weights = reader.bytes("weight", {conv.geometry.out_channels, row_bytes});
  check_fill(reader, conv, row_bytes, count * conv.weight_bits);
}

void read_float_weights(const OperationReader& reader, const std::vector<int64_t>& shape, ConvolutionSpec* spec) {
  checked_weights_per_channel(spec->conv.geometry);
  spec->conv.float_weights = reader.floats("weight", shape);
}

namespace {

// A linear layer has the rows of its input.
RowAxes output_axes(const ConvolutionSpec& spec) {
  const ConvGeometry& g = spec.conv.geometry;
  if (spec.window_axes == 0) return spec.input->axes;
  return spec.window_axes == 1 ? RowAxes{g.out_width()} : RowAxes{g.out_height(), g.out_width()};
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
  spec->conv.geometry.check();
}

}  // namespace bitorch
