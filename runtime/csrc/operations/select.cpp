#include "operations/select.h"

#include <algorithm>
#include <cstring>
#include <vector>

#include "core/base/rows.h"
#include "core/graph/row_operation.h"

namespace bitorch {

SelectSpec read_select(const OperationReader& reader) {
  SelectSpec spec;
  spec.input = reader.input("input", {Values::kFloat32, Values::kCodes});
  const Tensor& input = *spec.input;
  const ArrayView& array = reader.array("channels");
  if (array.shape.size() != 1 || array.shape[0] < 1) {
    reader.fail("channels", "the array is " + array.describe() + ", but must be int32 [K] of one or more channels");
  }
  const int64_t count = array.shape[0];
  spec.channels = reader.integers32("channels", array.shape);
  reader.preparation().budget().work(checked_mul(count, 2, "a select"));
  for (int64_t k = 0; k < count; ++k) {
    if (spec.channels[k] >= 0 && spec.channels[k] < input.channels) continue;
    reader.fail("channels", "entry " + std::to_string(k) + " is " + std::to_string(spec.channels[k]) +
                                ", but the channels of \"" + input.name + "\" are 0 to " +
                                std::to_string(input.channels - 1));
  }
  spec.output = reader.output("output", input.values, input.bits, input.axes, count);
  return spec;
}

namespace {

// Channels to .. to+count-1 are the channels from .. from+count-1 of the input.
struct ChannelRun {
  int64_t from, to, count;
};

AlignedArray<ChannelRun> find_runs(const AlignedArray<int32_t>& channels, Budget& budget) {
  int64_t count = 1;
  for (int64_t k = 1; k < channels.size(); ++k) count += channels[k] != channels[k - 1] + 1;
  AlignedArray<ChannelRun> runs(budget, count, "runs of channels");
  ChannelRun* run = runs.data();
  *run = {channels[0], 0, 1};
  for (int64_t k = 1; k < channels.size(); ++k) {
    if (channels[k] == channels[k - 1] + 1) {
      ++run->count;
    } else {
      *++run = {channels[k], k, 1};
    }
  }
  return runs;
}

// Where each 64 bytes of taken channels, `lanes` channels, come from; empty where two windows do not hold them.
std::vector<TakeWindows> find_windows(const AlignedArray<int32_t>& channels, int64_t in_channels, int64_t lanes) {
  const auto first_lanes = [&](int64_t count) {
    const int64_t there = std::min(count, lanes);
    return there == 64 ? ~uint64_t{0} : (uint64_t{1} << there) - 1;
  };
  std::vector<TakeWindows> windows;
  for (int64_t k = 0; k < channels.size(); k += lanes) {
    const int64_t count = std::min(lanes, channels.size() - k);
    const int32_t* wanted = channels.data() + k;
    TakeWindows w = {};
    w.first = *std::min_element(wanted, wanted + count);
    w.second = w.first;
    for (int64_t i = 0; i < count; ++i) {
      const bool beyond = wanted[i] >= w.first + lanes;
      if (beyond && (w.second == w.first || wanted[i] < w.second)) w.second = wanted[i];
    }
    for (int64_t i = 0; i < count; ++i) {
      const int64_t from_first = wanted[i] - w.first, from_second = wanted[i] - w.second;
      if (from_first >= lanes && from_second >= lanes) return {};
      w.index[i] = static_cast<uint8_t>(from_first < lanes ? from_first : lanes + from_second);
    }
    w.first_channels = first_lanes(in_channels - w.first);
    w.second_channels = first_lanes(in_channels - w.second);
    w.taken = first_lanes(count);
    windows.push_back(w);
  }
  return windows;
}

class Select : public RowOperation {
 public:
  Select(const SelectSpec& spec, Preparation& preparation)
      : RowOperation("a select", spec.output->height, {spec.input}, {spec.output}),
        input_(*spec.input),
        output_(*spec.output) {
    const int64_t count = output_.channels;
    channels_ = keep(preparation, spec.channels, count);
    runs_ = preparation.share<AlignedArray<ChannelRun>>({Preparation::address(spec.channels), count},
                                                        [&] { return find_runs(*channels_, preparation.budget()); });
    for (const ChannelRun& run : *runs_) {
      // What fills up the last byte of the input is zero.
      const bool whole = run.count % 8 == 0 || run.from + run.count == input_.channels;
      whole_bytes_ = whole_bytes_ && whole && run.from % 8 == 0 && run.to % 8 == 0;
    }
  }

  // Planes can be taken apart as they are where every run begins at a byte.
  bool prefers_planes(const Tensor&, const KernelTable&) const override {
    return output_.layout.kind == Kind::kPlanes && whole_bytes_;
  }

  bool reads_part(const Tensor&) const override { return keeps_planes() || input_.layout.kind != Kind::kPlanes; }
  bool writes_part(const Tensor&) const override { return keeps_planes() || output_.layout.kind != Kind::kPlanes; }

