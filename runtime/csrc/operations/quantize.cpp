// dequantize and lookup: every code stands for one entry of a table.
#include <algorithm>

#include "core/base/rows.h"
#include "operations/operations.h"

namespace bitorch {

namespace {

// Takes its input as bytes, a span of pixels at a time.
class OnCodes : public Operation {
 public:
  explicit OnCodes(const OperationReader& reader) : Operation(reader) {}

  void plan(const KernelTable&, Preparation&) override {
    step_ = std::clamp<int64_t>(kSpanCodes / input_->channels, 1, input_->width);
    codes_bytes_ = round_up(checked_mul(step_, input_->channels, "a tensor"), 64);
  }

  // The input's codes and the output's.
  int64_t scratch_bytes(int64_t, int threads) const override {
    return checked_mul(2 * codes_bytes_, threads, "a tensor");
  }

  void run(const RunContext& context) const override {
    const Tensor& output = *outputs_[0];
    zero_halo(output.layout, context.data(output), context.batch);
    const double values = static_cast<double>(context.batch) * static_cast<double>(input_->pixels()) *
                          static_cast<double>(input_->channels);
    for_rows(context.batch * input_->height, values * 0.6, context.threads, [&](int part, int64_t first, int64_t last) {
      uint8_t* scratch = context.scratch + part * 2 * codes_bytes_;
      for (int64_t row = first; row < last; ++row) {
        const int64_t n = row / input_->height, y = row % input_->height;
        for (int64_t x = 0; x < input_->width; x += step_) {
          const int64_t count = std::min(step_, input_->width - x);
          const uint8_t* in = context.data(*input_) + input_->layout.offset(n, y, x);
          const uint8_t* codes = read_codes(context.kernels->rows, input_->layout, in, count, scratch);
          write(context, codes, count, context.data(output) + output.layout.offset(n, y, x), scratch + codes_bytes_);
        }
      }
    });
  }

 protected:
  virtual void write(const RunContext& context, const uint8_t* codes, int64_t pixels, uint8_t* out,
                     uint8_t* scratch) const = 0;

  const Tensor* input_ = nullptr;

 private:
  static constexpr int64_t kSpanCodes = 4096;
  int64_t step_ = 1, codes_bytes_ = 0;
};

// What the shape of "table" must be: an entry per code, for all channels or, where it has two dimensions, for each.
std::vector<int64_t> table_shape(const OperationReader& reader, const Tensor& input) {
  const int64_t entries = int64_t{1} << input.bits;
  if (reader.array("table").shape.size() == 2) return {input.channels, entries};
  return {entries};
}

class Dequantize : public OnCodes {
 public:
  explicit Dequantize(const OperationReader& reader) : OnCodes(reader) {
    reader.allow({"input", "output", "sign", "scale", "table"});
    input_ = reader.input("input", {Values::kCodes});
    inputs_ = {input_};
    if (reader.has("table")) {
      read_table(reader);
    } else {
      fill_table(reader);
    }
    outputs_ = {reader.output("output", Values::kFloat32, 0, input_->axes, input_->channels)};
  }

  int64_t weight_bytes() const override { return values_->size() * 4; }

 private:
  void read_table(const OperationReader& reader) {
    for (const char* key : {"sign", "scale"}) {
      if (reader.has(key)) reader.fail(key, "has no meaning beside \"table\", which says what each code is worth");
    }
    const std::vector<int64_t> shape = table_shape(reader, *input_);
    per_channel_ = shape.size() == 2;
    values_ = reader.keep(reader.floats("table", shape), reader.array("table").elements());
  }

  void fill_table(const OperationReader& reader) {
    const bool sign = reader.flag("sign", false);
    if (sign && input_->bits != 1) reader.fail("sign", "needs codes of 1 bit, but the input is " + input_->describe());
    const int levels = (1 << input_->bits) - 1;
    const float scale = reader.has("scale") ? reader.number("scale") : 1.0f;
    AlignedArray<float> values(reader.preparation().budget(), levels + 1, "a table");
    for (int q = 0; q <= levels; ++q) {
      const float value = static_cast<float>(sign ? 2 * q - 1 : q);
      const bool divides = !sign && !reader.has("scale");
      values[q] = divides ? value / static_cast<float>(levels) : value * scale;
    }
    values_ = std::make_shared<const AlignedArray<float>>(std::move(values));
  }

  void write(const RunContext&, const uint8_t* codes, int64_t pixels, uint8_t* out, uint8_t*) const override {
    float* values = reinterpret_cast<float*>(out);
    const int64_t channels = input_->channels, n = pixels * channels;
    const float* table = values_->data();
    if (per_channel_) {
      for (int64_t p = 0; p < n; p += channels) {
        for (int64_t c = 0; c < channels; ++c) values[p + c] = table[(c << input_->bits) + codes[p + c]];
      }
    } else {
      for (int64_t i = 0; i < n; ++i) values[i] = table[codes[i]];
    }
  }

  Kept<float> values_;  // [2^bits], or [channels][2^bits]
  bool per_channel_ = false;
};

class Lookup : public OnCodes {
 public:
  explicit Lookup(const OperationReader& reader) : OnCodes(reader) {
    reader.allow({"input", "output", "bits", "table"});
    input_ = reader.input("input", {Values::kCodes});
    inputs_ = {input_};
    const int bits = reader.bits("bits");
    const std::vector<int64_t> shape = table_shape(reader, *input_);
    per_channel_ = shape.size() == 2;
    table_ = reader.keep(reader.bytes("table", shape), reader.array("table").elements());
    const int most = (1 << bits) - 1;
    reader.preparation().budget().work(table_->size());
    for (uint8_t entry : *table_) {
      if (entry > most) {
        reader.fail("table", "has an entry " + std::to_string(entry) + ", but " + std::to_string(bits) +
                                 "-bit codes are at most " + std::to_string(most));
      }
    }
    shift_ = input_->bits;
    outputs_ = {reader.output("output", Values::kCodes, bits, input_->axes, input_->channels)};
  }

  int64_t weight_bytes() const override { return table_->size(); }

 private:
  void write(const RunContext& context, const uint8_t* codes, int64_t pixels, uint8_t* out,
             uint8_t* scratch) const override {
    const Layout& layout = outputs_[0]->layout;
    const int64_t channels = input_->channels, n = pixels * channels;
    uint8_t* target = layout.kind == Kind::kBytes ? out : scratch;
    const uint8_t* table = table_->data();
    if (per_channel_) {
      for (int64_t p = 0; p < n; p += channels) {
        for (int64_t c = 0; c < channels; ++c) target[p + c] = table[(c << shift_) + codes[p + c]];
      }
    } else {
      for (int64_t i = 0; i < n; ++i) target[i] = table[codes[i]];
    }
    write_codes(context.kernels->rows, layout, out, pixels, target);
  }

  Kept<uint8_t> table_;
  bool per_channel_ = false;
  int shift_ = 1;
};

}  // namespace

std::unique_ptr<Operation> make_dequantize(const OperationReader& reader) {
  return std::make_unique<Dequantize>(reader);
}
std::unique_ptr<Operation> make_lookup(const OperationReader& reader) { return std::make_unique<Lookup>(reader); }

}  // namespace bitorch
