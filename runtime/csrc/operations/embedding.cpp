#include "operations/embedding.h"

#include <cstring>
#include <utility>

#include "core/base/packing.h"
#include "core/graph/row_operation.h"
#include "operations/indices.h"

namespace bitorch {

namespace {

// The rows and channels that the table has.
int64_t read_floats(const OperationReader& reader, const ArrayView& table, EmbeddingSpec* spec) {
  for (const char* key : {"weight_bits", "scale", "weight_grid", "channels", "levels"}) {
    if (reader.has(key)) reader.fail(key, "has a meaning only beside a table of packed codes, uint8");
  }
  if (table.shape.size() != 2 || table.shape[0] < 1 || table.shape[1] < 1 || table.shape[1] > kMaxChannels) {
    reader.fail("table", "the array is " + table.describe() + ", but must be float32 [rows, channels]");
  }
  spec->rows = table.shape[0];
  spec->floats = reader.floats("table", table.shape);
  return table.shape[1];
}

int64_t read_packed(const OperationReader& reader, const ArrayView& table, EmbeddingSpec* spec) {
  const int bits = spec->weight_bits = reader.bits("weight_bits");
  const bool is_signed = reader.has("weight_grid") && reader.choice("weight_grid", {"odd", "signed"}) == "signed";
  spec->step = is_signed ? 1 : 2;
  spec->lowest = is_signed ? -(1 << (bits - 1)) : 1 - (1 << bits);
  const int64_t channels = reader.integer("channels", 1, kMaxChannels);
  if (table.shape.size() != 2 || table.shape[0] < 1) {
    reader.fail("table", "the array is " + table.describe() + ", but must be uint8 [rows, bytes of packed codes]");
  }
  spec->rows = table.shape[0];
  spec->packed = reader.bytes("table", {spec->rows, packed_row_bytes(channels, bits)});
  if (reader.has("levels")) spec->levels = reader.floats("levels", {int64_t{1} << bits});
  spec->scale_of_rows = reader.array("scale").shape != std::vector<int64_t>{1};
  spec->scale = reader.floats("scale", {spec->scale_of_rows ? spec->rows : 1});
  return channels;
}

}  // namespace

EmbeddingSpec read_embedding(const OperationReader& reader) {
  EmbeddingSpec spec;
  spec.input = reader.input("input", {Values::kInt32});
  const Tensor& input = *spec.input;
  if (!are_indices(input) || input.channels != 1) {
    reader.fail("input", "the tensor is " + input.describe() +
                             ", but must be indices from an input of int32 or int64, of one channel");
  }
  const ArrayView& table = reader.array("table");
  if (table.dtype != Dtype::kFloat32 && table.dtype != Dtype::kUint8) {
    reader.fail("table", "the array is " + table.describe() + ", but must be float32, or uint8 of packed codes");
  }
  const bool low_bit = table.dtype == Dtype::kUint8;
  const int64_t channels = low_bit ? read_packed(reader, table, &spec) : read_floats(reader, table, &spec);
  if (index_count(input) > spec.rows) {
    reader.fail("table", "it has " + std::to_string(spec.rows) + " rows, but the indices go up to " +
                             std::to_string(index_count(input) - 1));
  }
  spec.output = reader.output("output", Values::kFloat32, 0, input.axes, channels);
  return spec;
}

namespace {

Kept<float> make_levels(const EmbeddingSpec& spec, Preparation& preparation) {
  const int64_t count = int64_t{1} << spec.weight_bits;
  if (spec.levels != nullptr) return keep(preparation, spec.levels, count);
  AlignedArray<float> levels(preparation.budget(), count, "the levels of a table");
  for (int m = 0; m < count; ++m) levels[m] = static_cast<float>(spec.step * m + spec.lowest);
  return std::make_shared<const AlignedArray<float>>(std::move(levels));
}

class Embedding : public RowOperation {
 public:
  Embedding(const EmbeddingSpec& spec, Preparation& preparation)
      : RowOperation("an embedding", spec.output->height, {spec.input}, {spec.output}),
        input_(*spec.input),
        output_(*spec.output),
        spec_(spec) {
    const int64_t channels = output_.channels;
    if (spec.floats != nullptr) {
      floats_ = keep(preparation, spec.floats, checked_mul(spec.rows, channels, what()));
      spec_.floats = floats_->data();
      return;
    }
    row_bytes_ = packed_row_bytes(channels, spec.weight_bits);
    packed_ = keep(preparation, spec.packed, checked_mul(spec.rows, row_bytes_, what()));
    scale_ = keep(preparation, spec.scale, spec.scale_of_rows ? spec.rows : 1);
    levels_ = make_levels(spec, preparation);
    spec_.packed = packed_->data();
    spec_.levels = levels_->data();
    spec_.scale = scale_->data();
  }

  void plan(const KernelTable&, Preparation&) override {
    if (spec_.packed != nullptr) part_bytes_ = room(output_.channels, 1);
  }

  int64_t weight_bytes() const override { return floats_ != nullptr ? floats_->size() * 4 : packed_->size(); }

 private:
  double row_cost() const override { return row_values(output_) * (spec_.packed != nullptr ? 1.5 : 0.2); }

  // Indices were checked where they came in: they are rows of the table.
  void run_row(const RunContext& context, uint8_t* scratch, int64_t n, int64_t y) const override {
    const auto* indices = reinterpret_cast<const int32_t*>(context.pixel(input_, n, y));
    float* out = context.floats(output_, n, y);
    const int64_t channels = output_.channels;
    for (int64_t x = 0; x < output_.width; ++x, out += channels) {
      const int64_t row = indices[x];
      if (spec_.floats != nullptr) {
        std::memcpy(out, spec_.floats + row * channels, static_cast<size_t>(channels) * sizeof(float));
        continue;
      }
      unpack_row(spec_.packed + row * row_bytes_, channels, spec_.weight_bits, scratch);
      const float scale = spec_.scale[spec_.scale_of_rows ? row : 0];
      for (int64_t c = 0; c < channels; ++c) out[c] = spec_.levels[scratch[c]] * scale;
    }
  }

  const Tensor& input_;
  const Tensor& output_;
  EmbeddingSpec spec_;  // with what is kept in the place of arrays
  int64_t row_bytes_ = 0;
  Kept<float> floats_, scale_, levels_;
  Kept<uint8_t> packed_;
};

}  // namespace

std::unique_ptr<Operation> make_embedding(const EmbeddingSpec& spec, Preparation& preparation) {
  return std::make_unique<Embedding>(spec, preparation);
}

}  // namespace bitorch
