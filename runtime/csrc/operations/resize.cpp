#include "operations/resize.h"

#include <algorithm>
#include <cmath>

#include "core/graph/row_operation.h"
#include "core/resize_kernels.h"
#include "operations/resize_nearest.h"

namespace bitorch {

namespace {

ResizeMode read_mode(const OperationReader& reader) {
  const std::string mode = reader.choice("mode", {"nearest", "linear", "cubic"});
  return mode == "nearest" ? ResizeMode::kNearest : mode == "linear" ? ResizeMode::kLinear : ResizeMode::kCubic;
}

// A positive number for each axis.
void read_scale(const OperationReader& reader, ResizeSpec* spec) {
  if (!reader.has("scale")) return;
  if (spec->mode == ResizeMode::kNearest || spec->align_corners) {
    reader.fail("scale", "has a meaning only where pixels are blended, without \"align_corners\"");
  }
  const std::vector<Json>& numbers = reader.list("scale").items();
  if (numbers.size() != spec->axes)
    reader.fail("scale", "must be a list of " + std::to_string(spec->axes) + " numbers");
  for (size_t i = 0; i < numbers.size(); ++i) {
    const bool fits = numbers[i].is_number() && numbers[i].real() >= 1e-6 && numbers[i].real() <= 1e6;
    if (!fits) reader.fail("scale", "must be numbers from 1e-6 to 1e6");
    spec->axis[kWindowAxes - spec->axes + i].scale = numbers[i].real();
  }
}

}  // namespace

ResizeSpec read_resize(const OperationReader& reader) {
  ResizeSpec spec;
  spec.mode = read_mode(reader);
  const bool nearest = spec.mode == ResizeMode::kNearest;
  spec.input =
      nearest ? reader.input("input", {Values::kFloat32, Values::kCodes}) : reader.input("input", {Values::kFloat32});
  const Tensor& input = *spec.input;
  spec.axes = read_window_axes(reader, "output_size", input);
  if (spec.mode == ResizeMode::kCubic && spec.axes != 2) reader.fail("mode", "needs two axes to be \"cubic\"");
  const auto outputs = read_per_axis(reader, "output_size", spec.axes, 1, 1);
  const RowAxes sizes = as_axes(input.axes, kWindowAxes);
  for (size_t i = 0; i < kWindowAxes; ++i) spec.axis[i] = {sizes[i], outputs[i], 0.0};
  if (reader.has("align_corners") && nearest)
    reader.fail("align_corners", "has no meaning where no pixels are blended");
  spec.align_corners = reader.flag("align_corners", false);
  read_scale(reader, &spec);
  const RowAxes axes(outputs.end() - static_cast<std::ptrdiff_t>(spec.axes), outputs.end());
  spec.output = reader.output("output", input.values, input.bits, axes, input.channels);
  return spec;
}

namespace {

constexpr const char* kWhat = "a resize";

// Where output o of an axis lies between the pixels of the input: PyTorch's numbers.
float source(const ResizeAxis& axis, bool align_corners, int64_t o) {
  const auto at = static_cast<float>(o);
  if (align_corners) {
    if (axis.outputs == 1) return 0.0f;
    return static_cast<float>(axis.size - 1) / static_cast<float>(axis.outputs - 1) * at;
  }
  const float step = axis.scale != 0.0 ? static_cast<float>(1.0 / axis.scale)
                                       : static_cast<float>(axis.size) / static_cast<float>(axis.outputs);
  return static_cast<float>(static_cast<double>(step) * static_cast<double>(at + 0.5f) - 0.5);  // rounded once
}

float near_cubic(float x) {
  constexpr float a = -0.75f;
  return ((a + 2.0f) * x - (a + 3.0f)) * x * x + 1.0f;
}
float far_cubic(float x) {
  constexpr float a = -0.75f;
  return ((a * x - 5.0f * a) * x + 8.0f * a) * x - 4.0f * a;
}

// Of an axis, [outputs][count]; count 1: it stays as it is.
struct Blend {
  int32_t count = 1;
  AlignedArray<int32_t> places;
  AlignedArray<float> weights;
};

Blend make_blend(const ResizeSpec& spec, const ResizeAxis& axis, Budget& budget) {
  const bool cubic = spec.mode == ResizeMode::kCubic;
  const int32_t count = cubic ? 4 : 2;
  budget.work(checked_mul(axis.outputs, 40, kWhat));
  Blend blend = {count, {budget, axis.outputs * count, kWhat}, {budget, axis.outputs * count, kWhat}};
  for (int64_t o = 0; o < axis.outputs; ++o) {
    const bool stays = !cubic && axis.size == axis.outputs;  // whatever the scale
    const float where = stays ? static_cast<float>(o) : source(axis, spec.align_corners, o);
    const float at = cubic ? where : std::max(where, 0.0f);
    const int64_t first = std::min(static_cast<int64_t>(std::floor(at)), axis.size - 1);
    const float part = std::min(std::max(at - static_cast<float>(first), 0.0f), 1.0f), rest = 1.0f - part;
    const float two[2] = {rest, part};
    const float four[4] = {far_cubic(part + 1.0f), near_cubic(part), near_cubic(rest), far_cubic(rest + 1.0f)};
    for (int32_t k = 0; k < count; ++k) {
      const int64_t place = stays ? o : first + k - (cubic ? 1 : 0);
      blend.places[o * count + k] = static_cast<int32_t>(std::clamp<int64_t>(place, 0, axis.size - 1));
      blend.weights[o * count + k] = cubic ? four[k] : two[k];
    }
  }
  return blend;
}

// Columns first, then rows, then slices. Scratch of a part:
//
//   tags     which row of the input each line holds, and of which image
//   lines    rows of the input whose columns were blended: as many as a row of the output is made of
//   slices   lines of one slice blended, for each slice
class Resize : public RowOperation {
 public:
  explicit Resize(const ResizeSpec& spec)
      : RowOperation(kWhat, spec.output->height, {spec.input}, {spec.output}), spec_(spec) {}

