#include "operations/output.h"

#include <algorithm>
#include <cstring>

#include "core/base/rows.h"
#include "core/base/transpose.h"
#include "core/graph/row_operation.h"
#include "operations/array_shape.h"

namespace bitorch {

namespace {

Port port_of(const Tensor& tensor, bool channels_last) {
  const Dtype dtype = tensor.is_codes()                 ? Dtype::kUint8
                      : tensor.values == Values::kInt32 ? Dtype::kInt32
                                                        : Dtype::kFloat32;
  if (tensor.pixels() == 1) return {tensor.name, dtype, {tensor.channels}, "nf", tensor.bits};
  std::vector<int64_t> shape = tensor.shape();
  if (channels_last) return {tensor.name, dtype, shape, "nhwc", tensor.bits};
  std::rotate(shape.begin(), shape.end() - 1, shape.end());
  return {tensor.name, dtype, shape, "nchw", tensor.bits};
}

}  // namespace

OutputSpec read_output(const OperationReader& reader) {
  OutputSpec spec;
  spec.input = reader.input("input", {Values::kFloat32, Values::kInt32, Values::kCodes});
  if (spec.input->pixels() > 1 || reader.has("order")) {
    spec.channels_last = reader.choice("order", {"nchw", "nhwc"}) == "nhwc";
  }
  Port port = port_of(*spec.input, spec.channels_last);
  read_array_shape(reader, &port);
  spec.index = reader.add_output("input", port);
  return spec;
}

namespace {

class Output : public RowOperation {
 public:
  explicit Output(const OutputSpec& spec)
      : RowOperation("an output", spec.input->height, {spec.input}, {}),
        index_(spec.index),
        tensor_(*spec.input),
        channels_last_(spec.channels_last || spec.input->channels == 1 || spec.input->pixels() == 1) {}

  void plan(const KernelTable&, Preparation&) override {
    if (tensor_.layout.kind != Kind::kPlanes || channels_last_) return;
    part_bytes_ = checked_mul(tensor_.width, tensor_.channels, what());
  }

  std::string kernel(const KernelTable&) const override { return "copy"; }

 private:
  double row_cost() const override { return row_values(tensor_) * (channels_last_ ? 0.1 : 0.5); }

  void run_row(const RunContext& context, uint8_t* scratch, int64_t n, int64_t y) const override {
    const Layout& layout = tensor_.layout;
    const int64_t size = tensor_.is_codes() ? 1 : 4;
    const int64_t channels = tensor_.channels, width = tensor_.width;
    const int64_t row_values = width * channels;
    const uint8_t* source = context.pixel(tensor_, n, y);
    uint8_t* target = static_cast<uint8_t*>(context.outputs[index_]);
    target +=
        ((context.first + n) * tensor_.height * row_values + (channels_last_ ? y * row_values : y * width)) * size;
    if (layout.kind == Kind::kPlanes) {
      source = read_codes(context.kernels->rows, layout, source, width, channels_last_ ? target : scratch);
    }
    if (!channels_last_) {
      transpose(source, channels, target, tensor_.pixels(), width, channels, size);
    } else if (source != target) {
      std::memcpy(target, source, static_cast<size_t>(row_values * size));
    }
  }

  size_t index_;
  const Tensor& tensor_;
  bool channels_last_;  // where both orders are the same, too
};

}  // namespace

std::unique_ptr<Operation> make_output(const OutputSpec& spec, Preparation&) { return std::make_unique<Output>(spec); }

}  // namespace bitorch
