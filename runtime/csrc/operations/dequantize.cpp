#include "operations/dequantize.h"

#include <utility>

#include "operations/on_codes.h"

namespace bitorch {

namespace {

void read_table(const OperationReader& reader, DequantizeSpec* spec) {
  for (const char* key : {"sign", "scale"}) {
    if (reader.has(key)) reader.fail(key, "has no meaning beside \"table\", which says what each code is worth");
  }
  const std::vector<int64_t> shape = read_table_shape(reader, *spec->input);
  spec->per_channel = shape.size() == 2;
  spec->table = reader.floats("table", shape);
}

void read_scale(const OperationReader& reader, DequantizeSpec* spec) {
  spec->sign = reader.flag("sign", false);
  if (spec->sign && spec->input->bits != 1) {
    reader.fail("sign", "needs codes of 1 bit, but the input is " + spec->input->describe());
  }
  spec->has_scale = reader.has("scale");
  if (spec->has_scale) spec->scale = reader.number("scale");
}

}  // namespace

DequantizeSpec read_dequantize(const OperationReader& reader) {
  DequantizeSpec spec;
  spec.input = reader.input("input", {Values::kCodes});
  if (reader.has("table")) {
    read_table(reader, &spec);
  } else {
    read_scale(reader, &spec);
  }
  const Tensor& input = *spec.input;
  spec.output = reader.output("output", Values::kFloat32, 0, input.axes, input.channels);
  return spec;
}

namespace {

Kept<float> make_table(const DequantizeSpec& spec, Preparation& preparation) {
  const int64_t entries = int64_t{1} << spec.input->bits;
  if (spec.table != nullptr) {
    return keep(preparation, spec.table, spec.per_channel ? spec.input->channels * entries : entries);
  }
  AlignedArray<float> values(preparation.budget(), entries, "a table");
  for (int q = 0; q < entries; ++q) {
    const float value = static_cast<float>(spec.sign ? 2 * q - 1 : q);
    const bool divides = !spec.sign && !spec.has_scale;
    values[q] = divides ? value / static_cast<float>(entries - 1) : value * spec.scale;
  }
  return std::make_shared<const AlignedArray<float>>(std::move(values));
}

class Dequantize : public OnCodes {
 public:
  Dequantize(const DequantizeSpec& spec, Preparation& preparation)
      : OnCodes(spec.input, spec.output), per_channel_(spec.per_channel), values_(make_table(spec, preparation)) {}

  int64_t weight_bytes() const override { return values_->size() * 4; }

 private:
  void write(const RunContext&, const uint8_t* codes, int64_t pixels, uint8_t* out, uint8_t*) const override {
    float* values = reinterpret_cast<float*>(out);
    const int64_t channels = input_.channels, n = pixels * channels;
    if (per_channel_) {
      look_up_by_channel(values, codes, n, values_->data(), channels, input_.bits);
    } else {
      look_up(values, codes, n, values_->data());
    }
  }

  bool per_channel_;
  Kept<float> values_;  // [2^bits], or [channels][2^bits]
};

}  // namespace

std::unique_ptr<Operation> make_dequantize(const DequantizeSpec& spec, Preparation& preparation) {
  return std::make_unique<Dequantize>(spec, preparation);
}

}  // namespace bitorch
