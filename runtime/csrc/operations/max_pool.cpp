#include "operations/max_pool.h"

#include <cstring>
#include <limits>

#include "core/base/rows.h"
#include "core/graph/row_operation.h"

namespace bitorch {

MaxPoolSpec read_max_pool(const OperationReader& reader) {
  MaxPoolSpec spec;
  spec.input = reader.input("input", {Values::kFloat32, Values::kCodes});
  const Tensor& input = *spec.input;
  spec.window = read_pool_window(reader, input, true);
  spec.output = reader.output("output", input.values, input.bits, spec.window.outputs(), input.channels);
  return spec;
}

namespace {

// A run of pixels in any layout: `planes` planes of contiguous pixels.
struct Run {
  uint8_t* data;
  int64_t plane_bytes;
};

template <int kBytesEach>
void gather_fixed(uint8_t* out, const uint8_t* in, int64_t in_step, int64_t count) {
  for (int64_t i = 0; i < count; ++i) std::memcpy(out + i * kBytesEach, in + i * in_step, kBytesEach);
}

// Pixels of `bytes` bytes that lie in_step apart, put side by side.
void gather(uint8_t* out, const uint8_t* in, int64_t in_step, int64_t count, int64_t bytes) {
  switch (bytes) {
    case 1:
      return gather_fixed<1>(out, in, in_step, count);
    case 2:
      return gather_fixed<2>(out, in, in_step, count);
    case 4:
      return gather_fixed<4>(out, in, in_step, count);
    case 8:
      return gather_fixed<8>(out, in, in_step, count);
    case 16:
      return gather_fixed<16>(out, in, in_step, count);
    case 32:
      return gather_fixed<32>(out, in, in_step, count);
    case 64:
      return gather_fixed<64>(out, in, in_step, count);
    default:
      for (int64_t i = 0; i < count; ++i) std::memcpy(out + i * bytes, in + i * in_step, static_cast<size_t>(bytes));
  }
}

// Rows first, then columns, on float32, bytes, or bit planes as they are. Scratch of a part:
//
//   padded  the maximum over the window's rows   | left padding | width pixels | right padding |
//   out     the outputs before they are converted, one row
//   taken   every stride-th pixel of a tap, one row
//   codes   the outputs in bytes on their way from one layout to the other
class MaxPool : public RowOperation {
 public:
  explicit MaxPool(const MaxPoolSpec& spec)
      : RowOperation("a pool", spec.output->height, {spec.input}, {spec.output}),
        spec_(spec),
        window_(spec.window),
        input_(spec.input),
        output_(spec.output) {}

  const MaxPoolSpec& spec() const { return spec_; }

  bool prefers_planes(const Tensor&, const KernelTable&) const override {
    return output_->layout.kind == Kind::kPlanes;
  }

  bool writes_part(const Tensor&) const override { return takes_taps(); }

  void plan(const KernelTable&, Preparation&) override {
    const Layout& in = input_->layout;
    planes_ = in.kind == Kind::kPlanes ? in.bits : 1;
    padded_plane_ = checked_mul(window_.x.padded(), in.pixel_bytes, what());
    out_plane_ = checked_mul(output_->width, in.pixel_bytes, what());
    padded_bytes_ = room(padded_plane_, planes_);
    out_bytes_ = room(out_plane_, planes_);
    const int64_t codes = room(output_->width, output_->channels);
    part_bytes_ = checked_add(padded_bytes_, checked_add(checked_mul(out_bytes_, 2, what()), codes, what()), what());
  }

 private:
  bool reads_by_rows() const override { return !window_.has_depth(); }
  RowSpan rows_read(const Tensor&, RowSpan rows) const override { return window_.y.rows_read(rows); }

  double row_cost() const override {
    const double bytes = static_cast<double>(padded_plane_ * planes_);
    return bytes * static_cast<double>(window_.z.kernel * window_.y.kernel + 2) * 0.05;
  }

  // The paddings on the left and on the right stay what they are from row to row.
  void start_part(uint8_t* scratch) const override { fill_lowest({scratch, padded_plane_}, window_.x.padded()); }

  // Floats of small windows: each output from all of its taps at once, in the order of rows and columns.
  bool takes_taps() const {
    const int64_t taps = window_.z.kernel * window_.y.kernel * window_.x.kernel;
    return input_->layout.kind == Kind::kFloat && taps <= kTaps && input_->channels >= 8;
  }

  void run_row_of_taps(const RunContext& context, int64_t n, int64_t oy) const {
    const Layout& in = input_->layout;
    const int64_t step_x = window_.x.dilation * in.pixel_bytes;
    for (int64_t ox = 0; ox < output_->width; ++ox) {
      float* out = context.floats(*output_, n, oy, ox);
      const int64_t first_x = window_.x.first_tap(ox), last_x = window_.x.last_tap(ox);
      const float* taps[kTaps];
      int count = 0;
      window_.each_row(oy, [&](int64_t y) {
        const uint8_t* tap = context.pixel(*input_, n, y, window_.x.start(ox)) + first_x * step_x;
        for (int64_t x = first_x; x < last_x; ++x, tap += step_x) taps[count++] = reinterpret_cast<const float*>(tap);
      });
      if (count == 0) {
        std::fill_n(out, input_->channels, -std::numeric_limits<float>::infinity());
      } else {
        context.kernels->rows.max_of_floats(out, taps, count, input_->channels);
      }
    }
  }

