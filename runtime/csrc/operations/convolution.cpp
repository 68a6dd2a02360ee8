#include "operations/convolution.h"

#include <limits>
#include <utility>
#include <vector>

#include "core/conv/conv_choice.h"
#include "core/conv/tuning.h"
#include "core/graph/by_rows.h"
#include "operations/max_pool.h"
#include "operations/parted_convolution.h"

namespace bitorch {

namespace {

ConvPool pool_of(const MaxPoolSpec& spec) {
  const PoolAxis &y = spec.window.y, &x = spec.window.x;
  return {y.kernel, x.kernel, y.stride, x.stride, y.before, x.before, spec.output->height, spec.output->width};
}

// A tensor that the caches do not hold beside what else a layer reads and writes.
constexpr int64_t kLargeTensor = 128 * 1024;

// Nanoseconds that a pool apart takes for an output, about: 3x3 of stride 2 was measured.
constexpr double kPooledFloat = 0.7, kPooledCode = 0.15;

class Convolution : public Operation, private ByRows {
 public:
  Convolution(const ConvolutionSpec& spec, const Tuning* tuning)
      : Operation(spec.inputs(), spec.outputs()),
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
  bool writes_part(const Tensor&) const override { return true; }
  bool reads_part(const Tensor& tensor) const override { return &tensor == residual_ && &tensor != input_; }
  Halo halo(const Tensor& tensor) const override { return &tensor == input_ ? pads_ : Halo(); }

  // Not what is read as the input, too: later channels and pixels need it.
  const Tensor* overwrites(const Tensor& output) const override {
    return &output == out_float_ && residual_ != input_ ? residual_ : nullptr;
  }

  // A max-pool, where that is cheaper than to run both.
  bool take_over(const Operation& next, const KernelTable& kernels, Preparation& preparation) override {
    const MaxPoolSpec* pool = as_max_pool(next);
    if (pool == nullptr || pool->window.y.dilation != 1 || pool->window.x.dilation != 1) return false;
    if (pool->window.has_depth()) return false;
    const Layout &between = outputs()[0]->layout, &result = pool->output->layout;
    if (result.kind == Kind::kPlanes && !can_write_planes(*spec_)) return false;
    const bool floats = out_float_ != nullptr;
    const auto outputs = static_cast<double>(pool->output->pixels() * pool->output->channels);
    const double apart = least_cost(*spec_, between, kernels) + outputs * (floats ? kPooledFloat : kPooledCode);
    ConvSpec pooled = *spec_;
    pooled.pool = pool_of(*pool);
    if (least_cost(pooled, result, kernels) >= apart) return false;
    conv_ = Conv::make(pooled, kernels, preparation, input_->layout, nullptr, floats ? &result : nullptr,
                       floats ? nullptr : &result, nullptr);
    if (conv_ == nullptr) return false;
    (floats ? out_float_ : out_codes_) = pool->output;
    set_outputs({pool->output});
    return true;
  }

  void plan(const KernelTable& kernels, Preparation& preparation) override {
    const auto layout = [](const Tensor* tensor) { return tensor == nullptr ? nullptr : &tensor->layout; };
    if (conv_ == nullptr) {
      conv_ = std::make_unique<Conv>(*spec_, kernels, preparation, input_->layout, layout(out_int_), layout(out_float_),
                                     layout(out_codes_), layout(residual_));
    }
    spec_.reset();  // its arrays belong to the caller of Program's constructor
  }

  int64_t scratch_bytes(int64_t batch, int threads) const override { return conv_->scratch_bytes(batch, threads); }

  void run(const RunContext& context) const override {
    Conv::Buffers whole = buffers(context, context.scratch);
    whole.zeroes_halo = true;
    conv_->run(whole, context.batch, context.threads);
  }

  // Only where much is saved: with few rows at a time, threads divide it less well.
  const ByRows* by_rows() const override {
    return out_float_ != nullptr && out_float_->layout.image_bytes >= kLargeTensor ? this : nullptr;
  }

  std::string kernel(const KernelTable&) const override { return conv_->kernel_name(); }
  std::vector<KernelTime> choices() const override { return conv_->choices(); }
  int64_t macs() const override { return conv_->macs(); }
  int64_t weight_bytes() const override { return conv_->weight_bytes(); }

 private:
  RowSpan rows_read(const Tensor& input, RowSpan) const override { return {0, input.height}; }
  int64_t rows_scratch() const override { return conv_->rows_scratch(); }
  double row_nanoseconds() const override { return conv_->nanoseconds() / static_cast<double>(out_float_->height); }
  void run_rows(const RunContext& context, int64_t n, RowSpan rows, uint8_t* scratch) const override {
    conv_->run_rows(buffers(context, scratch), n, rows.first, rows.last);
  }

  // Nanoseconds of the cheapest kernel; infinite where there is none.
  double least_cost(const ConvSpec& spec, const Layout& out, const KernelTable& kernels) const {
    const bool planes = out.kind == Kind::kPlanes;
    const auto choices = kernel_choices(spec, kernels, input_->layout.kind, planes, KernelWish(), tuning_);
    return choices.empty() ? std::numeric_limits<double>::infinity() : choices.front().nanoseconds;
  }

  Conv::Buffers buffers(const RunContext& context, uint8_t* scratch) const {
    const auto data = [&](const Tensor* tensor) { return tensor == nullptr ? nullptr : context.data(*tensor); };
    Conv::Buffers buffers = {};
    buffers.input = data(input_);
    buffers.residual = data(residual_);
    buffers.out_int = data(out_int_);
    buffers.out_float = data(out_float_);
    buffers.out_codes = data(out_codes_);
    buffers.scratch = scratch;
    return buffers;
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
  if (is_parted(spec)) return make_parted_convolution(spec, preparation);
  Tuning* const tuning = preparation.tuning();
  if (tuning != nullptr && tuning->measure) {
    measure_kernels(spec.conv, *tuning->kernels, preparation.budget(), tuning);
  }
  return std::make_unique<Convolution>(spec, tuning);
}

}  // namespace bitorch
