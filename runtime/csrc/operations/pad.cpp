// pad: pixels around an image, constant or taken from it, and constant channels.
#include <algorithm>
#include <cstring>

#include "core/base/rows.h"
#include "operations/operations.h"
#include "operations/pool_window.h"

namespace bitorch {

namespace {

enum class PadMode { kConstant, kReflect, kReplicate, kCircular };

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

class Pad : public Operation {
 public:
  explicit Pad(const OperationReader& reader) : Operation(reader) {
    reader.allow({"input", "output", "padding", "mode", "value", "channels"});
    input_ = reader.input("input", {Values::kFloat32, Values::kCodes});
    inputs_ = {input_};
    read_mode(reader);
    const auto padding = read_padding(reader);
    y_ = {input_->height, padding[0], padding[2]};
    x_ = {input_->width, padding[1], padding[3]};
    check_room(reader, y_, "height");
    check_room(reader, x_, "width");
    const auto channels = reader.integers("channels", 2, 0, kMaxChannels, 0);
    channels_before_ = channels[0];
    pads_channels_ = channels[0] + channels[1] > 0;
    read_value(reader);
    RowAxes axes = input_->axes;
    if (y_.padded() != y_.size) axes = {y_.padded(), x_.size};
    axes.back() = x_.padded();
    output_ = reader.output("output", input_->values, input_->bits, axes, input_->channels + channels[0] + channels[1]);
    outputs_ = {output_};
  }

  bool prefers_planes(const Tensor&, const KernelTable&) const override {
    return output_->layout.kind == Kind::kPlanes && !pads_channels_;
  }

  void plan(const KernelTable&, Preparation& preparation) override {
    copies_ = !pads_channels_ && input_->layout.kind == output_->layout.kind;
    planes_ = copies_ && input_->layout.kind == Kind::kPlanes ? input_->bits : 1;
    const bool planes = copies_ && input_->layout.kind == Kind::kPlanes;
    const int64_t channels = output_->channels;
    pixel_bytes_ = planes ? output_->layout.pixel_bytes : checked_mul(channels, input_->is_codes() ? 1 : 4, "a pad");
    if (mode_ == PadMode::kConstant) {
      const int64_t value = input_->is_codes() ? code_ : static_cast<int64_t>(bits_of(number_));
      constant_ = preparation.share<ConstantPixel>({input_->is_codes(), planes, planes_, channels, value},
                                                   [&] { return constant_pixel(preparation.budget(), planes); });
    }
    if (copies_ || !input_->is_codes()) return;
    codes_bytes_ = round_up(checked_mul(input_->width, input_->channels, "a pad"), 64);
    part_bytes_ =
        checked_add(codes_bytes_, round_up(checked_mul(output_->width, output_->channels, "a pad"), 64), "a pad");
  }

  int64_t scratch_bytes(int64_t, int threads) const override { return checked_mul(part_bytes_, threads, "a pad"); }

  void run(const RunContext& context) const override {
    zero_halo(output_->layout, context.data(*output_), context.batch);
    const double bytes = static_cast<double>(context.batch * output_->height) *
                         static_cast<double>(output_->width * output_->layout.pixel_bytes);
    for_rows(context.batch * output_->height, bytes * (copies_ ? 0.15 : 0.5), context.threads,
             [&](int part, int64_t first, int64_t last) {
               for (int64_t row = first; row < last; ++row) {
                 run_row(context, context.scratch + part * part_bytes_, row / output_->height, row % output_->height);
               }
             });
  }

 private:
  // [top, left, bottom, right]. Of more than two axes of rows there is nothing to pad but channels.
  std::vector<int64_t> read_padding(const OperationReader& reader) const {
    const size_t axes = reader.count("padding") == 2 ? 1 : 2;
    const auto padding = read_borders(reader, "padding", axes);
    const bool pads = std::any_of(padding.begin(), padding.end(), [](int64_t width) { return width > 0; });
    if (pads && as_axes(input_->axes, axes).empty()) {
      reader.fail("padding", "must have two numbers for each axis of rows: the tensor is " + input_->describe());
    }
    return padding;
  }

  void read_mode(const OperationReader& reader) {
    const std::string mode = reader.choice("mode", {"constant", "reflect", "replicate", "circular"});
    mode_ = mode == "reflect"     ? PadMode::kReflect
            : mode == "replicate" ? PadMode::kReplicate
            : mode == "circular"  ? PadMode::kCircular
                                  : PadMode::kConstant;
    if (mode_ == PadMode::kConstant) return;
    for (const char* key : {"value", "channels"}) {
      if (reader.has(key)) reader.fail(key, "has a meaning only with \"mode\": \"constant\"");
    }
  }

  void check_room(const OperationReader& reader, const PadAxis& axis, const std::string& side) const {
    const int64_t most = std::max(axis.before, axis.after);
    const std::string size = "the " + side + " of \"" + input_->name + "\", " + std::to_string(axis.size);
    if (mode_ == PadMode::kReflect && most >= axis.size) {
      reader.fail("padding", "must be smaller than " + size + ", to reflect it: the border itself is not repeated");
    }
    if (mode_ == PadMode::kCircular && most > axis.size) {
      reader.fail("padding", "must not be larger than " + size + ", to go around it once at most");
    }
  }