  void run_row(const RunContext& context, uint8_t* scratch, int64_t n, int64_t oy) const override {
    if (takes_taps()) return run_row_of_taps(context, n, oy);
    const RowFunctions& rows = context.kernels->rows;
    const Layout& layout = output_->layout;
    const Run padded = {scratch, padded_plane_};
    reduce_rows(context, padded, n, oy);
    uint8_t* pixel = context.pixel(*output_, n, oy);
    const Run staged = {scratch + padded_bytes_, out_plane_};
    const Run taken = {scratch + padded_bytes_ + out_bytes_, out_plane_};
    if (layout.kind == input_->layout.kind) {
      reduce_columns(rows, padded, {pixel, layout.plane_bytes}, taken);
      return;
    }
    reduce_columns(rows, padded, staged, taken);
    Layout row = input_->layout;
    row.plane_bytes = out_plane_;
    const uint8_t* codes = read_codes(rows, row, staged.data, output_->width, scratch + padded_bytes_ + 2 * out_bytes_);
    write_codes(rows, layout, pixel, output_->width, codes);
  }

  // The maximum over the window's rows, between the paddings on the left and on the right.
  void reduce_rows(const RunContext& context, const Run& padded, int64_t n, int64_t oy) const {
    const Layout& in = input_->layout;
    const Run inner = {padded.data + window_.x.before * in.pixel_bytes, padded.plane_bytes};
    bool is_first = true;
    window_.each_row(oy, [&](int64_t y) {
      const uint8_t* row = context.pixel(*input_, n, y);
      if (is_first) {
        copy(inner, row, in.plane_bytes, in.width);
      } else {
        maximum(context.kernels->rows, inner, row, in.plane_bytes, in.width);
      }
      is_first = false;
    });
    if (is_first) fill_lowest(padded, window_.x.padded());
  }

  // The maximum over the window's columns. `taken` is room for one row of outputs.
  void reduce_columns(const RowFunctions& rows, const Run& padded, const Run& out, const Run& taken) const {
    const int64_t pixel = input_->layout.pixel_bytes;
    const bool dense = window_.x.stride == 1;
    for (int64_t tap = 0; tap < window_.x.kernel; ++tap) {
      const uint8_t* in = padded.data + tap * window_.x.dilation * pixel;
      if (dense && tap > 0) {
        maximum(rows, out, in, padded.plane_bytes, output_->width);
      } else if (dense) {
        copy(out, in, padded.plane_bytes, output_->width);
      } else {
        const Run& target = tap == 0 ? out : taken;
        for (int64_t i = 0; i < planes_; ++i) {
          gather(target.data + i * target.plane_bytes, in + i * padded.plane_bytes, window_.x.stride * pixel,
                 output_->width, pixel);
        }
        if (tap > 0) maximum(rows, out, taken.data, taken.plane_bytes, output_->width);
      }
    }
  }

  void copy(const Run& out, const uint8_t* in, int64_t in_plane_bytes, int64_t pixels) const {
    const size_t bytes = static_cast<size_t>(pixels * input_->layout.pixel_bytes);
    for (int64_t i = 0; i < planes_; ++i) std::memcpy(out.data + i * out.plane_bytes, in + i * in_plane_bytes, bytes);
  }

  void maximum(const RowFunctions& rows, const Run& out, const uint8_t* in, int64_t in_plane_bytes,
               int64_t pixels) const {
    const Layout& layout = input_->layout;
    switch (layout.kind) {
      case Kind::kFloat:
        return rows.max_floats(reinterpret_cast<float*>(out.data), reinterpret_cast<const float*>(in),
                               pixels * layout.channels);
      case Kind::kPlanes:
        return rows.max_planes(out.data, out.plane_bytes, in, in_plane_bytes, pixels * layout.pixel_bytes, layout.bits);
      default:
        return rows.max_bytes(out.data, in, pixels * layout.channels);
    }
  }

  void fill_lowest(const Run& out, int64_t pixels) const {
    if (input_->layout.kind == Kind::kFloat) {
      float* values = reinterpret_cast<float*>(out.data);
      std::fill_n(values, pixels * input_->channels, -std::numeric_limits<float>::infinity());
      return;
    }
    const size_t bytes = static_cast<size_t>(pixels * input_->layout.pixel_bytes);
    for (int64_t i = 0; i < planes_; ++i) std::memset(out.data + i * out.plane_bytes, 0, bytes);
  }

  static constexpr int kTaps = 9;

  MaxPoolSpec spec_;
  PoolWindow window_;
  const Tensor* input_;
  const Tensor* output_;
  int64_t planes_ = 1, padded_plane_ = 0, out_plane_ = 0, padded_bytes_ = 0, out_bytes_ = 0;
};

}  // namespace

const MaxPoolSpec* as_max_pool(const Operation& operation) {
  const auto* pool = dynamic_cast<const MaxPool*>(&operation);
  return pool == nullptr ? nullptr : &pool->spec();
}

std::unique_ptr<Operation> make_max_pool(const MaxPoolSpec& spec, Preparation&) {
  return std::make_unique<MaxPool>(spec);
}

}  // namespace bitorch
