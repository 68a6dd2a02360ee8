// quantize, add and affine: float32 pixels in, float32 and/or codes out.
#include <algorithm>
#include <limits>

#include "core/base/rows.h"
#include "core/conv/code_writer.h"
#include "operations/operations.h"

namespace bitorch {

namespace {

// Pixels x .. x+count-1 of one row.
struct Span {
  int64_t n, y, x, count;
};

const float* span_of(const RunContext& context, const Tensor& tensor, const Span& span) {
  return reinterpret_cast<const float*>(context.data(tensor) + tensor.layout.offset(span.n, span.y, span.x));
}

class Elementwise : public Operation {
 public:
  explicit Elementwise(const OperationReader& reader) : Operation(reader) {}

  void plan(const KernelTable&, Preparation&) override {
    step_ = std::clamp<int64_t>(kSpanValues / shape_->channels, 1, shape_->width);
    values_bytes_ = round_up(checked_mul(checked_mul(step_, shape_->channels, "a tensor"), 4, "a tensor"), 64);
    part_bytes_ = values_bytes_ + writer_.scratch_bytes();
  }

  int64_t scratch_bytes(int64_t, int threads) const override { return checked_mul(part_bytes_, threads, "a tensor"); }

  void run(const RunContext& context) const override {
    for (const Tensor* output : outputs_) zero_halo(output->layout, context.data(*output), context.batch);
    const double values = static_cast<double>(context.batch) * static_cast<double>(shape_->pixels()) *
                          static_cast<double>(shape_->channels);
    const double cost = values * (0.25 + (writer_ ? writer_.nanoseconds_per_value() : 0.0));
    for_rows(context.batch * shape_->height, cost, context.threads, [&](int part, int64_t first, int64_t last) {
      uint8_t* scratch = context.scratch + part * part_bytes_;
      for (int64_t row = first; row < last; ++row)
        run_row(context, scratch, row / shape_->height, row % shape_->height);
    });
  }

 protected:
  // For quantize, whose key is "output"; the others have "float32" and "codes".
  void define_codes(const OperationReader& reader, const char* key) {
    const CodeKeys keys = read_code_keys(reader, shape_->channels, false);
    writer_ = CodeWriter(keys, shape_->channels, reader.preparation());
    codes_ = reader.output(key, Values::kCodes, keys.bits, shape_->axes, shape_->channels);
    outputs_.push_back(codes_);
  }

  void define_outputs(const OperationReader& reader) {
    if (reader.has("float32")) {
      floats_ = reader.output("float32", Values::kFloat32, 0, shape_->axes, shape_->channels);
      outputs_.push_back(floats_);
    }
    if (reader.has("codes")) {
      define_codes(reader, "codes");
    } else {
      for (const char* key : {"thresholds", "descending", "bits"}) {
        if (reader.has(key)) reader.fail(key, "has a meaning only beside \"codes\"");
      }
    }
    if (outputs_.empty()) reader.fail("needs an output: \"float32\" or \"codes\"");
  }

  void check_same_shape(const OperationReader& reader, const char* key, const Tensor& other) const {
    if (other.same_shape(*shape_)) return;
    reader.fail(key, "the tensor \"" + other.name + "\" is " + other.describe() + ", but \"" + shape_->name + "\" is " +
                         shape_->describe() + "; their shapes must be equal");
  }

  // The values of a span, [count][channels]: written to `room`, or elsewhere where they are there already.
  virtual const float* values(const RunContext& context, const Span& span, float* room) const = 0;

  const Tensor* shape_ = nullptr;  // any tensor of the shape of all of them

 private:
  void run_row(const RunContext& context, uint8_t* scratch, int64_t n, int64_t y) const {
    for (int64_t x = 0; x < shape_->width; x += step_) {
      const Span span = {n, y, x, std::min(step_, shape_->width - x)};
      float* room = reinterpret_cast<float*>(scratch);
      if (floats_ != nullptr) room = reinterpret_cast<float*>(context.data(*floats_) + floats_->layout.offset(n, y, x));
      const float* in = values(context, span, room);
      if (!writer_) continue;
      writer_.write(*context.kernels, codes_->layout, in, span.count,
                    context.data(*codes_) + codes_->layout.offset(n, y, x), scratch + values_bytes_);
    }
  }

  static constexpr int64_t kSpanValues = 4096;  // 16 KiB: stays in the first cache

  const Tensor* floats_ = nullptr;
  const Tensor* codes_ = nullptr;
  CodeWriter writer_;
  int64_t step_ = 1, values_bytes_ = 0, part_bytes_ = 0;
};

class Quantize : public Elementwise {
 public:
  explicit Quantize(const OperationReader& reader) : Elementwise(reader) {
    reader.allow({"input", "output", "bits", "thresholds", "descending"});
    shape_ = reader.input("input", {Values::kFloat32});
    inputs_ = {shape_};
    define_codes(reader, "output");
  }

