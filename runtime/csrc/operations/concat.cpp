#include "operations/concat.h"

#include <algorithm>
#include <cstring>

#include "core/base/rows.h"
#include "core/graph/row_operation.h"
#include "operations/concat_rows.h"

namespace bitorch {

ConcatSpec read_concat(const OperationReader& reader) {
  const bool of_rows = reader.has("axis") && reader.integer("axis", -static_cast<int64_t>(kMaxAxes) + 1, 0) != 0;
  if (of_rows) return read_concat_rows(reader);
  ConcatSpec spec;
  int64_t channels = 0;
  for (const std::string& name : reader.names("inputs")) {
    const Tensor* input = reader.input_named("inputs", name, {Values::kFloat32, Values::kCodes});
    const Tensor* first = spec.inputs.empty() ? input : spec.inputs[0];
    if (input->values != first->values || input->bits != first->bits || !input->same_rows(*first)) {
      reader.fail("inputs", "\"" + name + "\" is " + input->describe() + ", but \"" + first->name + "\" is " +
                                first->describe() + "; all axes of rows, and the kind of values must be equal");
    }
    spec.inputs.push_back(input);
    channels = checked_add(channels, input->channels, "the channels of a concat");
  }
  const Tensor& first = *spec.inputs[0];
  spec.output = reader.output("output", first.values, first.bits, first.axes, channels);
  return spec;
}

namespace {

// Pixels of `bytes` bytes, from one stride to another.
void copy_pixels(uint8_t* out, int64_t out_step, const uint8_t* in, int64_t in_step, int64_t pixels, int64_t bytes) {
  for (int64_t x = 0; x < pixels; ++x) std::memcpy(out + x * out_step, in + x * in_step, static_cast<size_t>(bytes));
}

class Concat : public RowOperation {
 public:
  explicit Concat(const ConcatSpec& spec)
      : RowOperation("a concat", spec.output->height, spec.inputs, {spec.output}), output_(*spec.output) {
    for (size_t i = 0; i + 1 < inputs().size(); ++i) whole_bytes_ = whole_bytes_ && inputs()[i]->channels % 8 == 0;
  }

  bool reads_planes(const Tensor&, const KernelTable&) const override { return whole_bytes_; }
  bool writes_planes(const Tensor&) const override { return whole_bytes_; }
  bool prefers_planes(const Tensor&, const KernelTable&) const override { return output_.layout.kind == Kind::kPlanes; }

  bool reads_part(const Tensor&) const override { return same_kinds(); }
  bool writes_part(const Tensor&) const override { return same_kinds(); }
  bool joins_channels() const override { return same_kinds(); }

  void plan(const KernelTable&, Preparation&) override {
    int64_t widest = 0, channel = 0;
    same_kind_ = same_kinds();
    for (const Tensor* input : inputs()) {
      widest = std::max(widest, input->channels);
      in_place_ = in_place_ && lies_in_place(*input, channel);
      channel += input->channels;
    }
    if (same_kind_) return;
    row_bytes_ = room(output_.width, output_.channels);
    part_bytes_ = checked_add(row_bytes_, room(output_.width, widest), what());
  }

  std::string kernel(const KernelTable& kernels) const override {
    return in_place_ ? "in place" : RowOperation::kernel(kernels);
  }

 private:
  bool reads_by_rows() const override { return true; }
  bool same_kinds() const {
    return std::all_of(inputs().begin(), inputs().end(),
                       [&](const Tensor* input) { return input->layout.kind == output_.layout.kind; });
  }

  // Whether the output's channels from this one on are the input, as the memory is planned.
  bool lies_in_place(const Tensor& input, int64_t channel) const {
    return input.whole != nullptr && input.whole == output_.whole &&
           input.layout.first_byte == output_.layout.part(channel, input.channels).first_byte;
  }

  double row_cost() const override {
    if (in_place_) return 0.0;
    return static_cast<double>(output_.width * output_.layout.pixel_bytes) * (same_kind_ ? 0.15 : 0.5);
  }

  void run_row(const RunContext& context, uint8_t* scratch, int64_t n, int64_t y) const override {
    if (in_place_) return;
    if (same_kind_) {
      copy_row(context, n, y);
    } else {
      convert_row(context, scratch, n, y);
    }
  }

  void copy_row(const RunContext& context, int64_t n, int64_t y) const {
    const Layout& layout = output_.layout;
    uint8_t* out = context.pixel(output_, n, y);
    const int64_t planes = layout.kind == Kind::kPlanes ? layout.bits : 1;
    for (const Tensor* input : inputs()) {
      const Layout& from = input->layout;
      const uint8_t* in = context.pixel(*input, n, y);
      const int64_t bytes = from.channel_bytes();
      if (in != out) {
        for (int64_t i = 0; i < planes; ++i) {
          copy_pixels(out + i * layout.plane_bytes, layout.pixel_bytes, in + i * from.plane_bytes, from.pixel_bytes,
                      layout.width, bytes);
        }
      }
      out += bytes;
    }
  }

  // Some in bytes, some in planes: the row is put together in bytes.
  void convert_row(const RunContext& context, uint8_t* scratch, int64_t n, int64_t y) const {
    const RowFunctions& rows = context.kernels->rows;
    const Layout& layout = output_.layout;
    uint8_t* out = context.pixel(output_, n, y);
    uint8_t* row = layout.kind == Kind::kBytes ? out : scratch;
    int64_t channel = 0;
    for (const Tensor* input : inputs()) {
      const uint8_t* in = context.pixel(*input, n, y);
      const uint8_t* codes = read_codes(rows, input->layout, in, layout.width, scratch + row_bytes_);
      copy_pixels(row + channel, layout.channels, codes, input->channels, layout.width, input->channels);
      channel += input->channels;
    }
    write_codes(rows, layout, out, layout.width, row);
  }

  const Tensor& output_;
  bool whole_bytes_ = true;  // every input but the last ends at a byte of a bit plane
  bool same_kind_ = true;
  bool in_place_ = true;  // the memory plan has left nothing to do
  int64_t row_bytes_ = 0;
};

}  // namespace

std::unique_ptr<Operation> make_concat(const ConcatSpec& spec, Preparation&) {
  if (spec.of_rows) return make_concat_rows(spec);
  return std::make_unique<Concat>(spec);
}

}  // namespace bitorch
