// permute: the axes of a tensor in another order, channels among them.
#include <algorithm>
#include <cstring>

#include "core/base/rows.h"
#include "core/base/transpose.h"
#include "operations/operations.h"

namespace bitorch {

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

class Permute : public Operation {
 public:
  explicit Permute(const OperationReader& reader) : Operation(reader) {
    reader.allow({"input", "output", "axes"});
    input_ = reader.input("input", {Values::kFloat32, Values::kCodes});
    inputs_ = {input_};
    read_axes(reader);
    std::vector<int64_t> from = {input_->channels}, to;
    from.insert(from.end(), in_axes_.begin(), in_axes_.end());
    for (const int64_t axis : axes_) to.push_back(from[static_cast<size_t>(axis)]);
    out_axes_.assign(to.begin() + 1, to.end());
    output_ = reader.output("output", input_->values, input_->bits, out_axes_, to[0]);
    outputs_ = {output_};
    numbers_ = checked_mul(input_->pixels(), input_->channels, "a permute");
  }

  // Pixels can be copied as they are.
  bool prefers_planes(const Tensor&, const KernelTable&) const override {
    return output_->layout.kind == Kind::kPlanes && keeps_pixels();
  }

  void plan(const KernelTable&, Preparation&) override {
    const Layout& from = input_->layout;
    const Layout& to = output_->layout;
    unit_ = !input_->is_codes()                                                        ? 4
            : from.kind == Kind::kPlanes && to.kind == Kind::kPlanes && keeps_pixels() ? from.pixel_bytes
                                                                                       : 1;
    copies_planes_ = input_->is_codes() && from.kind == Kind::kPlanes && to.kind == Kind::kPlanes && keeps_pixels();
    unpacks_ = !copies_planes_ && from.kind == Kind::kPlanes;
    packs_ = !copies_planes_ && to.kind == Kind::kPlanes;
    const int64_t image = round_up(numbers_, 64);
    part_bytes_ = checked_mul(image, (unpacks_ ? 1 : 0) + (packs_ ? 1 : 0), "a permute");
    const auto in = unpacks_ ? strides_of(in_axes_, 1, from.channels, from.width * from.channels)
                             : strides_of(in_axes_, unit_, from.pixel_bytes, from.row_bytes);
    const auto out = packs_ ? strides_of(out_axes_, 1, to.channels, to.width * to.channels)
                            : strides_of(out_axes_, unit_, to.pixel_bytes, to.row_bytes);
    std::vector<Axis> list;  // in the order of the result's memory
    for (size_t i = 1; i < axes_.size(); ++i) list.push_back({out_axes_[i - 1], in[place(i)], out[i]});
    if (!copies_planes_) list.push_back({to.channels, in[place(0)], out[0]});
    steps_ = joined(list);
    find_inner();
  }

  int64_t scratch_bytes(int64_t, int threads) const override { return checked_mul(part_bytes_, threads, "a permute"); }

  void run(const RunContext& context) const override {
    zero_halo(output_->layout, context.data(*output_), context.batch);
    const double values = static_cast<double>(context.batch) * static_cast<double>(numbers_);
    for_rows(context.batch, values * 0.6, context.threads, [&](int part, int64_t first, int64_t last) {
      for (int64_t n = first; n < last; ++n) run_image(context, context.scratch + part * part_bytes_, n);
    });
  }

 private:
  size_t place(size_t i) const { return static_cast<size_t>(axes_[i]); }
  bool keeps_pixels() const { return axes_[0] == 0; }

  void read_axes(const OperationReader& reader) {
    const size_t rank = reader.count("axes");
    if (rank < 2 || rank > kMaxAxes) {
      reader.fail("axes", "must be a list of 2 to " + std::to_string(kMaxAxes) + " axes, 0 being the channels");
    }
    axes_ = reader.integers("axes", rank, 0, static_cast<int64_t>(rank) - 1);
    std::vector<int64_t> sorted = axes_;
    std::sort(sorted.begin(), sorted.end());
    for (size_t i = 0; i < rank; ++i) {
      if (sorted[i] != static_cast<int64_t>(i)) reader.fail("axes", "must have each axis once");
    }
    in_axes_ = as_axes(input_->axes, rank - 1);
    if (in_axes_.empty()) reader.fail("axes", "must have all axes of the tensor, " + input_->describe());
  }

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

  void run_image(const RunContext& context, uint8_t* scratch, int64_t n) const {
    const RowFunctions& functions = context.kernels->rows;
    const Layout& from = input_->layout;
    const Layout& to = output_->layout;
    const uint8_t* in = context.data(*input_) + from.offset(n, 0, 0);
    uint8_t* out = context.data(*output_) + to.offset(n, 0, 0);
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

  const Tensor* input_ = nullptr;
  const Tensor* output_ = nullptr;
  std::vector<int64_t> axes_;
  RowAxes in_axes_, out_axes_;
  int64_t numbers_ = 0, part_bytes_ = 0, unit_ = 1;
  bool copies_planes_ = false, unpacks_ = false, packs_ = false;
  std::vector<Axis> steps_;  // all but the inner ones, outermost first
  Axis inner_ = {1, 1, 1}, other_ = {1, 1, 1};
};

}  // namespace

std::unique_ptr<Operation> make_permute(const OperationReader& reader) { return std::make_unique<Permute>(reader); }

}  // namespace bitorch
