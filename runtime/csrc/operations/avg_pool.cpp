// avg_pool and global_avg_pool: sums of codes are exact integers; float32 values are added one after the other in the
// order of rows and columns, as PyTorch does, so that the result is the same everywhere.
#include <cstring>

#include "core/base/rows.h"
#include "operations/operations.h"
#include "operations/pool_window.h"

namespace bitorch {

namespace {

float read_scale(const OperationReader& reader, const Tensor& input) {
  if (!reader.has("scale")) return input.is_codes() ? 1.0f / static_cast<float>((1 << input.bits) - 1) : 1.0f;
  if (!input.is_codes()) reader.fail("scale", "has a meaning only for codes, but the input is " + input.describe());
  return reader.number("scale");
}

void check_sum(const OperationReader& reader, const Tensor& input, int64_t values) {
  if (!input.is_codes()) return;
  const int64_t largest = checked_mul(values, (int64_t{1} << input.bits) - 1, "the sum of a pool");
  if (largest >= int64_t{1} << 31) reader.fail("sums of up to " + std::to_string(largest) + " must stay below 2^31");
}

// One multiplication, then one division.
void mean_of_codes(float* out, const int32_t* sums, int64_t n, float scale, float count) {
  for (int64_t i = 0; i < n; ++i) out[i] = static_cast<float>(sums[i]) * scale / count;
}

void mean_of_floats(float* values, int64_t n, float count) {
  for (int64_t i = 0; i < n; ++i) values[i] /= count;
}

void add_sums(int32_t* out, const int32_t* in, int64_t n) {
  for (int64_t i = 0; i < n; ++i) out[i] += in[i];
}

class AvgPool : public Operation {
 public:
  explicit AvgPool(const OperationReader& reader) : Operation(reader) {
    reader.allow({"input", "output", "kernel_size", "stride", "padding", "count_include_pad", "scale"});
    input_ = reader.input("input", {Values::kFloat32, Values::kCodes});
    window_ = PoolWindow(reader, *input_, false);
    count_padding_ = reader.flag("count_include_pad");
    scale_ = read_scale(reader, *input_);
    check_sum(reader, *input_, checked_mul(window_.y.kernel, window_.x.kernel, "a pool"));
    if (!count_padding_) {
      check_padding(reader, window_.y);
      check_padding(reader, window_.x);
    }
    output_ = reader.output("output", Values::kFloat32, 0, window_.outputs(), input_->channels);
    inputs_ = {input_};
    outputs_ = {output_};
  }

  void plan(const KernelTable&, Preparation&) override {
    if (!input_->is_codes()) return;
    const int64_t channels = input_->channels;
    sums_bytes_ = round_up(checked_mul(checked_mul(window_.x.padded(), channels, "a pool"), 4, "a pool"), 64);
    pixel_bytes_ = round_up(checked_mul(channels, 4, "a pool"), 64);
    const int64_t codes = round_up(checked_mul(input_->width, channels, "a pool"), 64);
    part_bytes_ = checked_add(checked_add(sums_bytes_, pixel_bytes_, "a pool"), codes, "a pool");
  }

  int64_t scratch_bytes(int64_t, int threads) const override { return checked_mul(part_bytes_, threads, "a pool"); }

  void run(const RunContext& context) const override {
    zero_halo(output_->layout, context.data(*output_), context.batch);
    const double values = static_cast<double>(context.batch * output_->height) *
                          static_cast<double>(input_->width * input_->channels) *
                          static_cast<double>(window_.y.kernel + 1);
    for_rows(context.batch * output_->height, values * 0.3, context.threads,
             [&](int part, int64_t first, int64_t last) {
               for (int64_t row = first; row < last; ++row) {
                 const int64_t n = row / output_->height, y = row % output_->height;
                 if (input_->is_codes()) {
                   run_codes(context, context.scratch + part * part_bytes_, n, y);
                 } else {
                   run_floats(context, n, y);
                 }
               }
             });
  }

 private:
  static void check_padding(const OperationReader& reader, const PoolAxis& axis) {
    if (axis.before >= axis.kernel || axis.after >= axis.kernel) {
      reader.fail("padding",
                  "must be smaller than the kernel where \"count_include_pad\" is false: a window of padding alone "
                  "has no average");
    }
  }

  float count(int64_t oy, int64_t ox) const {
    if (count_padding_) return static_cast<float>(window_.y.kernel * window_.x.kernel);
    return static_cast<float>((window_.y.last_tap(oy) - window_.y.first_tap(oy)) *
                              (window_.x.last_tap(ox) - window_.x.first_tap(ox)));
  }

  float* out_row(const RunContext& context, int64_t n, int64_t oy) const {
    return reinterpret_cast<float*>(context.data(*output_) + output_->layout.offset(n, oy, 0));
  }

  void run_codes(const RunContext& context, uint8_t* scratch, int64_t n, int64_t oy) const {
    const RowFunctions& rows = context.kernels->rows;
    const Layout& in = input_->layout;
    const int64_t channels = input_->channels;
    int32_t* sums = reinterpret_cast<int32_t*>(scratch);
    int32_t* pixel = reinterpret_cast<int32_t*>(scratch + sums_bytes_);
    uint8_t* codes = scratch + sums_bytes_ + pixel_bytes_;
    std::memset(sums, 0, static_cast<size_t>(sums_bytes_));
    for (int64_t tap = window_.y.first_tap(oy); tap < window_.y.last_tap(oy); ++tap) {
      const uint8_t* row = context.data(*input_) + in.offset(n, window_.y.start(oy) + tap, 0);
      row = read_codes(rows, in, row, in.width, codes);
      rows.add_bytes(sums + window_.x.before * channels, row, in.width * channels);
    }
    float* out = out_row(context, n, oy);
    for (int64_t ox = 0; ox < output_->width; ++ox, out += channels) {
      const int32_t* taps = sums + ox * window_.x.stride * channels;
      std::memcpy(pixel, taps, static_cast<size_t>(channels) * sizeof(int32_t));
      for (int64_t tap = 1; tap < window_.x.kernel; ++tap) add_sums(pixel, taps + tap * channels, channels);
      mean_of_codes(out, pixel, channels, scale_, count(oy, ox));
    }
  }

