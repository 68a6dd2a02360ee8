#include "operations/linear_weight_only.h"

#include <algorithm>
#include <cstring>

#include "core/base/packing.h"
#include "core/base/rows.h"
#include "core/base/slots.h"
#include "operations/group_scales.h"

namespace bitorch {

namespace {

// The bits that fill up a row are zero: anything else is a row of another shape or another order.
void check_fill(const OperationReader& reader, const uint8_t* weight, int64_t rows, int64_t row_bits) {
  if (row_bits % 8 == 0) return;
  const int64_t row_bytes = ceil_div(row_bits, 8);
  reader.preparation().budget().work(rows);
  for (int64_t row = 0; row < rows; ++row) {
    if (weight[(row + 1) * row_bytes - 1] >> (row_bits % 8) == 0) continue;
    reader.fail("weight", "channel " + std::to_string(row) + ": the last " + std::to_string(8 - row_bits % 8) +
                              " bits of its row must be zero");
  }
}

}  // namespace

LinearWeightOnlySpec read_linear_weight_only(const OperationReader& reader) {
  LinearWeightOnlySpec spec;
  spec.input = reader.input("input", {Values::kFloat32});
  const int64_t inputs = spec.input->channels, channels = reader.integer("out_channels", 1, kMaxChannels);
  spec.weight_bits = reader.bits("weight_bits");
  spec.odd = !reader.has("weight_grid") || reader.choice("weight_grid", {"odd", "signed"}) == "odd";
  spec.weight = reader.bytes("weight", {channels, packed_row_bytes(inputs, spec.weight_bits)});
  check_fill(reader, spec.weight, channels, inputs * spec.weight_bits);
  spec.groups = read_groups(reader, channels, inputs);
  spec.scale = reader.floats("scale", {channels, spec.groups});
  if (reader.has("bias")) spec.bias = reader.floats("bias", {channels});
  spec.output = reader.output("output", Values::kFloat32, 0, spec.input->axes, channels);
  return spec;
}

namespace {

constexpr int64_t kFewRows = 8;      // for so many codes are decoded as they are multiplied, for more before
constexpr int64_t kPanelBlocks = 3;  // decoded at a time: whole panels, whatever the width of vectors

// Rows are those of all images. Their features are brought together, with zeros where a group's last word has no
// codes; then threads share the columns of the product, which are output channels.
class LinearWeightOnly : public Operation {
 public:
  LinearWeightOnly(const LinearWeightOnlySpec& spec, Preparation& preparation)
      : Operation({spec.input}, {spec.output}), input_(*spec.input), output_(*spec.output) {
    const PackedGroups packed = {spec.weight,      spec.weight_bits, spec.odd,   spec.scale,
                                 output_.channels, input_.channels,  spec.groups};
    const Preparation::Key key = {Preparation::address(spec.weight),
                                  spec.weight_bits,
                                  spec.odd,
                                  Preparation::address(spec.scale),
                                  packed.rows,
                                  packed.inputs,
                                  packed.groups};
    slots_ = preparation.share<GroupSlots>(key, [&] { return GroupSlots(packed, preparation); });
    if (spec.bias != nullptr) bias_ = keep(preparation, spec.bias, output_.channels);
  }

  std::string kernel(const KernelTable& kernels) const override { return std::string("weight-only ") + kernels.name; }
  int64_t macs() const override { return input_.pixels() * input_.channels * output_.channels; }
  int64_t weight_bytes() const override { return slots_->bytes() + (bias_ == nullptr ? 0 : output_.channels * 4); }

  int64_t scratch_bytes(int64_t batch, int threads) const override {
    const int64_t rows = std::min(kMostRows, checked_mul(batch, input_.pixels(), kWhat));
    const int64_t left = round_up(checked_mul(rows, slots_->depth() * 4, kWhat), 64);
    return checked_add(left, checked_mul(part_bytes(rows), threads, kWhat), kWhat);
  }

  void run(const RunContext& context) const override {
    for_parts_of_rows(context, input_, output_, [&](int64_t first, int64_t rows) { run_rows(context, first, rows); });
  }

 private:
  static constexpr const char* kWhat = "a linear_weight_only";
  static constexpr int64_t kColumns = kPanelBlocks * kSlotColumns;

