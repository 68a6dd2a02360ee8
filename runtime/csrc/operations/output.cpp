// output: a tensor becomes an array for outside.
#include <algorithm>
#include <cstring>

#include "core/base/rows.h"
#include "core/base/transpose.h"
#include "operations/operations.h"

namespace bitorch {

namespace {

class Output : public Operation {
 public:
  Output(const OperationReader& reader, size_t index, Program::Port* port) : Operation(reader), index_(index) {
    reader.allow({"input", "order", "array_shape"});
    tensor_ = reader.input("input", {Values::kFloat32, Values::kInt32, Values::kCodes});
    inputs_ = {tensor_};
    if (tensor_->pixels() > 1 || reader.has("order")) {
      channels_last_ = reader.choice("order", {"nchw", "nhwc"}) == "nhwc";
    }
    describe(port);
    read_array_shape(reader, port);
    channels_last_ = channels_last_ || tensor_->channels == 1 || tensor_->pixels() == 1;
  }

  int64_t scratch_bytes(int64_t, int threads) const override {
    if (tensor_->layout.kind != Kind::kPlanes || channels_last_) return 0;
    return checked_mul(checked_mul(tensor_->width, tensor_->channels, "an output"), threads, "an output");
  }

  void run(const RunContext& context) const override {
    const double values =
        static_cast<double>(context.batch) * static_cast<double>(tensor_->pixels() * tensor_->channels);
    for_rows(context.batch * tensor_->height, values * (channels_last_ ? 0.1 : 0.5), context.threads,
             [&](int part, int64_t first, int64_t last) {
               for (int64_t row = first; row < last; ++row) {
                 run_row(context, part, row / tensor_->height, row % tensor_->height);
               }
             });
  }

  std::string kernel(const KernelTable&) const override { return "copy"; }

 private:
  void describe(Program::Port* port) const {
    const int64_t channels = tensor_->channels;
    const Dtype dtype = tensor_->is_codes()                 ? Dtype::kUint8
                        : tensor_->values == Values::kInt32 ? Dtype::kInt32
                                                            : Dtype::kFloat32;
    *port = {tensor_->name, dtype, {channels}, "nf", tensor_->bits};
    if (tensor_->pixels() == 1) return;
    port->order = channels_last_ ? "nhwc" : "nchw";
    port->shape = tensor_->shape();
    if (!channels_last_) std::rotate(port->shape.begin(), port->shape.end() - 1, port->shape.end());
  }

  void run_row(const RunContext& context, int part, int64_t n, int64_t y) const {
    const Layout& layout = tensor_->layout;
    const int64_t size = tensor_->is_codes() ? 1 : 4;
    const int64_t channels = tensor_->channels, width = tensor_->width;
    const int64_t row_values = width * channels;
    const uint8_t* source = context.data(*tensor_) + layout.offset(n, y, 0);
    uint8_t* target = static_cast<uint8_t*>(context.outputs[index_]);
    target +=
        ((context.first + n) * tensor_->height * row_values + (channels_last_ ? y * row_values : y * width)) * size;
    if (layout.kind == Kind::kPlanes) {
      uint8_t* staged = channels_last_ ? target : context.scratch + part * row_values;
      source = read_codes(context.kernels->rows, layout, source, width, staged);
    }
    if (!channels_last_) {
      transpose(source, channels, target, tensor_->pixels(), width, channels, size);
    } else if (source != target) {
      std::memcpy(target, source, static_cast<size_t>(row_values * size));
    }
  }

  size_t index_;
  bool channels_last_ = true;
  const Tensor* tensor_ = nullptr;
};

}  // namespace

std::unique_ptr<Operation> make_output(const OperationReader& reader, size_t index, Program::Port* port) {
  return std::make_unique<Output>(reader, index, port);
}

}  // namespace bitorch
