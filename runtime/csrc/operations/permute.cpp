#include "operations/permute.h"

#include <algorithm>
#include <cstring>

#include "core/base/rows.h"
#include "core/base/transpose.h"
#include "core/graph/row_operation.h"

namespace bitorch {

namespace {

std::vector<int64_t> read_axes(const OperationReader& reader) {
  const size_t rank = reader.count("axes");
  if (rank < 2 || rank > kMaxAxes) {
    reader.fail("axes", "must be a list of 2 to " + std::to_string(kMaxAxes) + " axes, 0 being the channels");
  }
  std::vector<int64_t> axes = reader.integers("axes", rank, 0, static_cast<int64_t>(kMaxAxes) - 1);
  for (size_t i = 0; i < rank; ++i) {
    const bool is_there = std::find(axes.begin(), axes.end(), static_cast<int64_t>(i)) != axes.end();
    if (!is_there) reader.fail("axes", "must have each axis once");
  }
  return axes;
}

}  // namespace

PermuteSpec read_permute(const OperationReader& reader) {
  PermuteSpec spec;
  spec.input = reader.input("input", {Values::kFloat32, Values::kCodes});
  const Tensor& input = *spec.input;
  spec.axes = read_axes(reader);
  spec.from = as_axes(input.axes, spec.axes.size() - 1);
  if (spec.from.empty()) reader.fail("axes", "must have all axes of the tensor, " + input.describe());
  std::vector<int64_t> sizes = {input.channels};
  sizes.insert(sizes.end(), spec.from.begin(), spec.from.end());
  for (size_t i = 1; i < spec.axes.size(); ++i) spec.to.push_back(sizes[static_cast<size_t>(spec.axes[i])]);
  spec.output = reader.output("output", input.values, input.bits, spec.to, sizes[static_cast<size_t>(spec.axes[0])]);
  checked_mul(input.pixels(), input.channels, "a permute");
  return spec;
}

namespace {

// An axis of the result: its size, and from one place to the next in both memories, in bytes.
struct Axis {
  int64_t size, in, out;
};

// Where the places of each axis [C, rows ...] lie in memory of this layout, in bytes.
std::vector<int64_t> strides_of(const RowAxes& axes, int64_t channel_bytes, int64_t pixel_bytes, int64_t row_bytes) {
  std::vector<int64_t> strides(axes.size() + 1, channel_bytes);
  int64_t stride = row_bytes;
  for (size_t i = axes.size(); i-- > 0;) {
    strides[i + 1] = i + 1 == axes.size() ? pixel_bytes : stride;
    if (i + 1 < axes.size()) stride *= axes[i];
  }
  return strides;
}

// Axes that follow one another in both memories, as one; those of one place left out.
std::vector<Axis> joined(const std::vector<Axis>& axes) {
  std::vector<Axis> list;
  for (const Axis& axis : axes) {
    if (axis.size == 1) continue;
    if (!list.empty() && list.back().in == axis.in * axis.size && list.back().out == axis.out * axis.size) {
      list.back() = {list.back().size * axis.size, axis.in, axis.out};
    } else {
      list.push_back(axis);
    }
  }
  return list;
}

// Whole images. Codes in bit planes are unpacked and packed again, unless the channels stay where they are.
class Permute : public RowOperation {
 public:
  explicit Permute(const PermuteSpec& spec)
      : RowOperation("a permute", 1, {spec.input}, {spec.output}),
        spec_(spec),
        input_(*spec.input),
        output_(*spec.output),
        numbers_(spec.input->pixels() * spec.input->channels) {}

  // Pixels can be copied as they are.
  bool prefers_planes(const Tensor&, const KernelTable&) const override {
    return output_.layout.kind == Kind::kPlanes && keeps_pixels();
  }

