#include "operations/pad.h"

#include <algorithm>
#include <cstring>
#include <utility>

#include "core/base/rows.h"
#include "core/graph/row_operation.h"
#include "operations/window_keys.h"

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

// Along one axis, `pixels` long; which: "height" or "width".
void check_room(const OperationReader& reader, const PadSpec& spec, int64_t before, int64_t after, int64_t pixels,
                const std::string& which) {
  const int64_t most = std::max(before, after);
  const std::string size = "the " + which + " of \"" + spec.input->name + "\", " + std::to_string(pixels);
  if (spec.mode == PadMode::kReflect && most >= pixels) {
    reader.fail("padding", "must be smaller than " + size + ", to reflect it: the border itself is not repeated");
  }
  if (spec.mode == PadMode::kCircular && most > pixels) {
    reader.fail("padding", "must not be larger than " + size + ", to go around it once at most");
  }
}

// [top, left, bottom, right]. Of more than two axes of rows there is nothing to pad but channels.
std::vector<int64_t> read_padding(const OperationReader& reader, const Tensor& input) {
  const size_t axes = reader.count("padding") == 2 ? 1 : 2;
  const auto padding = read_borders(reader, "padding", axes);
  const bool pads = std::any_of(padding.begin(), padding.end(), [](int64_t width) { return width > 0; });
  if (pads && as_axes(input.axes, axes).empty()) {
    reader.fail("padding", "must have two numbers for each axis of rows: the tensor is " + input.describe());
  }
  return padding;
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
  const auto padding = read_padding(reader, input);
  spec.top = padding[0];
  spec.left = padding[1];
  spec.bottom = padding[2];
  spec.right = padding[3];
  check_room(reader, spec, spec.top, spec.bottom, input.height, "height");
  check_room(reader, spec, spec.left, spec.right, input.width, "width");
  const auto channels = reader.integers("channels", 2, 0, kMaxChannels, 0);
  spec.channels_before = channels[0];
  spec.channels_after = channels[1];
  read_value(reader, &spec);
  RowAxes axes = input.axes;
  if (spec.top + spec.bottom > 0) axes = {spec.top + input.height + spec.bottom, input.width};
  axes.back() = spec.left + input.width + spec.right;
  spec.output = reader.output("output", input.values, input.bits, axes, input.channels + channels[0] + channels[1]);
  return spec;
}

namespace {

// Along one axis.
struct PadAxis {
  int64_t size = 1, before = 0, after = 0;

  int64_t padded() const { return size + before + after; }
  // Which of 0 .. size-1 is repeated at output o; -1: none, a constant stands there.
  int64_t source(int64_t o, PadMode mode) const {
    const int64_t i = o - before;
    if (i >= 0 && i < size) return i;
    switch (mode) {
      case PadMode::kReflect:
        return i < 0 ? -i : 2 * (size - 1) - i;
      case PadMode::kReplicate:
        return i < 0 ? 0 : size - 1;
      case PadMode::kCircular:
        return i < 0 ? i + size : i - size;
      default:
        return -1;
    }
  }
};

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
        y_{spec.input->height, spec.top, spec.bottom},
        x_{spec.input->width, spec.left, spec.right},
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

  void run_row(const RunContext& context, uint8_t* scratch, int64_t n, int64_t oy) const override {
    const RowFunctions& rows = context.kernels->rows;
    const Layout& from = input_.layout;
    const Layout& to = output_.layout;
    const int64_t y = y_.source(oy, spec_.mode);
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
  PadAxis y_, x_;
  bool pads_channels_;
  bool copies_ = true;  // whole pixels, in the layout that both have
  int64_t planes_ = 1, pixel_bytes_ = 0, codes_bytes_ = 0;
  std::shared_ptr<const ConstantPixel> constant_;  // null where the mode is another
};

}  // namespace

std::unique_ptr<Operation> make_pad(const PadSpec& spec, Preparation&) { return std::make_unique<Pad>(spec); }

}  // namespace bitorch
