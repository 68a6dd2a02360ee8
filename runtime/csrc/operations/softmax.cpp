// softmax: over the channels of each pixel, or its logarithm.
#include "core/base/rows.h"
#include "operations/operations.h"

namespace bitorch {

namespace {

class Softmax : public Operation {
 public:
  explicit Softmax(const OperationReader& reader) : Operation(reader) {
    reader.allow({"input", "output", "log"});
    input_ = reader.input("input", {Values::kFloat32});
    inputs_ = {input_};
    log_ = reader.flag("log", false);
    output_ = reader.output("output", Values::kFloat32, 0, input_->axes, input_->channels);
    outputs_ = {output_};
  }

  int64_t scratch_bytes(int64_t, int threads) const override { return checked_mul(room_bytes(), threads, "a softmax"); }

  void run(const RunContext& context) const override {
    zero_halo(output_->layout, context.data(*output_), context.batch);
    const double values = static_cast<double>(context.batch) * static_cast<double>(input_->pixels()) *
                          static_cast<double>(input_->channels);
    for_rows(context.batch * input_->height, values * 3.0, context.threads, [&](int part, int64_t first, int64_t last) {
      double* room = reinterpret_cast<double*>(context.scratch + part * room_bytes());
      for (int64_t row = first; row < last; ++row) run_row(context, room, row / input_->height, row % input_->height);
    });
  }

 private:
  int64_t room_bytes() const { return round_up(input_->channels, 8) * static_cast<int64_t>(sizeof(double)); }

  void run_row(const RunContext& context, double* room, int64_t n, int64_t y) const {
    const float* in = reinterpret_cast<const float*>(context.data(*input_) + input_->layout.offset(n, y, 0));
    float* out = reinterpret_cast<float*>(context.data(*output_) + output_->layout.offset(n, y, 0));
    const int64_t channels = input_->channels;
    for (int64_t x = 0; x < input_->width; ++x) {
      context.kernels->rows.activations.softmax(out + x * channels, in + x * channels, room, channels, log_);
    }
  }

  bool log_ = false;
  const Tensor* input_ = nullptr;
  const Tensor* output_ = nullptr;
};

}  // namespace

std::unique_ptr<Operation> make_softmax(const OperationReader& reader) { return std::make_unique<Softmax>(reader); }

}  // namespace bitorch
