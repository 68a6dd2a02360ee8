#include "operations/reshape.h"

#include <algorithm>
#include <cstring>

#include "core/graph/row_operation.h"
#include "operations/copy_pixels.h"

namespace bitorch {

ReshapeSpec read_reshape(const OperationReader& reader) {
  ReshapeSpec spec;
  spec.input = reader.input("input", {Values::kFloat32, Values::kCodes});
  const Tensor& input = *spec.input;
  const size_t rank = reader.count("shape");
  if (rank < 1 || rank > kMaxAxes) {
    reader.fail("shape", "must be [C, rows ...], up to " + std::to_string(kMaxAxes) + " dimensions, or [F]");
  }
  const std::vector<int64_t> shape = reader.integers("shape", rank, 1, kMaxChannels);
  const RowAxes axes = rank > 1 ? RowAxes(shape.begin() + 1, shape.end()) : RowAxes{1, 1};
  spec.output = reader.output("output", input.values, input.bits, axes, shape[0]);
  const int64_t numbers = checked_mul(input.pixels(), input.channels, "a reshape");
  if (checked_mul(spec.output->pixels(), spec.output->channels, "a reshape") != numbers) {
    reader.fail("shape", "must have as many numbers as the tensor, " + input.describe());
  }
  return spec;
}

namespace {

// Whole images: a row of one shape is pieces of rows of the other.
class Reshape : public RowOperation {
 public:
  explicit Reshape(const ReshapeSpec& spec)
      : RowOperation("a reshape", 1, {spec.input}, {spec.output}),
        input_(*spec.input),
        output_(*spec.output),
        numbers_(spec.input->pixels() * spec.input->channels),
        keeps_pixels_(spec.input->channels == spec.output->channels) {}

  // Pixels can be copied as they are.
  bool prefers_planes(const Tensor&, const KernelTable&) const override {
    return output_.layout.kind == Kind::kPlanes && keeps_pixels_;
  }

  // The numbers stay where they are, unless something around rows or within pixels is in between.
  const Tensor* overwrites(const Tensor&) const override { return &input_; }

  void plan(const KernelTable&, Preparation&) override {
    const bool has_planes = input_.layout.kind == Kind::kPlanes || output_.layout.kind == Kind::kPlanes;
    converts_ = has_planes && !keeps_pixels_;
    if (converts_) part_bytes_ = room(numbers_, 1);
  }

 private:
  double row_cost() const override { return static_cast<double>(numbers_) * (converts_ ? 0.5 : 0.1); }

  void run_row(const RunContext& context, uint8_t* scratch, int64_t n, int64_t) const override {
    if (context.data(input_) == context.data(output_)) return;
    if (converts_) {
      convert_image(context, scratch, n);
    } else {
      copy_image(context, n);
    }
  }

  // Runs of pixels, or of numbers where pixels have other channels, up to the next end of a row of either tensor.
  void copy_image(const RunContext& context, int64_t n) const {
    const Layout& from = input_.layout;
    const Layout& to = output_.layout;
    const int64_t unit = keeps_pixels_ ? from.pixel_bytes : (input_.is_codes() ? 1 : 4);
    const int64_t in_width = keeps_pixels_ ? from.width : from.width * from.channels;
    const int64_t out_width = keeps_pixels_ ? to.width : to.width * to.channels;
    const int64_t units = in_width * from.height;
    for (int64_t at = 0; at < units;) {
      const int64_t in_x = at % in_width, out_x = at % out_width;
      const int64_t run = std::min(in_width - in_x, out_width - out_x);
      const uint8_t* in = context.data(input_) + from.offset(n, at / in_width, 0) + in_x * unit;
      uint8_t* out = context.data(output_) + to.offset(n, at / out_width, 0);
      if (keeps_pixels_) {
        copy_pixels(context.kernels->rows, from, in, to, out + out_x * to.pixel_bytes, run);
      } else {
        std::memcpy(out + out_x * unit, in, static_cast<size_t>(run * unit));
      }
      at += run;
    }
  }

  // Codes by way of bytes without gaps.
  void convert_image(const RunContext& context, uint8_t* scratch, int64_t n) const {
    const RowFunctions& functions = context.kernels->rows;
    const Layout& from = input_.layout;
    const Layout& to = output_.layout;
    for (int64_t y = 0; y < from.height; ++y) {
      uint8_t* row = scratch + y * from.width * from.channels;
      const uint8_t* in = context.data(input_) + from.offset(n, y, 0);
      const uint8_t* codes = read_codes(functions, from, in, from.width, row);
      if (codes != row) std::memcpy(row, codes, static_cast<size_t>(from.width * from.channels));
    }
    for (int64_t y = 0; y < to.height; ++y) {
      uint8_t* out = context.data(output_) + to.offset(n, y, 0);
      write_codes(functions, to, out, to.width, scratch + y * to.width * to.channels);
    }
  }

  const Tensor& input_;
  const Tensor& output_;
  int64_t numbers_;
  bool keeps_pixels_;
  bool converts_ = false;  // by way of bytes without gaps
};

}  // namespace

std::unique_ptr<Operation> make_reshape(const ReshapeSpec& spec, Preparation&) {
  return std::make_unique<Reshape>(spec);
}

}  // namespace bitorch
