#include "operations/attention.h"

#include <cstring>

#include "core/graph/row_operation.h"
#include "operations/matrix_rows.h"

namespace bitorch {

namespace {

std::string named(const Tensor& tensor) { return "\"" + tensor.name + "\" is " + tensor.describe(); }

void check_sizes(const OperationReader& reader, const AttentionSpec& spec) {
  const Tensor &query = *spec.query, &key = *spec.key, &value = *spec.value;
  if (query.channels != key.channels) {
    reader.fail("inputs", named(query) + " and " + named(key) + ": queries and keys must have as many channels");
  }
  if (key.width != value.width) {
    reader.fail("inputs", named(key) + " and " + named(value) + ": there must be as many values as keys");
  }
  if (spec.bias == nullptr) return;
  const Tensor& bias = *spec.bias;
  if (bias.channels != key.width || (bias.width != 1 && bias.width != query.width)) {
    reader.fail("inputs", named(bias) + ", which must have " + std::to_string(key.width) +
                              " channels, one for each key, and 1 or " + std::to_string(query.width) +
                              " places along its last axis of rows, one for each query");
  }
}

// The leading axes of the result.
RowAxes met(const OperationReader& reader, const AttentionSpec& spec) {
  RowAxes axes = leading_axes(*spec.query);
  for (const Tensor* tensor : {spec.key, spec.value, spec.bias}) {
    if (tensor == nullptr || meet(&axes, leading_axes(*tensor), tensor != spec.bias)) continue;
    reader.fail("inputs", named(*spec.query) + " and " + named(*tensor) +
                              ": the axes in front must be equal, or 1; the last of them may be a multiple of that of "
                              "keys and values, which are shared then");
  }
  return axes;
}

int64_t macs_of(const AttentionSpec& spec, const RowAxes& axes) {
  const char* what = "an attention";
  const int64_t scores = checked_mul(checked_mul(items(axes), spec.query->width, what), spec.key->width, what);
  return checked_mul(scores, checked_add(spec.query->channels, spec.value->channels, what), what);
}

}  // namespace

AttentionSpec read_attention(const OperationReader& reader) {
  const std::vector<std::string> names = reader.names("inputs");
  if (names.size() != 3 && names.size() != 4) {
    reader.fail("inputs", "must be three tensors, or four: query, key, value and bias");
  }
  AttentionSpec spec;
  spec.query = reader.input_named("inputs", names[0], {Values::kFloat32});
  spec.key = reader.input_named("inputs", names[1], {Values::kFloat32});
  spec.value = reader.input_named("inputs", names[2], {Values::kFloat32});
  if (names.size() == 4) spec.bias = reader.input_named("inputs", names[3], {Values::kFloat32});
  if (reader.has("scale")) spec.scale = reader.number("scale");
  spec.causal = reader.flag("causal", false);
  check_sizes(reader, spec);
  RowAxes axes = met(reader, spec);
  spec.of_query = ItemsOf(axes, leading_axes(*spec.query));
  spec.of_key = ItemsOf(axes, leading_axes(*spec.key));
  spec.of_value = ItemsOf(axes, leading_axes(*spec.value));
  if (spec.bias != nullptr) spec.of_bias = ItemsOf(axes, leading_axes(*spec.bias));
  spec.macs = macs_of(spec, axes);
  axes.push_back(spec.query->width);
  spec.output = reader.output("output", Values::kFloat32, 0, axes, spec.value->channels);
  return spec;
}

namespace {

constexpr int64_t kMostRows = 64;                  // queries at a time
constexpr int64_t kMostScores = int64_t{1} << 16;  // of them all, where that are 8 queries or more: half of a small L2

int64_t rows_at_a_time(int64_t keys) { return std::max<int64_t>(8, std::min(kMostRows, kMostScores / keys / 8 * 8)); }

std::vector<const Tensor*> read_by(const AttentionSpec& spec) {
  std::vector<const Tensor*> tensors = {spec.query, spec.key, spec.value};
  if (spec.bias != nullptr) tensors.push_back(spec.bias);
  return tensors;
}

// A row of work is a block of queries of one head. Its scores against all keys lie in scratch, and nowhere else; blocks
// of a head follow one another, so that a part packs keys and values once for all of them.
class Attention : public RowOperation {
 public:
  Attention(const AttentionSpec& spec, const RowBlocks& blocks)
      : RowOperation("an attention", checked_mul(spec.output->height, blocks.count, "an attention"), read_by(spec),
                     {spec.output}),
        spec_(spec),
        blocks_(blocks),
        depth_(spec.query->channels),
        keys_(spec.key->width),
        channels_(spec.value->channels) {}