 private:
  const float* values(const RunContext& context, const Span& span, float*) const override {
    return span_of(context, *shape_, span);
  }
};

class Add : public Elementwise {
 public:
  explicit Add(const OperationReader& reader) : Elementwise(reader) {
    reader.allow({"inputs", "relu", "float32", "codes", "bits", "thresholds", "descending"});
    const std::vector<std::string> names = reader.names("inputs");
    if (names.size() != 2) reader.fail("inputs", "must be two tensors");
    shape_ = reader.input_named("inputs", names[0], {Values::kFloat32});
    other_ = reader.input_named("inputs", names[1], {Values::kFloat32});
    check_same_shape(reader, "inputs", *other_);
    relu_ = reader.flag("relu", false);
    inputs_ = {shape_, other_};
    define_outputs(reader);
  }

 private:
  const float* values(const RunContext& context, const Span& span, float* room) const override {
    const float* a = span_of(context, *shape_, span);
    const float* b = span_of(context, *other_, span);
    const int64_t n = span.count * shape_->channels;
    if (relu_) {
      for (int64_t i = 0; i < n; ++i) {
        const float y = a[i] + b[i];
        room[i] = y < 0.0f ? 0.0f : y;  // keeps NaN
      }
    } else {
      for (int64_t i = 0; i < n; ++i) room[i] = a[i] + b[i];
    }
    return room;
  }

  const Tensor* other_ = nullptr;
  bool relu_ = false;
};

class Affine : public Elementwise {
 public:
  explicit Affine(const OperationReader& reader) : Elementwise(reader) {
    reader.allow({"input", "divide", "multiply", "offset", "norm_multiply", "norm_offset", "residual", "low", "high",
                  "float32", "codes", "bits", "thresholds", "descending"});
    shape_ = reader.input("input", {Values::kFloat32});
    inputs_ = {shape_};
    check_parts(reader);
    divide_ = read_channels(reader, "divide");
    multiply_ = read_channels(reader, "multiply");
    offset_ = read_channels(reader, "offset");
    norm_multiply_ = read_channels(reader, "norm_multiply");
    norm_offset_ = read_channels(reader, "norm_offset");
    if (reader.has("low")) low_ = reader.number("low");
    if (reader.has("high")) high_ = reader.number("high");
    if (low_ > high_) reader.fail("low", "must not be above \"high\"");
    if (reader.has("residual")) {
      residual_ = reader.input("residual", {Values::kFloat32});
      check_same_shape(reader, "residual", *residual_);
      inputs_.push_back(residual_);
    }
    define_outputs(reader);
  }

  int64_t weight_bytes() const override {
    int64_t bytes = 0;
    for (const auto* array : {&divide_, &multiply_, &offset_, &norm_multiply_, &norm_offset_}) {
      if (*array != nullptr) bytes += (*array)->size() * 4;
    }
    return bytes;
  }

 private:
  static void check_parts(const OperationReader& reader) {
    if (reader.has("multiply") != reader.has("offset")) {
      reader.fail("it needs both \"multiply\" and \"offset\", or neither");
    }
    if (reader.has("norm_multiply") != reader.has("norm_offset")) {
      reader.fail("it needs both \"norm_multiply\" and \"norm_offset\", or neither");
    }
    for (const char* part : {"divide", "multiply", "norm_multiply", "residual", "low", "high"}) {
      if (reader.has(part)) return;
    }
    reader.fail(
        "there is nothing to compute: give \"divide\", \"multiply\" and \"offset\", \"norm_multiply\" and "
        "\"norm_offset\", \"residual\", \"low\" or \"high\"");
  }

  // The array repeated to a period() of values, so that loops over pixels of few channels are long; null where absent.
  Kept<float> read_channels(const OperationReader& reader, const char* key) const {
    if (!reader.has(key)) return nullptr;
    return reader.keep(reader.floats(key, {shape_->channels}), shape_->channels, period());
  }

  int64_t period() const {
    constexpr int64_t kLeast = 256;
    return ceil_div(kLeast, shape_->channels) * shape_->channels;
  }

  const float* values(const RunContext& context, const Span& span, float* room) const override {
    const auto data = [](const Kept<float>& array) { return array == nullptr ? nullptr : array->data(); };
    AffineRow row;
    row.x = span_of(context, *shape_, span);
    row.out = room;
    row.divide = data(divide_);
    row.multiply = data(multiply_);
    row.offset = data(offset_);
    row.norm_multiply = data(norm_multiply_);
    row.norm_offset = data(norm_offset_);
    row.residual = residual_ == nullptr ? nullptr : span_of(context, *residual_, span);
    row.n = span.count * shape_->channels;
    row.period = period();
    row.low = low_;
    row.high = high_;
    context.kernels->rows.affine(&row);
    return room;
  }

  Kept<float> divide_, multiply_, offset_, norm_multiply_, norm_offset_;  // [period()], or null
  float low_ = -std::numeric_limits<float>::infinity(), high_ = std::numeric_limits<float>::infinity();
  const Tensor* residual_ = nullptr;
};

}  // namespace

std::unique_ptr<Operation> make_quantize(const OperationReader& reader) { return std::make_unique<Quantize>(reader); }
std::unique_ptr<Operation> make_add(const OperationReader& reader) { return std::make_unique<Add>(reader); }
std::unique_ptr<Operation> make_affine(const OperationReader& reader) { return std::make_unique<Affine>(reader); }

}  // namespace bitorch
