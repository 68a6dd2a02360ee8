#include "operations/flatten.h"

#include <cstring>

#include "core/base/rows.h"
#include "core/base/transpose.h"
#include "core/graph/row_operation.h"

namespace bitorch {

FlattenSpec read_flatten(const OperationReader& reader) {
  FlattenSpec spec;
  spec.input = reader.input("input", {Values::kFloat32, Values::kCodes});
  spec.channels_last = reader.choice("order", {"chw", "hwc"}) == "hwc";
  const Tensor& input = *spec.input;
  const int64_t features = checked_mul(input.pixels(), input.channels, "a flatten");
  spec.output = reader.output("output", input.values, input.bits, {1, 1}, features);
  return spec;
}

namespace {

class Flatten : public RowOperation {
 public:
  explicit Flatten(const FlattenSpec& spec)
      : RowOperation("a flatten", 1, {spec.input}, {spec.output}),
        input_(*spec.input),
        output_(*spec.output),
        channels_last_(spec.channels_last || spec.input->channels == 1 || spec.input->pixels() == 1) {}

  // Planes can be copied as they are where every row begins at a byte.
  bool prefers_planes(const Tensor&, const KernelTable&) const override {
    return output_.layout.kind == Kind::kPlanes && copies_planes();
  }

  void plan(const KernelTable&, Preparation&) override {
    const Kind from = input_.layout.kind, to = output_.layout.kind;
    copies_ = channels_last_ && from == to && (from != Kind::kPlanes || copies_planes());
    if (!copies_ && input_.is_codes()) part_bytes_ = room(features(), 2);
  }

 private:
  int64_t features() const { return output_.channels; }
  bool copies_planes() const { return channels_last_ && (input_.channels % 8 == 0 || input_.pixels() == 1); }

  double row_cost() const override { return static_cast<double>(features()) * (copies_ ? 0.1 : 0.6); }

  void run_row(const RunContext& context, uint8_t* scratch, int64_t n, int64_t) const override {
    if (copies_) {
      copy_image(context, n);
    } else if (input_.is_codes()) {
      convert_image(context, scratch, n);
    } else {
      transpose_image(context, n);
    }
  }

  void copy_image(const RunContext& context, int64_t n) const {
    const Layout& in = input_.layout;
    const Layout& out = output_.layout;
    const int64_t planes = in.kind == Kind::kPlanes ? in.bits : 1;
    const int64_t bytes = in.width * in.pixel_bytes;
    uint8_t* target = context.pixel(output_, n, 0);
    for (int64_t y = 0; y < in.height; ++y, target += bytes) {
      const uint8_t* row = context.pixel(input_, n, y);
      for (int64_t i = 0; i < planes; ++i) {
        std::memcpy(target + i * out.plane_bytes, row + i * in.plane_bytes, static_cast<size_t>(bytes));
      }
    }
  }

  void transpose_image(const RunContext& context, int64_t n) const {
    const Layout& in = input_.layout;
    uint8_t* target = context.pixel(output_, n, 0);
    for (int64_t y = 0; y < in.height; ++y) {
      const uint8_t* row = context.pixel(input_, n, y);
      transpose(row, in.channels, target + y * in.width * 4, input_.pixels(), in.width, in.channels, 4);
    }
  }

  void convert_image(const RunContext& context, uint8_t* scratch, int64_t n) const {
    const RowFunctions& rows = context.kernels->rows;
    const Layout& in = input_.layout;
    const Layout& out = output_.layout;
    uint8_t* target = context.pixel(output_, n, 0);
    uint8_t* vector = out.kind == Kind::kBytes ? target : scratch;
    uint8_t* unpacked = scratch + features();
    const int64_t row_codes = in.width * in.channels;
    for (int64_t y = 0; y < in.height; ++y) {
      const uint8_t* row = context.pixel(input_, n, y);
      const uint8_t* codes = read_codes(rows, in, row, in.width, unpacked);
      if (channels_last_) {
        std::memcpy(vector + y * row_codes, codes, static_cast<size_t>(row_codes));
      } else {
        transpose_bytes(codes, in.channels, vector + y * in.width, input_.pixels(), in.width, in.channels);
      }
    }
    write_codes(rows, out, target, 1, vector);
  }

  const Tensor& input_;
  const Tensor& output_;
  bool channels_last_;   // where both orders are the same, too
  bool copies_ = false;  // bytes as they are
};

}  // namespace

std::unique_ptr<Operation> make_flatten(const FlattenSpec& spec, Preparation&) {
  return std::make_unique<Flatten>(spec);
}

}  // namespace bitorch