  void plan(const KernelTable&, Preparation& preparation) override {
    Blend* const blends[kWindowAxes] = {&z_, &y_, &x_};
    for (size_t i = kWindowAxes - spec_.axes; i < kWindowAxes; ++i) {
      *blends[i] = make_blend(spec_, spec_.axis[i], preparation.budget());
    }
    line_ = checked_mul(spec_.axis[2].outputs, spec_.input->channels, kWhat);
    const int64_t lines = int64_t{z_.count} * y_.count;
    tag_bytes_ = room(lines, sizeof(int64_t));
    line_bytes_ = room(line_, sizeof(float));
    part_bytes_ = checked_add(tag_bytes_, checked_mul(line_bytes_, lines + z_.count, kWhat), kWhat);
  }

 private:
  double row_cost() const override { return static_cast<double>(line_) * (z_.count * y_.count + 1) * 0.2; }

  void start_part(uint8_t* scratch) const override {
    std::fill_n(reinterpret_cast<int64_t*>(scratch), int64_t{z_.count} * y_.count, int64_t{-1});
  }

  float* line(uint8_t* scratch, int64_t i) const {
    return reinterpret_cast<float*>(scratch + tag_bytes_ + i * line_bytes_);
  }

  static int64_t place(const Blend& blend, int64_t o, int32_t k) {
    return blend.count == 1 ? o : blend.places[o * blend.count + k];
  }

  void run_row(const RunContext& context, uint8_t* scratch, int64_t n, int64_t r) const override {
    const ResizeKernels& kernels = *context.kernels->resizes;
    const int64_t oz = r / spec_.axis[1].outputs, oy = r % spec_.axis[1].outputs;
    float* const out = context.floats(*spec_.output, n, r);
    const float* slices[4] = {};
    for (int32_t i = 0; i < z_.count; ++i) {
      const float* lines[4] = {};
      const int64_t slice = place(z_, oz, i);
      for (int32_t k = 0; k < y_.count; ++k) lines[k] = blended(context, scratch, n, slice, place(y_, oy, k));
      float* const sum = z_.count == 1 ? out : line(scratch, int64_t{z_.count} * y_.count + i);
      if (y_.count == 1) {
        std::copy_n(lines[0], line_, sum);
      } else {
        kernels.rows(sum, lines, y_.weights.data() + oy * y_.count, y_.count, line_);
      }
      slices[i] = sum;
    }
    if (z_.count > 1) kernels.rows(out, slices, z_.weights.data() + oz * z_.count, z_.count, line_);
  }

  // A row of the input, its columns blended: rows of the output below each other share it.
  const float* blended(const RunContext& context, uint8_t* scratch, int64_t n, int64_t slice, int64_t y) const {
    const Tensor& input = *spec_.input;
    const int64_t row = slice * spec_.axis[1].size + y;
    const int64_t tag = n * input.height + row;
    const int64_t i = slice % z_.count * y_.count + y % y_.count;
    int64_t* const tags = reinterpret_cast<int64_t*>(scratch);
    float* const out = line(scratch, i);
    if (tags[i] == tag) return out;
    tags[i] = tag;
    const ResizeColumns columns = {context.floats(input, n, row),
                                   out,
                                   x_.places.data(),
                                   x_.weights.data(),
                                   spec_.axis[2].outputs,
                                   input.channels,
                                   x_.count};
    context.kernels->resizes->columns(&columns);
    return out;
  }

  ResizeSpec spec_;
  Blend z_, y_, x_;
  int64_t line_ = 0, tag_bytes_ = 0, line_bytes_ = 0;
};

}  // namespace

std::unique_ptr<Operation> make_resize(const ResizeSpec& spec, Preparation&) {
  if (spec.mode == ResizeMode::kNearest) return make_resize_nearest(spec);
  return std::make_unique<Resize>(spec);
}

}  // namespace bitorch