  // Scratch of a thread: sums of all rows, and behind them panels.
  static int64_t sums_bytes(int64_t rows) { return rows * kColumns * 4; }
  int64_t part_bytes(int64_t rows) const {
    const int64_t panels = rows > kFewRows ? checked_mul(slots_->depth(), kColumns * 4, kWhat) : 0;
    return checked_add(sums_bytes(rows), panels, kWhat);
  }

  void gather(const RunContext& context, int64_t first, int64_t rows, float* left) const {
    const int64_t size = input_.channels / slots_->groups(), depth = slots_->group_depth();
    for (int64_t row = 0; row < rows; ++row) {
      const float* from = reinterpret_cast<const float*>(row_of(context, input_, first + row));
      for (int64_t g = 0; g < slots_->groups(); ++g, from += size, left += depth) {
        std::copy_n(from, size, left);
        std::fill(left + size, left + depth, 0.0f);
      }
    }
  }

  void run_rows(const RunContext& context, int64_t first, int64_t rows) const {
    float* left = reinterpret_cast<float*>(context.scratch);
    const int64_t left_bytes = round_up(rows * slots_->depth() * 4, 64);
    gather(context, first, rows, left);
    const double weights = static_cast<double>(slots_->depth()) * static_cast<double>(output_.channels);
    const double nanoseconds = weights * (rows > kFewRows ? 0.15 + 0.02 * static_cast<double>(rows)
                                                          : 0.05 * static_cast<double>(ceil_div(rows, kMostSlotRows)));
    const int64_t parts = ceil_div(slots_->blocks(), kPanelBlocks);
    for_rows(parts, nanoseconds, context.threads, [&](int worker, int64_t begin, int64_t end) {
      uint8_t* scratch = context.scratch + left_bytes + worker * part_bytes(rows);
      float* sums = reinterpret_cast<float*>(scratch);
      for (int64_t part = begin; part < end; ++part) {
        const int64_t block = part * kPanelBlocks, blocks = std::min(kPanelBlocks, slots_->blocks() - block);
        if (rows > kFewRows) {
          multiply_panels(context, block, blocks, left, rows, sums);
        } else {
          multiply_codes(context, block, blocks, left, rows, sums);
        }
        give_columns(context, output_, first, rows, block * kSlotColumns, sums, kColumns,
                     bias_ == nullptr ? nullptr : bias_->data());
      }
    });
  }

  void multiply_codes(const RunContext& context, int64_t block, int64_t blocks, const float* left, int64_t rows,
                      float* sums) const {
    const int64_t depth = slots_->depth();
    for (int64_t i = 0; i < blocks; ++i) {
      for (int64_t row = 0; row < rows; row += kMostSlotRows) {
        const SlotProduct product = {slots_->block(block + i),
                                     left + row * depth,
                                     depth,
                                     sums + row * kColumns + i * kSlotColumns,
                                     kColumns,
                                     std::min<int64_t>(kMostSlotRows, rows - row)};
        context.kernels->matrices->multiply_slots(&product);
      }
    }
  }

  void multiply_panels(const RunContext& context, int64_t block, int64_t blocks, const float* left, int64_t rows,
                       float* sums) const {
    const MatrixKernels& kernels = *context.kernels->matrices;
    const int64_t depth = slots_->depth(), columns = blocks * kSlotColumns;
    float* panels = sums + sums_bytes(rows) / 4;
    const SlotPanels unpacking = {slots_->block(block), blocks, panels};
    kernels.unpack_slots(&unpacking);
    const MatrixProduct product = {left,     depth, 1,     panels,  depth, columns, sums,
                                   kColumns, rows,  depth, columns, 1.0f,  nullptr};
    kernels.multiply(&product);
  }

  const Tensor& input_;
  const Tensor& output_;
  std::shared_ptr<const GroupSlots> slots_;
  Kept<float> bias_;
};

}  // namespace

std::unique_ptr<Operation> make_linear_weight_only(const LinearWeightOnlySpec& spec, Preparation& preparation) {
  return std::make_unique<LinearWeightOnly>(spec, preparation);
}

}  // namespace bitorch
