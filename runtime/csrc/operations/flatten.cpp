// flatten: an image becomes one feature vector, channels first or channels last.
#include <cstring>

#include "core/base/rows.h"
#include "core/base/transpose.h"
#include "operations/operations.h"

namespace bitorch {

namespace {

class Flatten : public Operation {
 public:
  explicit Flatten(const OperationReader& reader) : Operation(reader) {
    reader.allow({"input", "output", "order"});
    input_ = reader.input("input", {Values::kFloat32, Values::kCodes});
    inputs_ = {input_};
    channels_last_ = reader.choice("order", {"chw", "hwc"}) == "hwc" || input_->channels == 1 || input_->pixels() == 1;
    features_ = checked_mul(input_->pixels(), input_->channels, "a flatten");
    output_ = reader.output("output", input_->values, input_->bits, 1, 1, features_);
    outputs_ = {output_};
  }

  // Planes can be copied as they are where every row begins at a byte.
  bool prefers_planes(const Tensor&, const KernelTable&) const override {
    return output_->layout.kind == Kind::kPlanes && copies_planes();
  }

  void plan(const KernelTable&, Preparation&) override {
    const Kind from = input_->layout.kind, to = output_->layout.kind;
    copies_ = channels_last_ && from == to && (from != Kind::kPlanes || copies_planes());
    if (!copies_ && input_->is_codes()) part_bytes_ = round_up(checked_mul(features_, 2, "a flatten"), 64);
  }

  int64_t scratch_bytes(int64_t, int threads) const override { return checked_mul(part_bytes_, threads, "a flatten"); }

  void run(const RunContext& context) const override {
    zero_halo(output_->layout, context.data(*output_), context.batch);
    const double values = static_cast<double>(context.batch) * static_cast<double>(features_);
    for_rows(context.batch, values * (copies_ ? 0.1 : 0.6), context.threads,
             [&](int part, int64_t first, int64_t last) {
               for (int64_t n = first; n < last; ++n) {
                 if (copies_) {
                   copy_image(context, n);
                 } else if (input_->is_codes()) {
                   convert_image(context, context.scratch + part * part_bytes_, n);
                 } else {
                   transpose_image(context, n);
                 }
               }
             });
  }

 private:
  bool copies_planes() const { return channels_last_ && (input_->channels % 8 == 0 || input_->pixels() == 1); }

  void copy_image(const RunContext& context, int64_t n) const {
    const Layout& in = input_->layout;
    const Layout& out = output_->layout;
    const int64_t planes = in.kind == Kind::kPlanes ? in.bits : 1;
    const int64_t bytes = in.width * in.pixel_bytes;
    uint8_t* target = context.data(*output_) + out.offset(n, 0, 0);
    for (int64_t y = 0; y < in.height; ++y, target += bytes) {
      const uint8_t* row = context.data(*input_) + in.offset(n, y, 0);
      for (int64_t i = 0; i < planes; ++i) {
        std::memcpy(target + i * out.plane_bytes, row + i * in.plane_bytes, static_cast<size_t>(bytes));
      }
    }
  }

  void transpose_image(const RunContext& context, int64_t n) const {
    const Layout& in = input_->layout;
    uint8_t* target = context.data(*output_) + output_->layout.offset(n, 0, 0);
    for (int64_t y = 0; y < in.height; ++y) {
      const uint8_t* row = context.data(*input_) + in.offset(n, y, 0);
      transpose(row, in.channels, target + y * in.width * 4, input_->pixels(), in.width, in.channels, 4);
    }
  }

  void convert_image(const RunContext& context, uint8_t* scratch, int64_t n) const {
    const RowFunctions& rows = context.kernels->rows;
    const Layout& in = input_->layout;
    const Layout& out = output_->layout;
    uint8_t* target = context.data(*output_) + out.offset(n, 0, 0);
    uint8_t* features = out.kind == Kind::kBytes ? target : scratch;
    uint8_t* unpacked = scratch + features_;
    const int64_t row_codes = in.width * in.channels;
    for (int64_t y = 0; y < in.height; ++y) {
      const uint8_t* row = context.data(*input_) + in.offset(n, y, 0);
      const uint8_t* codes = read_codes(rows, in, row, in.width, unpacked);
      if (channels_last_) {
        std::memcpy(features + y * row_codes, codes, static_cast<size_t>(row_codes));
      } else {
        transpose_bytes(codes, in.channels, features + y * in.width, input_->pixels(), in.width, in.channels);
      }
    }
    write_codes(rows, out, target, 1, features);
  }

  const Tensor* input_ = nullptr;
  const Tensor* output_ = nullptr;
  bool channels_last_ = true, copies_ = false;
  int64_t features_ = 0, part_bytes_ = 0;
};

}  // namespace

std::unique_ptr<Operation> make_flatten(const OperationReader& reader) { return std::make_unique<Flatten>(reader); }

}  // namespace bitorch