  void plan(const KernelTable& kernels, Preparation&) override {
    const int64_t lanes = kernels.matrices->lanes;
    values_at_ = kHead + room(checked_mul(depth_, round_up(keys_, lanes), what()), 4);
    scores_at_ = values_at_ + room(checked_mul(keys_, round_up(channels_, lanes), what()), 4);
    factors_at_ = scores_at_ + room(checked_mul(blocks_.size(0), keys_, what()), 4);
    part_bytes_ = factors_at_ + room(blocks_.size(0), 4);
  }
  std::string kernel(const KernelTable& kernels) const override { return std::string("matrices ") + kernels.name; }
  int64_t macs() const override { return spec_.macs; }

 private:
  // Which keys and values are packed.
  struct Packed {
    const float *keys, *values;
  };
  static constexpr int64_t kHead = 64;

  double row_cost() const override {
    const double scores = static_cast<double>(blocks_.size(0)) * static_cast<double>(keys_);
    return scores * (static_cast<double>(depth_ + channels_) * 0.02 + 0.5);
  }

  void start_part(uint8_t* scratch) const override { *reinterpret_cast<Packed*>(scratch) = {nullptr, nullptr}; }

  void run_row(const RunContext& context, uint8_t* scratch, int64_t n, int64_t y) const override {
    const MatrixKernels& kernels = *context.kernels->matrices;
    const int64_t item = y / blocks_.count, first = blocks_.begin(y % blocks_.count);
    const int64_t rows = blocks_.size(y % blocks_.count);
    pack(context, scratch, n, item);
    const FloatMatrix query(context, *spec_.query, n, spec_.of_query(item));
    float* scores = reinterpret_cast<float*>(scratch + scores_at_);
    float* factors = reinterpret_cast<float*>(scratch + factors_at_);
    const int64_t seen = spec_.causal ? std::min(keys_, first + rows) : keys_;  // by the last query
    const MatrixProduct products = {query.data + first * query.pixel_step,
                                    query.pixel_step,
                                    1,
                                    reinterpret_cast<const float*>(scratch + kHead),
                                    depth_,
                                    keys_,
                                    scores,
                                    keys_,
                                    rows,
                                    depth_,
                                    seen,
                                    spec_.scale,
                                    nullptr};
    kernels.multiply(&products);
    for (int64_t row = 0; row < rows; ++row) {
      float* of_row = scores + row * keys_;
      const int64_t columns = spec_.causal ? std::min(keys_, first + row + 1) : keys_;
      const AttentionRow exponents = {of_row, bias(context, n, item, first + row), columns};
      const float sum = kernels.exponentials(&exponents);
      factors[row] = sum == 0.0f ? 0.0f : 1.0f / sum;
      std::memset(of_row + columns, 0, static_cast<size_t>(seen - columns) * 4);
    }
    const MatrixProduct mean = {scores,
                                keys_,
                                1,
                                reinterpret_cast<const float*>(scratch + values_at_),
                                keys_,
                                channels_,
                                context.floats(*spec_.output, n, item, first),
                                spec_.output->layout.pixel_bytes / 4,
                                rows,
                                seen,
                                channels_,
                                1.0f,
                                factors};
    kernels.multiply(&mean);
  }

  void pack(const RunContext& context, uint8_t* scratch, int64_t n, int64_t item) const {
    const MatrixKernels& kernels = *context.kernels->matrices;
    Packed& packed = *reinterpret_cast<Packed*>(scratch);
    const FloatMatrix keys(context, *spec_.key, n, spec_.of_key(item));
    const FloatMatrix values(context, *spec_.value, n, spec_.of_value(item));
    if (packed.keys != keys.data) {
      float* panels = reinterpret_cast<float*>(scratch + kHead);
      const MatrixPanels packing = {keys.data, 1, keys.pixel_step, depth_, keys_, panels};
      kernels.pack(&packing);
      packed.keys = keys.data;
    }
    if (packed.values != values.data) {
      float* panels = reinterpret_cast<float*>(scratch + values_at_);
      const MatrixPanels packing = {values.data, values.pixel_step, 1, keys_, channels_, panels};
      kernels.pack(&packing);
      packed.values = values.data;
    }
  }

  // What is added to the scores of a query; null: nothing.
  const float* bias(const RunContext& context, int64_t n, int64_t item, int64_t row) const {
    if (spec_.bias == nullptr) return nullptr;
    return context.floats(*spec_.bias, n, spec_.of_bias(item), spec_.bias->width == 1 ? 0 : row);
  }

  AttentionSpec spec_;
  RowBlocks blocks_;
  int64_t depth_, keys_, channels_;
  int64_t values_at_ = 0, scores_at_ = 0, factors_at_ = 0;  // in scratch, behind the keys
};

}  // namespace

std::unique_ptr<Operation> make_attention(const AttentionSpec& spec, Preparation&) {
  return std::make_unique<Attention>(spec, RowBlocks(spec.query->width, rows_at_a_time(spec.key->width)));
}

}  // namespace bitorch
