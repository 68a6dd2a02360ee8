// concat: tensors side by side along the channels.
#include <cstring>

#include "core/base/rows.h"
#include "operations/operations.h"

namespace bitorch {

namespace {

// Pixels of `bytes` bytes, from one stride to another.
void copy_pixels(uint8_t* out, int64_t out_step, const uint8_t* in, int64_t in_step, int64_t pixels, int64_t bytes) {
  for (int64_t x = 0; x < pixels; ++x) std::memcpy(out + x * out_step, in + x * in_step, static_cast<size_t>(bytes));
}

class Concat : public Operation {
 public:
  explicit Concat(const OperationReader& reader) : Operation(reader) {
    reader.allow({"inputs", "output", "axis"});
    const std::vector<std::string> names = reader.names("inputs");
    int64_t channels = 0;
    for (const std::string& name : names) {
      const Tensor* input = reader.input_named("inputs", name, {Values::kFloat32, Values::kCodes});
      const Tensor* first = inputs_.empty() ? input : inputs_[0];
      if (input->values != first->values || input->bits != first->bits || !input->same_rows(*first)) {
        reader.fail("inputs", "\"" + name + "\" is " + input->describe() + ", but \"" + first->name + "\" is " +
                                  first->describe() + "; all axes of rows, and the kind of values must be equal");
      }
      inputs_.push_back(input);
      channels = checked_add(channels, input->channels, "the channels of a concat");
    }
    const Tensor* first = inputs_[0];
    output_ = reader.output("output", first->values, first->bits, first->axes, channels);
    outputs_ = {output_};
    for (size_t i = 0; i + 1 < inputs_.size(); ++i) whole_bytes_ = whole_bytes_ && inputs_[i]->channels % 8 == 0;
  }

  bool reads_planes(const Tensor&, const KernelTable&) const override { return whole_bytes_; }
  bool writes_planes(const Tensor&) const override { return whole_bytes_; }
  bool prefers_planes(const Tensor&, const KernelTable&) const override {
    return output_->layout.kind == Kind::kPlanes;
  }

  void plan(const KernelTable&, Preparation&) override {
    for (const Tensor* input : inputs_) {
      same_kind_ = same_kind_ && input->layout.kind == output_->layout.kind;
      widest_ = std::max(widest_, input->channels);
    }
    if (same_kind_) return;
    row_bytes_ = round_up(checked_mul(output_->width, output_->channels, "a concat"), 64);
    part_bytes_ = checked_add(row_bytes_, round_up(checked_mul(output_->width, widest_, "a concat"), 64), "a concat");
  }

  int64_t scratch_bytes(int64_t, int threads) const override { return checked_mul(part_bytes_, threads, "a concat"); }

  void run(const RunContext& context) const override {
    zero_halo(output_->layout, context.data(*output_), context.batch);
    const double bytes = static_cast<double>(context.batch * output_->height) *
                         static_cast<double>(output_->width * output_->layout.pixel_bytes);
    for_rows(context.batch * output_->height, bytes * (same_kind_ ? 0.15 : 0.5), context.threads,
             [&](int part, int64_t first, int64_t last) {
               for (int64_t row = first; row < last; ++row) {
                 const int64_t n = row / output_->height, y = row % output_->height;
                 if (same_kind_) {
                   copy_row(context, n, y);
                 } else {
                   convert_row(context, context.scratch + part * part_bytes_, n, y);
                 }
               }
             });
  }

 private:
  void copy_row(const RunContext& context, int64_t n, int64_t y) const {
    const Layout& layout = output_->layout;
    uint8_t* out = context.data(*output_) + layout.offset(n, y, 0);
    const int64_t planes = layout.kind == Kind::kPlanes ? layout.bits : 1;
    for (const Tensor* input : inputs_) {
      const Layout& from = input->layout;
      const uint8_t* in = context.data(*input) + from.offset(n, y, 0);
      for (int64_t i = 0; i < planes; ++i) {
        copy_pixels(out + i * layout.plane_bytes, layout.pixel_bytes, in + i * from.plane_bytes, from.pixel_bytes,
                    layout.width, from.pixel_bytes);
      }
      out += from.pixel_bytes;
    }
  }

  // Some in bytes, some in planes: the row is put together in bytes.
  void convert_row(const RunContext& context, uint8_t* scratch, int64_t n, int64_t y) const {
    const RowFunctions& rows = context.kernels->rows;
    const Layout& layout = output_->layout;
    uint8_t* out = context.data(*output_) + layout.offset(n, y, 0);
    uint8_t* row = layout.kind == Kind::kBytes ? out : scratch;
    int64_t channel = 0;
    for (const Tensor* input : inputs_) {
      const uint8_t* in = context.data(*input) + input->layout.offset(n, y, 0);
      const uint8_t* codes = read_codes(rows, input->layout, in, layout.width, scratch + row_bytes_);
      copy_pixels(row + channel, layout.channels, codes, input->channels, layout.width, input->channels);
      channel += input->channels;
    }
    write_codes(rows, layout, out, layout.width, row);
  }

  const Tensor* output_ = nullptr;
  bool whole_bytes_ = true;  // every input but the last ends at a byte of a bit plane
  bool same_kind_ = true;
  int64_t widest_ = 0, row_bytes_ = 0, part_bytes_ = 0;
};

}  // namespace

std::unique_ptr<Operation> make_concat(const OperationReader& reader) {
  const bool of_rows = reader.has("axis") && reader.integer("axis", -static_cast<int64_t>(kMaxAxes) + 1, 0) != 0;
  if (of_rows) return make_concat_rows(reader);
  return std::make_unique<Concat>(reader);
}

}  // namespace bitorch
