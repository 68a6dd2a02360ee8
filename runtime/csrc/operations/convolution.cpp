#include "operations/convolution.h"

#include <utility>
#include <vector>

#include "core/conv/tuning.h"

namespace bitorch {

namespace {

std::vector<const Tensor*> inputs_of(const ConvolutionSpec& spec) {
  if (spec.residual == nullptr) return {spec.input};
  return {spec.input, spec.residual};
}

std::vector<const Tensor*> outputs_of(const ConvolutionSpec& spec) {
  std::vector<const Tensor*> outputs;
  for (const Tensor* tensor : {spec.out_int, spec.out_float, spec.out_codes}) {
    if (tensor != nullptr) outputs.push_back(tensor);
  }
  return outputs;
}

class Convolution : public Operation {
 public:
  Convolution(const ConvolutionSpec& spec, const Tuning* tuning)
      : Operation(inputs_of(spec), outputs_of(spec)),
        spec_(std::make_unique<ConvSpec>(spec.conv)),
        input_(spec.input),
        residual_(spec.residual),
        out_int_(spec.out_int),
        out_float_(spec.out_float),
        out_codes_(spec.out_codes),
        tuning_(tuning) {
    const ConvGeometry& g = spec.conv.geometry;
    pads_ = {g.pad_top, g.pad_left, g.pad_bottom, g.pad_right};
  }

  bool reads_planes(const Tensor&, const KernelTable& kernels) const override {
    return preferred_input(*spec_, kernels, tuning_) == Kind::kPlanes;
  }
  bool writes_planes(const Tensor&) const override { return can_write_planes(*spec_); }
  bool prefers_planes(const Tensor& tensor, const KernelTable& kernels) const override {
    return &tensor == input_ && preferred_input(*spec_, kernels, tuning_) == Kind::kPlanes;
  }
  Halo halo(const Tensor& tensor) const override { return &tensor == input_ ? pads_ : Halo(); }

  const Tensor* overwrites(const Tensor& output) const override { return &output == out_float_ ? residual_ : nullptr; }

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
  std::vector<KernelTime> choices() const override { return conv_->choices(); }
  int64_t macs() const override { return conv_->macs(); }
  int64_t weight_bytes() const override { return conv_->weight_bytes(); }

 private:
  static uint8_t* prepare(const RunContext& context, const Tensor* tensor) {
    if (tensor == nullptr) return nullptr;
    uint8_t* data = context.data(*tensor);
    zero_halo(tensor->layout, data, context.batch);
    return data;
  }

  std::unique_ptr<ConvSpec> spec_;  // until plan()
  std::unique_ptr<Conv> conv_;      // from then on
  Halo pads_;
  const Tensor* input_;
  const Tensor* residual_;
  const Tensor* out_int_;
  const Tensor* out_float_;
  const Tensor* out_codes_;
  const Tuning* tuning_;  // until plan()
};

}  // namespace

std::unique_ptr<Operation> make_convolution(const ConvolutionSpec& spec, Preparation& preparation) {
  Tuning* const tuning = preparation.tuning();
  if (tuning != nullptr && tuning->measure) {
    measure_kernels(spec.conv, *tuning->kernels, preparation.budget(), tuning);
  }
  return std::make_unique<Convolution>(spec, tuning);
}

}  // namespace bitorch
