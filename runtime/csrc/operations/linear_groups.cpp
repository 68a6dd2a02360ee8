#include "operations/linear_groups.h"

#include <algorithm>

#include "core/base/rows.h"
#include "core/base/slots.h"
#include "operations/group_scales.h"

namespace bitorch {

LinearGroupsSpec read_linear_groups(const OperationReader& reader) {
  LinearGroupsSpec spec;
  ConvGeometry& g = spec.layer.conv.geometry;
  read_codes_input(reader, &spec.layer);
  read_out_channels(reader, true, &g);
  read_packed_weights(reader, &spec.layer);
  spec.groups = read_groups(reader, g.out_channels, g.in_channels);
  spec.scale = reader.floats("scale", {g.out_channels, spec.groups});
  if (reader.has("bias")) spec.bias = reader.floats("bias", {g.out_channels});
  spec.output = reader.output("output", Values::kFloat32, 0, spec.layer.input->axes, g.out_channels);
  return spec;
}

namespace {

// A code q stands for a + centre, a = factor q + offset, which is a signed byte.
struct SignedCodes {
  int32_t factor = 1, offset = 0, centre = 0;
};

SignedCodes signed_codes(const ConvSpec& conv) {
  if (conv.sign_activations) return {2, -1, 0};
  const int32_t largest = (1 << conv.activation_bits) - 1 - conv.zero_point;
  if (largest <= 127 && conv.zero_point <= 128) return {1, -conv.zero_point, 0};
  return {1, -128, 128 - conv.zero_point};
}

// Rows are those of all images. Their codes become signed bytes; then threads share the columns of the product, which
// are output channels. Of each group
//
//   sum of (step m + lowest)(a + centre) = step sum of m a  +  lowest sum of a  +  centre sum of codes
//                                                              one for each row    one for each column
class LinearGroups : public Operation {
 public:
  LinearGroups(const LinearGroupsSpec& spec, Preparation& preparation)
      : Operation({spec.layer.input}, {spec.output}),
        input_(*spec.layer.input),
        output_(*spec.output),
        codes_(signed_codes(spec.layer.conv)),
        step_(spec.layer.conv.code_step()),
        lowest_(spec.layer.conv.lowest_code()),
        wide_(spec.layer.conv.weight_bits == 8) {
    const ConvSpec& conv = spec.layer.conv;
    const PackedGroups packed = {conv.packed_weights, conv.weight_bits, step_ == 2,  spec.scale,
                                 output_.channels,    input_.channels,  spec.groups, true};
    Preparation::Key key = {Preparation::address(packed.weight),
                            packed.bits,
                            packed.odd,
                            Preparation::address(packed.scale),
                            packed.rows,
                            packed.inputs,
                            packed.groups,
                            packed.stored};
    slots_ = preparation.share<GroupSlots>(key, [&] { return GroupSlots(packed, preparation); });
    if (codes_.centre != 0) {
      key.push_back(codes_.centre);
      of_columns_ =
          *preparation.share<Kept<int32_t>>(key, [&] { return sums_of_groups(packed, codes_.centre, preparation); });
    }
    if (spec.bias != nullptr) bias_ = keep(preparation, spec.bias, output_.channels);
  }

  bool reads_planes(const Tensor&, const KernelTable&) const override { return false; }
  std::string kernel(const KernelTable& kernels) const override { return std::string("groups ") + kernels.name; }
  int64_t macs() const override { return input_.pixels() * input_.channels * output_.channels; }
  int64_t weight_bytes() const override {
    const int64_t columns = of_columns_ == nullptr ? 0 : of_columns_->size() * 4;
    return slots_->bytes() + columns + (bias_ == nullptr ? 0 : output_.channels * 4);
  }

  int64_t scratch_bytes(int64_t batch, int threads) const override {
    const int64_t rows = std::min(kMostRows, checked_mul(batch, input_.pixels(), kWhat));
    const int64_t shared = checked_add(left_bytes(rows), sums_bytes(rows), kWhat);
    return checked_add(shared, checked_mul(part_bytes(rows), threads, kWhat), kWhat);
  }

  void run(const RunContext& context) const override {
    for_parts_of_rows(context, input_, output_, [&](int64_t first, int64_t rows) { run_rows(context, first, rows); });
  }

 private:
  static constexpr const char* kWhat = "a linear_groups";

  // Scratch: bytes of all rows, the sums of their groups, and for each thread a block of the result.
  int64_t left_bytes(int64_t rows) const { return round_up(checked_mul(rows, slots_->depth(), kWhat), 64); }
  int64_t sums_bytes(int64_t rows) const { return round_up(checked_mul(rows, slots_->groups() * 4, kWhat), 64); }
  static int64_t part_bytes(int64_t rows) { return rows * kSlotColumns * 4; }

  void gather(const RunContext& context, int64_t first, int64_t rows, int8_t* left, int32_t* sums) const {
    const int64_t groups = slots_->groups();
    for (int64_t row = 0; row < rows; ++row) {
      const GroupRow codes = {row_of(context, input_, first + row),
                              groups,
                              input_.channels / groups,
                              slots_->slot_bits(),
                              codes_.factor,
                              codes_.offset,
                              left + row * slots_->depth(),
                              sums + row * groups};
      context.kernels->matrices->arrange_groups(&codes);
    }
  }

  void run_rows(const RunContext& context, int64_t first, int64_t rows) const {
    int8_t* left = reinterpret_cast<int8_t*>(context.scratch);
    int32_t* of_rows = reinterpret_cast<int32_t*>(context.scratch + left_bytes(rows));
    uint8_t* parts = context.scratch + left_bytes(rows) + sums_bytes(rows);
    gather(context, first, rows, left, of_rows);
    const double weights = static_cast<double>(slots_->depth()) * static_cast<double>(output_.channels);
    const double nanoseconds = weights * (0.02 + 0.01 * static_cast<double>(rows));
    for_rows(slots_->blocks(), nanoseconds, context.threads, [&](int worker, int64_t begin, int64_t end) {
      float* out = reinterpret_cast<float*>(parts + worker * part_bytes(rows));
      for (int64_t block = begin; block < end; ++block) {
        const GroupProduct product = product_of(block, rows, left, of_rows, out);
        context.kernels->matrices->multiply_groups(&product);
        give_columns(context, output_, first, rows, block * kSlotColumns, out, kSlotColumns,
                     bias_ == nullptr ? nullptr : bias_->data());
      }
    });
  }

  GroupProduct product_of(int64_t block, int64_t rows, const int8_t* left, const int32_t* of_rows, float* out) const {
    const int64_t columns = slots_->groups() * kSlotColumns;
    return {slots_->block(block),
            of_columns_ == nullptr ? nullptr : of_columns_->data() + block * columns,
            step_,
            lowest_,
            wide_,
            left,
            slots_->depth(),
            of_rows,
            out,
            kSlotColumns,
            rows};
  }

  const Tensor& input_;
  const Tensor& output_;
  SignedCodes codes_;
  int32_t step_, lowest_;
  bool wide_;
  std::shared_ptr<const GroupSlots> slots_;
  Kept<int32_t> of_columns_;  // null where codes have no centre
  Kept<float> bias_;
};

}  // namespace

std::unique_ptr<Operation> make_linear_groups(const LinearGroupsSpec& spec, Preparation& preparation) {
  return std::make_unique<LinearGroups>(spec, preparation);
}

}  // namespace bitorch