  void run_floats(const RunContext& context, int64_t n, int64_t oy) const {
    const RowFunctions& rows = context.kernels->rows;
    const Layout& in = input_->layout;
    const int64_t channels = input_->channels;
    float* out = out_row(context, n, oy);
    std::memset(out, 0, static_cast<size_t>(output_->width * channels) * sizeof(float));
    for (int64_t ox = 0; ox < output_->width; ++ox, out += channels) {
      const int64_t first = window_.x.first_tap(ox), last = window_.x.last_tap(ox);
      for (int64_t tap_y = window_.y.first_tap(oy); tap_y < window_.y.last_tap(oy); ++tap_y) {
        const int64_t y = window_.y.start(oy) + tap_y;
        for (int64_t tap_x = first; tap_x < last; ++tap_x) {
          const uint8_t* pixel = context.data(*input_) + in.offset(n, y, window_.x.start(ox) + tap_x);
          rows.add_floats(out, reinterpret_cast<const float*>(pixel), channels);
        }
      }
      mean_of_floats(out, channels, count(oy, ox));
    }
  }

  PoolWindow window_;
  bool count_padding_ = false;
  float scale_ = 1.0f;
  const Tensor* input_ = nullptr;
  const Tensor* output_ = nullptr;
  int64_t sums_bytes_ = 0, pixel_bytes_ = 0, part_bytes_ = 0;
};

class GlobalAvgPool : public Operation {
 public:
  explicit GlobalAvgPool(const OperationReader& reader) : Operation(reader) {
    reader.allow({"input", "output", "scale"});
    input_ = reader.input("input", {Values::kFloat32, Values::kCodes});
    scale_ = read_scale(reader, *input_);
    check_sum(reader, *input_, input_->pixels());
    output_ = reader.output("output", Values::kFloat32, 0, 1, 1, input_->channels);
    inputs_ = {input_};
    outputs_ = {output_};
  }

  void plan(const KernelTable&, Preparation&) override {
    if (!input_->is_codes()) return;
    sums_bytes_ = round_up(checked_mul(input_->channels, 4, "a pool"), 64);
    const int64_t codes = round_up(checked_mul(input_->width, input_->channels, "a pool"), 64);
    part_bytes_ = checked_add(sums_bytes_, codes, "a pool");
  }

  int64_t scratch_bytes(int64_t, int threads) const override { return checked_mul(part_bytes_, threads, "a pool"); }

  void run(const RunContext& context) const override {
    zero_halo(output_->layout, context.data(*output_), context.batch);
    const double values = static_cast<double>(context.batch) * static_cast<double>(input_->pixels()) *
                          static_cast<double>(input_->channels);
    for_rows(context.batch, values * 0.15, context.threads, [&](int part, int64_t first, int64_t last) {
      for (int64_t n = first; n < last; ++n) run_image(context, context.scratch + part * part_bytes_, n);
    });
  }

 private:
  void run_image(const RunContext& context, uint8_t* scratch, int64_t n) const {
    const RowFunctions& rows = context.kernels->rows;
    const Layout& in = input_->layout;
    const int64_t channels = input_->channels;
    const float count = static_cast<float>(input_->pixels());
    float* out = reinterpret_cast<float*>(context.data(*output_) + output_->layout.offset(n, 0, 0));
    int32_t* sums = reinterpret_cast<int32_t*>(scratch);
    if (input_->is_codes()) {
      std::memset(sums, 0, static_cast<size_t>(sums_bytes_));
    } else {
      std::memset(out, 0, static_cast<size_t>(channels) * sizeof(float));
    }
    for (int64_t y = 0; y < in.height; ++y) {
      const uint8_t* row = context.data(*input_) + in.offset(n, y, 0);
      if (!input_->is_codes()) {
        const float* values = reinterpret_cast<const float*>(row);
        for (int64_t x = 0; x < in.width; ++x) rows.add_floats(out, values + x * channels, channels);
        continue;
      }
      const uint8_t* codes = read_codes(rows, in, row, in.width, scratch + sums_bytes_);
      for (int64_t x = 0; x < in.width; ++x) rows.add_bytes(sums, codes + x * channels, channels);
    }
    if (input_->is_codes()) {
      mean_of_codes(out, sums, channels, scale_, count);
    } else {
      mean_of_floats(out, channels, count);
    }
  }

  float scale_ = 1.0f;
  const Tensor* input_ = nullptr;
  const Tensor* output_ = nullptr;
  int64_t sums_bytes_ = 0, part_bytes_ = 0;
};

}  // namespace

std::unique_ptr<Operation> make_avg_pool(const OperationReader& reader) { return std::make_unique<AvgPool>(reader); }

std::unique_ptr<Operation> make_global_avg_pool(const OperationReader& reader) {
  return std::make_unique<GlobalAvgPool>(reader);
}

}  // namespace bitorch