  void plan(const KernelTable&, Preparation&) override {
    const Layout& from = input_.layout;
    const Layout& to = output_.layout;
    copies_planes_ = input_.is_codes() && from.kind == Kind::kPlanes && to.kind == Kind::kPlanes && keeps_pixels();
    unit_ = copies_planes_ ? from.pixel_bytes : input_.is_codes() ? 1 : 4;
    unpacks_ = !copies_planes_ && from.kind == Kind::kPlanes;
    packs_ = !copies_planes_ && to.kind == Kind::kPlanes;
    part_bytes_ = room(numbers_, 1) * ((unpacks_ ? 1 : 0) + (packs_ ? 1 : 0));
    const auto in = unpacks_ ? strides_of(spec_.from, 1, from.channels, from.width * from.channels)
                             : strides_of(spec_.from, unit_, from.pixel_bytes, from.row_bytes);
    const auto out = packs_ ? strides_of(spec_.to, 1, to.channels, to.width * to.channels)
                            : strides_of(spec_.to, unit_, to.pixel_bytes, to.row_bytes);
    std::vector<Axis> list;  // in the order of the result's memory
    for (size_t i = 1; i < spec_.axes.size(); ++i) list.push_back({spec_.to[i - 1], in[place(i)], out[i]});
    if (!copies_planes_) list.push_back({to.channels, in[place(0)], out[0]});
    steps_ = joined(list);
    find_inner();
  }

 private:
  double row_cost() const override { return static_cast<double>(numbers_) * 0.6; }

  size_t place(size_t i) const { return static_cast<size_t>(spec_.axes[i]); }
  bool keeps_pixels() const { return spec_.axes[0] == 0; }

  // The result's innermost axis is written without gaps. Where the source has it with gaps, and another axis without,
  // the two are transposed.
  void find_inner() {
    if (steps_.empty()) steps_.push_back({1, unit_, unit_});
    inner_ = steps_.back();
    steps_.pop_back();
    other_ = {1, unit_, unit_};
    if (inner_.in == unit_ || inner_.out != unit_ || (unit_ != 1 && unit_ != 4)) return;
    const auto found = std::find_if(steps_.begin(), steps_.end(), [&](const Axis& axis) { return axis.in == unit_; });
    if (found == steps_.end()) return;
    other_ = *found;
    steps_.erase(found);
  }

  void run_row(const RunContext& context, uint8_t* scratch, int64_t n, int64_t) const override {
    const RowFunctions& functions = context.kernels->rows;
    const Layout& from = input_.layout;
    const Layout& to = output_.layout;
    const uint8_t* in = context.data(input_) + from.offset(n, 0, 0);
    uint8_t* out = context.data(output_) + to.offset(n, 0, 0);
    if (unpacks_) {
      for (int64_t y = 0; y < from.height; ++y) {
        read_codes(functions, from, in + y * from.row_bytes, from.width, scratch + y * from.width * from.channels);
      }
    }
    uint8_t* staged = scratch + (unpacks_ ? round_up(numbers_, 64) : 0);
    const int64_t planes = copies_planes_ ? from.bits : 1;
    for (int64_t i = 0; i < planes; ++i) {
      copy(0, unpacks_ ? scratch : in + i * from.plane_bytes, packs_ ? staged : out + i * to.plane_bytes);
    }
    if (!packs_) return;
    for (int64_t y = 0; y < to.height; ++y) {
      write_codes(functions, to, out + y * to.row_bytes, to.width, staged + y * to.width * to.channels);
    }
  }

  void copy(size_t depth, const uint8_t* in, uint8_t* out) const {
    if (depth < steps_.size()) {
      const Axis& step = steps_[depth];
      for (int64_t i = 0; i < step.size; ++i) copy(depth + 1, in + i * step.in, out + i * step.out);
      return;
    }
    if (inner_.in == unit_ && inner_.out == unit_) {
      std::memcpy(out, in, static_cast<size_t>(inner_.size * unit_));
    } else if (inner_.out == unit_ && other_.in == unit_ && (unit_ == 1 || unit_ == 4)) {
      transpose(in, inner_.in / unit_, out, other_.out / unit_, inner_.size, other_.size, unit_);
    } else {
      for (int64_t i = 0; i < inner_.size; ++i) {
        std::memcpy(out + i * inner_.out, in + i * inner_.in, static_cast<size_t>(unit_));
      }
    }
  }

  PermuteSpec spec_;
  const Tensor& input_;
  const Tensor& output_;
  int64_t numbers_, unit_ = 1;
  bool copies_planes_ = false, unpacks_ = false, packs_ = false;
  std::vector<Axis> steps_;  // all but the inner ones, outermost first
  Axis inner_ = {1, 1, 1}, other_ = {1, 1, 1};
};

}  // namespace

std::unique_ptr<Operation> make_permute(const PermuteSpec& spec, Preparation&) {
  return std::make_unique<Permute>(spec);
}

}  // namespace bitorch
