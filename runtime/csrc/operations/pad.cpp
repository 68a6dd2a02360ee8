#include "operations/pad.h"

#include <algorithm>
#include <cstring>
#include <utility>

#include "core/base/rows.h"
#include "core/graph/row_operation.h"

namespace bitorch {

namespace {

PadMode read_mode(const OperationReader& reader) {
  const std::string mode = reader.choice("mode", {"constant", "reflect", "replicate", "circular"});
  if (mode == "constant") return PadMode::kConstant;
  for (const char* key : {"value", "channels"}) {
    if (reader.has(key)) reader.fail(key, "has a meaning only with \"mode\": \"constant\"");
  }
  if (mode == "reflect") return PadMode::kReflect;
  return mode == "replicate" ? PadMode::kReplicate : PadMode::kCircular;
}

// Of the i-th axis.
void check_room(const OperationReader& reader, const PadSpec& spec, size_t i) {
  const PadAxis& axis = spec.axes[i];
  constexpr const char* kNames[] = {"width", "height", "depth"};
  const size_t from_last = spec.axes.size() - 1 - i;
  const std::string which = from_last < 3 ? kNames[from_last] : "axis " + std::to_string(i);
  const int64_t most = std::max(axis.before, axis.after);
  const std::string size = "the " + which + " of \"" + spec.input->name + "\", " + std::to_string(axis.size);
  if (spec.mode == PadMode::kReflect && most >= axis.size) {
    reader.fail("padding", "must be smaller than " + size + ", to reflect it: the border itself is not repeated");
  }
  if (spec.mode == PadMode::kCircular && most > axis.size) {
    reader.fail("padding", "must not be larger than " + size + ", to go around it once at most");
  }
}

// Before each axis of rows, then after each. Where only channels are padded there may be fewer.
std::vector<PadAxis> read_axes(const OperationReader& reader, const Tensor& input) {
  const size_t numbers = reader.count("padding"), count = numbers / 2;
  if (numbers % 2 != 0 || count < 1 || count > kMaxArrayRank - 1) {
    reader.fail("padding", "must have two numbers for each axis of rows: the tensor is " + input.describe());
  }
  const auto padding = reader.integers("padding", numbers, 0, kMaxExtent);
  const bool pads = std::any_of(padding.begin(), padding.end(), [](int64_t width) { return width > 0; });
  const RowAxes sizes = as_axes(input.axes, pads ? count : input.axes.size());
  if (sizes.empty()) {
    reader.fail("padding", "must have two numbers for each axis of rows: the tensor is " + input.describe());
  }
  std::vector<PadAxis> axes;
  for (size_t i = 0; i < sizes.size(); ++i) {
    axes.push_back({sizes[i], pads ? padding[i] : 0, pads ? padding[count + i] : 0});
  }
  return axes;
}

void read_value(const OperationReader& reader, PadSpec* spec) {
  if (!reader.has("value")) return;
  if (spec->input->is_codes()) {
    spec->code = static_cast<uint8_t>(reader.integer("value", 0, (1 << spec->input->bits) - 1));
  } else {
    spec->number = reader.number("value");
  }
}

}  // namespace

PadSpec read_pad(const OperationReader& reader) {
  PadSpec spec;
  spec.input = reader.input("input", {Values::kFloat32, Values::kCodes});
  const Tensor& input = *spec.input;
  spec.mode = read_mode(reader);
  spec.axes = read_axes(reader, input);
  for (size_t i = 0; i < spec.axes.size(); ++i) check_room(reader, spec, i);
  const auto channels = reader.integers("channels", 2, 0, kMaxChannels, 0);
  spec.channels_before = channels[0];
  spec.channels_after = channels[1];
  read_value(reader, &spec);
  RowAxes axes;
  for (const PadAxis& axis : spec.axes) axes.push_back(axis.padded());
  spec.output = reader.output("output", input.values, input.bits, axes, input.channels + channels[0] + channels[1]);
  return spec;
}

namespace {

struct ConstantPixel {
  AlignedArray<uint8_t> bytes;
};

uint32_t bits_of(float number) {
  uint32_t bits;
  std::memcpy(&bits, &number, sizeof(bits));
  return bits;
}

class Pad : public RowOperation {
 public:
  explicit Pad(const PadSpec& spec)
      : RowOperation("a pad", spec.output->height, {spec.input}, {spec.output}),
        spec_(spec),
        input_(*spec.input),
        output_(*spec.output),
        x_(spec.axes.back()),
        pads_channels_(spec.channels_before + spec.channels_after > 0) {}

  bool prefers_planes(const Tensor&, const KernelTable&) const override {
    return output_.layout.kind == Kind::kPlanes && !pads_channels_;
  }

  void plan(const KernelTable&, Preparation& preparation) override {
    copies_ = !pads_channels_ && input_.layout.kind == output_.layout.kind;
    const bool planes = copies_ && input_.layout.kind == Kind::kPlanes;
    planes_ = planes ? input_.bits : 1;
    const int64_t channels = output_.channels;
    pixel_bytes_ = planes ? output_.layout.pixel_bytes : checked_mul(channels, input_.is_codes() ? 1 : 4, what());
    if (spec_.mode == PadMode::kConstant) {
      const int64_t value = input_.is_codes() ? spec_.code : static_cast<int64_t>(bits_of(spec_.number));
      constant_ = preparation.share<ConstantPixel>({input_.is_codes(), planes, planes_, channels, value},
                                                   [&] { return constant_pixel(preparation.budget(), planes); });
    }
    if (copies_ || !input_.is_codes()) return;
    codes_bytes_ = room(input_.width, input_.channels);
    part_bytes_ = checked_add(codes_bytes_, room(output_.width, output_.channels), what());
  }