  void plan(const KernelTable& kernels, Preparation& preparation) override {
    constexpr int64_t kLongRun = 16;  // from here on, copies beat a loop over the channels
    copies_runs_ = channels_->size() / runs_->size() >= kLongRun;
    same_planes_ = keeps_planes();
    plan_windows(kernels.rows, preparation.budget());
    if (!input_.is_codes() || same_planes_) return;
    codes_bytes_ = room(input_.width, input_.channels);
    part_bytes_ = checked_add(codes_bytes_, room(output_.width, output_.channels), what());
  }

  int64_t weight_bytes() const override { return channels_->size() * 4; }

 private:
  bool keeps_planes() const {
    return whole_bytes_ && input_.layout.kind == Kind::kPlanes && output_.layout.kind == Kind::kPlanes;
  }

  void plan_windows(const RowFunctions& rows, Budget& budget) {
    take_windows_ = input_.is_codes() ? rows.take_bytes : rows.take_floats;
    if (take_windows_ == nullptr || copies_runs_ || same_planes_) return;
    const std::vector<TakeWindows> windows = find_windows(*channels_, input_.channels, input_.is_codes() ? 64 : 16);
    windows_ = AlignedArray<TakeWindows>(budget, static_cast<int64_t>(windows.size()), "windows of channels");
    std::copy(windows.begin(), windows.end(), windows_.begin());
  }

  bool reads_by_rows() const override { return true; }
  double row_cost() const override { return row_values(output_) * (same_planes_ || copies_runs_ ? 0.15 : 0.5); }

  void run_row(const RunContext& context, uint8_t* scratch, int64_t n, int64_t y) const override {
    const RowFunctions& rows = context.kernels->rows;
    const Layout& from = input_.layout;
    const Layout& to = output_.layout;
    const uint8_t* in = context.pixel(input_, n, y);
    uint8_t* out = context.pixel(output_, n, y);
    if (same_planes_) {
      for (int64_t i = 0; i < to.bits; ++i) {
        copy_runs(out + i * to.plane_bytes, to.pixel_bytes, in + i * from.plane_bytes, from.pixel_bytes, 1, 8);
      }
    } else if (input_.is_codes()) {
      const uint8_t* codes = read_codes(rows, from, in, from.width, scratch);
      uint8_t* row = to.kind == Kind::kBytes ? out : scratch + codes_bytes_;
      take(row, row == out ? to.pixel_bytes : to.channels, codes, codes == in ? from.pixel_bytes : from.channels);
      if (row != out) write_codes(rows, to, out, to.width, row);
    } else {
      take(reinterpret_cast<float*>(out), to.pixel_bytes / 4, reinterpret_cast<const float*>(in), from.pixel_bytes / 4);
    }
  }

  // One row of pixels, so many numbers apart.
  template <class T>
  void take(T* out, int64_t out_step, const T* in, int64_t in_step) const {
    const int64_t count = output_.channels;
    const auto size = static_cast<int64_t>(sizeof(T));
    if (windows_.size() != 0) {
      const TakeRow row = {reinterpret_cast<const uint8_t*>(in),
                           reinterpret_cast<uint8_t*>(out),
                           in_step * size,
                           out_step * size,
                           input_.width,
                           windows_.size(),
                           windows_.data()};
      return take_windows_(&row);
    }
    if (copies_runs_) {
      copy_runs(reinterpret_cast<uint8_t*>(out), out_step * size, reinterpret_cast<const uint8_t*>(in), in_step * size,
                size, 1);
      return;
    }
    const int32_t* channels = channels_->data();
    for (int64_t x = 0; x < output_.width; ++x, out += out_step, in += in_step) {
      for (int64_t k = 0; k < count; ++k) out[k] = in[channels[k]];
    }
  }

  // A channel takes bytes / per_byte bytes.
  void copy_runs(uint8_t* out, int64_t out_step, const uint8_t* in, int64_t in_step, int64_t bytes,
                 int64_t per_byte) const {
    for (int64_t x = 0; x < output_.width; ++x, out += out_step, in += in_step) {
      for (const ChannelRun& run : *runs_) {
        std::memcpy(out + run.to * bytes / per_byte, in + run.from * bytes / per_byte,
                    static_cast<size_t>(ceil_div(run.count * bytes, per_byte)));
      }
    }
  }

  const Tensor& input_;
  const Tensor& output_;
  Kept<int32_t> channels_;
  Kept<ChannelRun> runs_;
  bool whole_bytes_ = true;  // every run begins and ends at a byte of a bit plane
  bool copies_runs_ = false, same_planes_ = false;
  int64_t codes_bytes_ = 0;
  void (*take_windows_)(const TakeRow*) = nullptr;
  AlignedArray<TakeWindows> windows_;  // empty where they do not serve
};

}  // namespace

std::unique_ptr<Operation> make_select(const SelectSpec& spec, Preparation& preparation) {
  return std::make_unique<Select>(spec, preparation);
}

}  // namespace bitorch