  void read_value(const OperationReader& reader) {
    if (!reader.has("value")) return;
    if (input_->is_codes()) {
      code_ = static_cast<uint8_t>(reader.integer("value", 0, (1 << input_->bits) - 1));
    } else {
      number_ = reader.number("value");
    }
  }

  // One pixel of the output in its layout, or in bytes where it is converted; plane after plane.
  ConstantPixel constant_pixel(Budget& budget, bool planes) const {
    const int64_t channels = output_->channels;
    AlignedArray<uint8_t> pixel(budget, checked_mul(pixel_bytes_, planes_, "a pad"), "a constant pixel");
    if (!input_->is_codes()) {
      for (int64_t c = 0; c < channels; ++c) std::memcpy(&pixel[c * 4], &number_, 4);
    } else if (planes) {
      for (int64_t i = 0; i < planes_; ++i) {
        for (int64_t c = 0; (code_ >> i & 1) != 0 && c < channels; ++c) {
          uint8_t& byte = pixel[i * pixel_bytes_ + c / 8];
          byte = static_cast<uint8_t>(byte | 1 << c % 8);
        }
      }
    } else {
      std::fill(pixel.begin(), pixel.end(), code_);
    }
    return {std::move(pixel)};
  }

  static uint32_t bits_of(float number) {
    uint32_t bits;
    std::memcpy(&bits, &number, sizeof(bits));
    return bits;
  }

  // Of plane i; null where the mode is another.
  const uint8_t* constant(int64_t i) const {
    return constant_ == nullptr ? nullptr : constant_->bytes.data() + i * pixel_bytes_;
  }

  void run_row(const RunContext& context, uint8_t* scratch, int64_t n, int64_t oy) const {
    const RowFunctions& rows = context.kernels->rows;
    const Layout& from = input_->layout;
    const Layout& to = output_->layout;
    const int64_t y = y_.source(oy, mode_);
    const uint8_t* in = y < 0 ? nullptr : context.data(*input_) + from.offset(n, y, 0);
    uint8_t* out = context.data(*output_) + to.offset(n, oy, 0);
    if (copies_) {
      for (int64_t i = 0; i < planes_; ++i) {
        pad_row(out + i * to.plane_bytes, y < 0 ? nullptr : in + i * from.plane_bytes, constant(i));
      }
    } else if (!input_->is_codes()) {
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
    if (mode_ == PadMode::kConstant) {
      repeat(out, constant, x_.before);
      repeat(out + (x_.before + x_.size) * bytes, constant, x_.after);
    } else {
      for (int64_t x = 0; x < x_.before; ++x) copy_pixel(out, x, in);
      for (int64_t x = x_.before + x_.size; x < x_.padded(); ++x) copy_pixel(out, x, in);
    }
    std::memcpy(out + x_.before * bytes, in, static_cast<size_t>(x_.size * bytes));
  }

  void copy_pixel(uint8_t* out, int64_t x, const uint8_t* in) const {
    std::memcpy(out + x * pixel_bytes_, in + x_.source(x, mode_) * pixel_bytes_, static_cast<size_t>(pixel_bytes_));
  }

  void repeat(uint8_t* out, const uint8_t* pixel, int64_t count) const {
    for (int64_t i = 0; i < count; ++i) std::memcpy(out + i * pixel_bytes_, pixel, static_cast<size_t>(pixel_bytes_));
  }

  // The same where the channels are padded too, or codes converted: `size` bytes per channel.
  void pad_pixels(uint8_t* out, const uint8_t* in, int64_t size) const {
    if (!pads_channels_) return pad_row(out, in, constant(0));
    const int64_t in_bytes = input_->channels * size, before = channels_before_ * size;
    for (int64_t x = 0; x < output_->width; ++x, out += pixel_bytes_) {
      std::memcpy(out, constant(0), static_cast<size_t>(pixel_bytes_));
      const int64_t from = x_.source(x, mode_);
      if (in != nullptr && from >= 0) std::memcpy(out + before, in + from * in_bytes, static_cast<size_t>(in_bytes));
    }
  }

  PadMode mode_ = PadMode::kConstant;
  PadAxis y_, x_;
  int64_t channels_before_ = 0;
  bool pads_channels_ = false;
  float number_ = 0.0f;
  uint8_t code_ = 0;
  const Tensor* input_ = nullptr;
  const Tensor* output_ = nullptr;
  bool copies_ = true;  // whole pixels, in the layout that both have
  int64_t planes_ = 1, pixel_bytes_ = 0, codes_bytes_ = 0, part_bytes_ = 0;
  std::shared_ptr<const ConstantPixel> constant_;  // null where the mode is another
};

}  // namespace

std::unique_ptr<Operation> make_pad(const OperationReader& reader) { return std::make_unique<Pad>(reader); }

}  // namespace bitorch
