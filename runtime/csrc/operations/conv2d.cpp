// conv2d, linear and their float forms: the description becomes a ConvSpec, and conv.h does the rest.
#include <algorithm>

#include "core/base/packing.h"
#include "core/conv/conv.h"
#include "operations/operations.h"
#include "operations/pool_window.h"

namespace bitorch {

namespace {

enum class Form { kConv, kLinear };

// Returns how many axes the window has.
size_t read_window(const OperationReader& reader, const Tensor& input, ConvGeometry* g) {
  const WindowKeys keys = read_window_keys(reader, input, Dilation::kNeeded);
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
  return keys.axes;
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

class ConvOperation : public Operation {
 public:
  ConvOperation(const OperationReader& reader, Form form, bool low_bit) : Operation(reader), spec_(new ConvSpec) {
    allow_keys(reader, form, low_bit);
    const Tensor* input = reader.input("input", {low_bit ? Values::kCodes : Values::kFloat32});
    input_ = input;
    inputs_ = {input};
    read_geometry(reader, form, low_bit);
    if (low_bit) {
      read_packed_weights(reader);
    } else {
      read_float_weights(reader, form);
    }
    read_float_stage(reader, low_bit);
    read_outputs(reader, low_bit);
    spec_->geometry.check();
    pads_ = {spec_->geometry.pad_top, spec_->geometry.pad_left, spec_->geometry.pad_bottom, spec_->geometry.pad_right};
  }

  bool reads_planes(const Tensor&, const KernelTable& kernels) const override {
    return preferred_input(*spec_, kernels) == Kind::kPlanes;
  }
  bool writes_planes(const Tensor&) const override { return can_write_planes(*spec_); }
  bool prefers_planes(const Tensor& tensor, const KernelTable& kernels) const override {
    return &tensor == input_ && preferred_input(*spec_, kernels) == Kind::kPlanes;
  }
  Halo halo(const Tensor& tensor) const override { return &tensor == input_ ? pads_ : Halo(); }

  void plan(const KernelTable& kernels, Preparation& preparation) override {
    const auto layout = [](const Tensor* tensor) { return tensor == nullptr ? nullptr : &tensor->layout; };
    conv_ = std::make_unique<Conv>(*spec_, kernels, preparation, input_->layout, layout(out_int_), layout(out_float_),
                                   layout(out_codes_), layout(residual_));
    spec_.reset();  // its arrays belong to the caller of Program's constructor
  }

  int64_t scratch_bytes(int64_t batch, int threads) const override { return conv_->scratch_bytes(batch, threads); }

  void run(const RunContext& context) const override {
    Conv::Buffers buffers = {};
    buffers.input = context.data(*input_);
    if (residual_ != nullptr) buffers.residual = context.data(*residual_);
    buffers.out_int = prepare(context, out_int_);
    buffers.out_float = prepare(context, out_float_);
    buffers.out_codes = prepare(context, out_codes_);
    buffers.scratch = context.scratch;
    conv_->run(buffers, context.batch, context.threads);
  }

  std::string kernel(const KernelTable&) const override { return conv_->kernel_name(); }
  int64_t macs() const override { return conv_->macs(); }
  int64_t weight_bytes() const override { return conv_->weight_bytes(); }

 private:
  static void allow_keys(const OperationReader& reader, Form form, bool low_bit) {
    if (form == Form::kConv && low_bit) {
      reader.allow({"input",      "weight",     "weight_bits",   "weight_grid", "out_channels",     "kernel_size",
                    "stride",     "padding",    "dilation",      "groups",      "sign_activations", "zero_point",
                    "multiply",   "offset",     "norm_multiply", "norm_offset", "residual",         "relu",
                    "thresholds", "descending", "bits",          "int32",       "float32",          "codes"});
    } else if (form == Form::kConv) {
      reader.allow({"input", "weight", "out_channels", "kernel_size", "stride", "padding", "dilation", "groups",
                    "multiply", "offset", "norm_multiply", "norm_offset", "residual", "relu", "thresholds",
                    "descending", "bits", "float32", "codes"});
    } else if (low_bit) {
      reader.allow({"input", "weight", "weight_bits", "weight_grid", "out_channels", "sign_activations", "zero_point",
                    "multiply", "offset", "norm_multiply", "norm_offset", "residual", "relu", "thresholds",
                    "descending", "bits", "int32", "float32", "codes"});
    } else {
      reader.allow({"input", "weight", "out_channels", "multiply", "offset", "norm_multiply", "norm_offset", "residual",
                    "relu", "thresholds", "descending", "bits", "float32", "codes"});
    }
  }

  static uint8_t* prepare(const RunContext& context, const Tensor* tensor) {
    if (tensor == nullptr) return nullptr;
    uint8_t* data = context.data(*tensor);
    zero_halo(tensor->layout, data, context.batch);
    return data;
  }

  void read_geometry(const OperationReader& reader, Form form, bool low_bit) {
    ConvGeometry& g = spec_->geometry;
    g.height = input_->height;
    g.width = input_->width;
    g.in_channels = input_->channels;
    if (form == Form::kConv) {
      window_axes_ = read_window(reader, *input_, &g);
    }
    g.out_channels = read_out_channels(reader, low_bit);
    check_window(reader, g);
  }

  // Float weights say it themselves: there the key is optional.
  static int64_t read_out_channels(const OperationReader& reader, bool low_bit) {
    if (low_bit || reader.has("out_channels")) return reader.integer("out_channels", 1, kMaxChannels);
    const std::vector<int64_t>& shape = reader.array("weight").shape;
    if (shape.empty() || shape[0] < 1 || shape[0] > kMaxChannels) {
      reader.fail("weight", "the array is " + reader.array("weight").describe() + ", but must have from 1 to " +
                                std::to_string(kMaxChannels) + " output channels");
    }
    return shape[0];
  }

  // The number of weights of one output channel; a size that cannot be is an Error.
  int64_t weights_per_channel() const {
    const ConvGeometry& g = spec_->geometry;
    return checked_mul(checked_mul(g.kernel_h, g.kernel_w, "the weights"), g.in_channels / g.groups, "the weights");
  }

  void read_packed_weights(const OperationReader& reader) {
    spec_->weight_bits = reader.bits("weight_bits");
    if (reader.has("weight_grid") && reader.choice("weight_grid", {"odd", "signed"}) == "signed") {
      spec_->weight_grid = WeightGrid::kSigned;
    }
    read_activations(reader);
    const int64_t count = weights_per_channel();
    if (spec_->largest_sum() >= int64_t{1} << 31) {
      reader.fail(std::to_string(count) + " weights per output, times the largest weight and activation code, " +
                  std::to_string(spec_->largest_sum() / count) +
                  ", must stay below 2^31: use fewer bits or more groups");
    }
    const int64_t row_bytes = packed_row_bytes(count, spec_->weight_bits);
    spec_->packed_weights = reader.bytes("weight", {spec_->geometry.out_channels, row_bytes});
    check_fill(reader, row_bytes, count * spec_->weight_bits);
  }

  // What the codes of the input stand for.
  void read_activations(const OperationReader& reader) {
    spec_->activation_bits = input_->bits;
    spec_->sign_activations = reader.flag("sign_activations", false);
    if (spec_->sign_activations && input_->bits != 1) {
      reader.fail("sign_activations", "needs an input of 1 bit, but it is " + input_->describe());
    }
    if (!reader.has("zero_point")) return;
    spec_->zero_point = static_cast<int>(reader.integer("zero_point", 0, (int64_t{1} << input_->bits) - 1));
    if (spec_->sign_activations && spec_->zero_point != 0) {
      reader.fail("zero_point", "must be 0 or missing beside \"sign_activations\", whose codes mean -1 and +1");
    }
  }

  // The bits that fill up a row are zero: anything else is a row of another shape or another order.
  void check_fill(const OperationReader& reader, int64_t row_bytes, int64_t row_bits) const {
    if (row_bits % 8 == 0) return;
    reader.preparation().budget().work(spec_->geometry.out_channels);
    for (int64_t channel = 0; channel < spec_->geometry.out_channels; ++channel) {
      if (spec_->packed_weights[(channel + 1) * row_bytes - 1] >> (row_bits % 8) == 0) continue;
      reader.fail("weight", "channel " + std::to_string(channel) + ": the last " + std::to_string(8 - row_bits % 8) +
                                " bits of its row must be zero");
    }
  }

  void read_float_weights(const OperationReader& reader, Form form) {
    const ConvGeometry& g = spec_->geometry;
    weights_per_channel();
    if (form == Form::kConv) {
      std::vector<int64_t> shape = {g.out_channels, g.kernel_h, g.kernel_w, g.in_channels / g.groups};
      if (window_axes_ == 1) shape.erase(shape.begin() + 1);
      spec_->float_weights = reader.floats("weight", shape);
    } else {
      spec_->float_weights = reader.floats("weight", {g.out_channels, g.in_channels});
    }
  }

  void read_float_stage(const OperationReader& reader, bool low_bit) {
    const int64_t channels = spec_->geometry.out_channels;
    if (reader.has("multiply") != reader.has("offset")) {
      reader.fail("the float stage needs both \"multiply\" and \"offset\", or neither");
    }
    if (reader.has("multiply")) {
      spec_->multiply = reader.floats("multiply", {channels});
      spec_->offset = reader.floats("offset", {channels});
    }
    const bool float_values = !low_bit || spec_->multiply != nullptr;
    if (reader.has("norm_multiply") != reader.has("norm_offset")) {
      reader.fail("it needs both \"norm_multiply\" and \"norm_offset\", or neither");
    }
    if (reader.has("norm_multiply")) {
      if (!float_values) reader.fail("norm_multiply", "needs the float stage: \"multiply\" and \"offset\"");
      spec_->norm_multiply = reader.floats("norm_multiply", {channels});
      spec_->norm_offset = reader.floats("norm_offset", {channels});
    }
    spec_->relu = reader.flag("relu", false);
    if (spec_->relu && !float_values) reader.fail("relu", "needs the float stage: \"multiply\" and \"offset\"");
    if (!reader.has("residual")) return;
    if (!float_values) reader.fail("residual", "needs the float stage: \"multiply\" and \"offset\"");
    residual_ = reader.input("residual", {Values::kFloat32});
    inputs_.push_back(residual_);
    Tensor output;
    output.axes = output_axes();
    output.channels = channels;
    if (!residual_->same_shape(output)) {
      reader.fail("residual",
                  "the tensor is " + residual_->describe() + ", but the output is " + shape_text(output.shape()));
    }
    spec_->has_residual = true;
  }

  void read_outputs(const OperationReader& reader, bool low_bit) {
    const RowAxes axes = output_axes();
    const int64_t channels = spec_->geometry.out_channels;
    const bool float_values = !low_bit || spec_->multiply != nullptr;
    const auto define = [&](const char* key, Values values, int bits) {
      Tensor* tensor = reader.output(key, values, bits, axes, channels);
      outputs_.push_back(tensor);
      return tensor;
    };
    if (reader.has("codes")) {
      const CodeKeys keys = read_code_keys(reader, channels, low_bit);
      if (keys.int_thresholds == nullptr && !float_values) {
        reader.fail("codes",
                    keys.float_thresholds != nullptr
                        ? "float32 thresholds need the float stage: \"multiply\" and \"offset\" (int32 ones do not)"
                        : "without thresholds they need the float stage: \"multiply\" and \"offset\"");
      }
      spec_->out_bits = keys.bits;
      spec_->int_thresholds = keys.int_thresholds;
      spec_->float_thresholds = keys.float_thresholds;
      spec_->descending = keys.descending;
    } else {
      for (const char* key : {"thresholds", "descending", "bits"}) {
        if (reader.has(key)) reader.fail(key, "has a meaning only beside \"codes\"");
      }
    }
    if (reader.has("float32") && !float_values) {
      reader.fail("float32", "needs the float stage: \"multiply\" and \"offset\"");
    }
    spec_->wants_int = reader.has("int32");
    spec_->wants_float = reader.has("float32");
    if (spec_->wants_int) out_int_ = define("int32", Values::kInt32, 0);
    if (spec_->wants_float) out_float_ = define("float32", Values::kFloat32, 0);
    if (reader.has("codes")) out_codes_ = define("codes", Values::kCodes, spec_->out_bits);
    if (outputs_.empty()) {
      reader.fail(low_bit ? "needs an output: \"int32\", \"float32\" or \"codes\""
                          : "needs an output: \"float32\" or \"codes\"");
    }
  }

  // A linear layer works on the channels at each place of the rows.
  RowAxes output_axes() const {
    const ConvGeometry& g = spec_->geometry;
    if (window_axes_ == 0) return input_->axes;
    return window_axes_ == 1 ? RowAxes{g.out_width()} : RowAxes{g.out_height(), g.out_width()};
  }

  size_t window_axes_ = 0;          // none of a linear layer
  std::unique_ptr<ConvSpec> spec_;  // until plan()
  std::unique_ptr<Conv> conv_;      // from then on
  Halo pads_;
  const Tensor* input_ = nullptr;
  const Tensor* residual_ = nullptr;
  const Tensor* out_int_ = nullptr;
  const Tensor* out_float_ = nullptr;
  const Tensor* out_codes_ = nullptr;
};

}  // namespace

std::unique_ptr<Operation> make_conv2d(const OperationReader& reader) {
  return std::make_unique<ConvOperation>(reader, Form::kConv, true);
}

std::unique_ptr<Operation> make_linear(const OperationReader& reader) {
  return std::make_unique<ConvOperation>(reader, Form::kLinear, true);
}

std::unique_ptr<Operation> make_conv2d_float(const OperationReader& reader) {
  return std::make_unique<ConvOperation>(reader, Form::kConv, false);
}

std::unique_ptr<Operation> make_linear_float(const OperationReader& reader) {
  return std::make_unique<ConvOperation>(reader, Form::kLinear, false);
}

}  // namespace bitorch