 private:
  double row_cost() const override {
    return static_cast<double>(output_.width * output_.layout.pixel_bytes) * (copies_ ? 0.15 : 0.5);
  }

  // One pixel of the output in its layout, or in bytes where it is converted; plane after plane.
  ConstantPixel constant_pixel(Budget& budget, bool planes) const {
    const int64_t channels = output_.channels;
    AlignedArray<uint8_t> pixel(budget, checked_mul(pixel_bytes_, planes_, what()), "a constant pixel");
    if (!input_.is_codes()) {
      for (int64_t c = 0; c < channels; ++c) std::memcpy(&pixel[c * 4], &spec_.number, 4);
    } else if (planes) {
      for (int64_t i = 0; i < planes_; ++i) {
        for (int64_t c = 0; (spec_.code >> i & 1) != 0 && c < channels; ++c) {
          uint8_t& byte = pixel[i * pixel_bytes_ + c / 8];
          byte = static_cast<uint8_t>(byte | 1 << c % 8);
        }
      }
    } else {
      std::fill(pixel.begin(), pixel.end(), spec_.code);
    }
    return {std::move(pixel)};
  }

  // Of plane i; null where the mode is another.
  const uint8_t* constant(int64_t i) const {
    return constant_ == nullptr ? nullptr : constant_->bytes.data() + i * pixel_bytes_;
  }

  // Which row of the input is at row r of the output, of all axes but the last one together; -1: constants.
  int64_t source_row(int64_t r) const {
    int64_t row = 0, rows = 1;
    for (size_t i = spec_.axes.size() - 1; i-- > 0;) {
      const PadAxis& axis = spec_.axes[i];
      const int64_t source = axis.source(r % axis.padded(), spec_.mode);
      if (source < 0) return -1;
      row += source * rows;
      rows *= axis.size;
      r /= axis.padded();
    }
    return row;
  }

  void run_row(const RunContext& context, uint8_t* scratch, int64_t n, int64_t oy) const override {
    const RowFunctions& rows = context.kernels->rows;
    const Layout& from = input_.layout;
    const Layout& to = output_.layout;
    const int64_t y = source_row(oy);
    const uint8_t* in = y < 0 ? nullptr : context.pixel(input_, n, y);
    uint8_t* out = context.pixel(output_, n, oy);
    if (copies_) {
      for (int64_t i = 0; i < planes_; ++i) {
        pad_row(out + i * to.plane_bytes, y < 0 ? nullptr : in + i * from.plane_bytes, constant(i));
      }
    } else if (!input_.is_codes()) {
      pad_pixels(out, in, 4);
    } else {
      const uint8_t* codes = y < 0 ? nullptr : read_codes(rows, from, in, from.width, scratch);
      uint8_t* row = to.kind == Kind::kBytes ? out : scratch + codes_bytes_;
      pad_pixels(row, codes, 1);
      write_codes(rows, to, out, to.width, row);
    }
  }

  // A row of pixels of pixel_bytes_, on both sides; in: null for a row of constants.
  void pad_row(uint8_t* out, const uint8_t* in, const uint8_t* constant) const {
    const int64_t bytes = pixel_bytes_;
    if (in == nullptr) return repeat(out, constant, x_.padded());
    if (spec_.mode == PadMode::kConstant) {
      repeat(out, constant, x_.before);
      repeat(out + (x_.before + x_.size) * bytes, constant, x_.after);
    } else {
      for (int64_t x = 0; x < x_.before; ++x) copy_pixel(out, x, in);
      for (int64_t x = x_.before + x_.size; x < x_.padded(); ++x) copy_pixel(out, x, in);
    }
    std::memcpy(out + x_.before * bytes, in, static_cast<size_t>(x_.size * bytes));
  }

  void copy_pixel(uint8_t* out, int64_t x, const uint8_t* in) const {
    const auto bytes = static_cast<size_t>(pixel_bytes_);
    std::memcpy(out + x * pixel_bytes_, in + x_.source(x, spec_.mode) * pixel_bytes_, bytes);
  }

  void repeat(uint8_t* out, const uint8_t* pixel, int64_t count) const {
    for (int64_t i = 0; i < count; ++i) std::memcpy(out + i * pixel_bytes_, pixel, static_cast<size_t>(pixel_bytes_));
  }

  // The same where the channels are padded too, or codes converted: `size` bytes per channel.
  void pad_pixels(uint8_t* out, const uint8_t* in, int64_t size) const {
    if (!pads_channels_) return pad_row(out, in, constant(0));
    const int64_t in_bytes = input_.channels * size, before = spec_.channels_before * size;
    for (int64_t x = 0; x < output_.width; ++x, out += pixel_bytes_) {
      std::memcpy(out, constant(0), static_cast<size_t>(pixel_bytes_));
      const int64_t from = x_.source(x, spec_.mode);
      if (in != nullptr && from >= 0) std::memcpy(out + before, in + from * in_bytes, static_cast<size_t>(in_bytes));
    }
  }

  PadSpec spec_;
  const Tensor& input_;
  const Tensor& output_;
  PadAxis x_;
  bool pads_channels_;
  bool copies_ = true;  // whole pixels, in the layout that both have
  int64_t planes_ = 1, pixel_bytes_ = 0, codes_bytes_ = 0;
  std::shared_ptr<const ConstantPixel> constant_;  // null where the mode is another
};

}  // namespace

std::unique_ptr<Operation> make_pad(const PadSpec& spec, Preparation&) { return std::make_unique<Pad>(spec); }

}  // namespace bitorch
