#include "operations/reduce.h"

#include <algorithm>
#include <cmath>
#include <cstring>

#include "core/base/rows.h"
#include "core/graph/row_operation.h"
#include "core/norm_kernels.h"
#include "operations/mean.h"
#include "operations/reduced_rows.h"

namespace bitorch {

namespace {

struct NamedReduction {
  const char* name;
  Reduction function;
};

constexpr NamedReduction kReductions[] = {
    {"sum", Reduction::kSum},   {"mean", Reduction::kMean},     {"norm", Reduction::kNorm},
    {"var", Reduction::kVar},   {"std", Reduction::kStd},       {"amax", Reduction::kAmax},
    {"amin", Reduction::kAmin}, {"argmax", Reduction::kArgmax}, {"argmin", Reduction::kArgmin},
};

Reduction read_function(const OperationReader& reader) {
  const std::string name =
      reader.choice("function", {"sum", "mean", "norm", "var", "std", "amax", "amin", "argmax", "argmin"});
  for (const NamedReduction& known : kReductions) {
    if (name == known.name) return known.function;
  }
  throw Error("a reduction of unknown name");
}

bool is_spread(Reduction function) { return function == Reduction::kVar || function == Reduction::kStd; }

// The axes, each once: 0 the channels, -1 the last axis of rows, ...
void read_axes(const OperationReader& reader, ReduceSpec* spec) {
  const auto most = static_cast<int64_t>(kMaxAxes) - 1;
  if (reader.count("axes") < 1 || reader.count("axes") > kMaxAxes) reader.fail("axes", "must be one to eight integers");
  const std::vector<int64_t> axes = reader.integers("axes", reader.count("axes"), -most, 0);
  const auto outermost = static_cast<size_t>(-*std::min_element(axes.begin(), axes.end()));
  spec->axes = as_axes(spec->input->axes, std::max(outermost, spec->input->axes.size()));
  spec->row_reduced.assign(spec->axes.size(), false);
  for (const int64_t axis : axes) {
    if (std::count(axes.begin(), axes.end(), axis) > 1) reader.fail("axes", "must not name an axis twice");
    if (axis == 0) {
      spec->channels_reduced = true;
    } else {
      spec->row_reduced[spec->axes.size() - static_cast<size_t>(-axis)] = true;
    }
  }
  if (spec->is_place() && axes.size() != 1) reader.fail("axes", "must be one axis where \"function\" is a place");
}

const Tensor* output_of(const OperationReader& reader, const ReduceSpec& spec) {
  RowAxes axes = spec.axes;
  for (size_t i = 0; i < axes.size(); ++i) axes[i] = spec.row_reduced[i] ? 1 : axes[i];
  const int64_t channels = spec.channels_reduced ? 1 : spec.input->channels;
  if (spec.is_place()) return reader.output("output", Values::kInt32, 0, axes, channels);
  const bool codes = spec.is_extreme() && spec.input->is_codes();
  return reader.output("output", codes ? Values::kCodes : Values::kFloat32, codes ? spec.input->bits : 0, axes,
                       channels);
}

}  // namespace

ReduceSpec read_reduce(const OperationReader& reader) {
  ReduceSpec spec;
  spec.input = reader.input("input", {Values::kFloat32, Values::kCodes});
  spec.function = read_function(reader);
  read_axes(reader, &spec);
  const bool adds = spec.function == Reduction::kSum || spec.function == Reduction::kMean;
  if (spec.input->is_codes() && (spec.function == Reduction::kNorm || is_spread(spec.function))) {
    reader.fail("function", "is of float32 only, but the input is " + spec.input->describe());
  }
  if (reader.has("scale") && !adds) reader.fail("scale", "has a meaning only with \"function\": \"sum\" or \"mean\"");
  spec.scale = adds ? read_code_scale(reader, *spec.input) : 1.0f;
  if (reader.has("correction")) {
    if (!is_spread(spec.function)) {
      reader.fail("correction", "has a meaning only with \"function\": \"var\" or \"std\"");
    }
    spec.correction = static_cast<double>(reader.number("correction"));
  }
  spec.output = output_of(reader, spec);
  return spec;
}

namespace {

// One row of the output at a time, and of it a span of pixels, [pixels][channels] numbers side by side. They are made
// of blocks, [pixels][numbers] floats each; where the width is reduced a block is pixels of one row.
class Reduce : public RowOperation {
 public:
  explicit Reduce(const ReduceSpec& spec)
      : RowOperation("a reduction", spec.output->height, {spec.input}, {spec.output}),
        spec_(spec),
        input_(*spec.input),
        output_(*spec.output),
        rows_(spec.axes, spec.row_reduced) {}

  void plan(const KernelTable&, Preparation&) override {
    constexpr int64_t kSpanValues = 4096;
    step_ = std::clamp<int64_t>(kSpanValues / input_.channels, 1, input_.width);
    const int64_t values = checked_mul(step_, input_.channels, what());
    values_bytes_ = room(values, 4);
    sums_bytes_ = room(values, 8);
    part_bytes_ = 3 * values_bytes_ + 2 * sums_bytes_;
  }

 private:
  // Scratch: sums and means, or the largest numbers and their places, of a span; its floats where the input has codes.
  struct Room {
    double *sums, *means;
    float *most, *floats;
    int32_t* places;
  };
  // The numbers of one pixel of the output.
  struct Span {
    int64_t n, y, x, pixels;    // of the output
    int64_t numbers, channels;  // in all, and at each place
  };

  bool reads_by_rows() const override { return input_.height == output_.height; }
  double row_cost() const override { return row_values(input_) * static_cast<double>(rows_.count()) * 0.3; }
  bool reduces_rows() const { return rows_.count() > 1 || (rows_.width_reduced() && input_.width > 1); }

  double count() const {
    const double width = rows_.width_reduced() ? static_cast<double>(input_.width) : 1.0;
    const double channels = spec_.channels_reduced ? static_cast<double>(input_.channels) : 1.0;
    return static_cast<double>(rows_.count()) * width * channels;
  }

  void run_row(const RunContext& context, uint8_t* scratch, int64_t n, int64_t y) const override {
    Room room;
    room.sums = reinterpret_cast<double*>(scratch);
    room.means = reinterpret_cast<double*>(scratch + sums_bytes_);
    room.most = reinterpret_cast<float*>(scratch + 2 * sums_bytes_);
    room.floats = reinterpret_cast<float*>(scratch + 2 * sums_bytes_ + values_bytes_);
    room.places = reinterpret_cast<int32_t*>(scratch + 2 * sums_bytes_ + 2 * values_bytes_);
    for (int64_t x = 0; x < output_.width; x += step_) {
      const int64_t pixels = std::min(step_, output_.width - x);
      const Span span = {n, y, x, pixels, pixels * input_.channels, input_.channels};
      if (spec_.is_place()) {
        find_places(context, span, room);
      } else if (spec_.is_extreme()) {
        find_extremes(context, span, room);
      } else {
        add_up(context, span, room);
      }
    }
  }

  // some(block, pixels, place) for all that a span is made of; place: along the reduced axis, of the block's first.
  template <class F>
  void for_blocks(const RunContext& context, const Span& span, float* room, const F& some) const {
    for (int64_t i = 0; i < rows_.count(); ++i) {
      const int64_t y = rows_.row(span.y, i);
      if (!rows_.width_reduced()) {
        some(floats_of(context, span.n, y, span.x, span.pixels, room), 1, i);
        continue;
      }
      for (int64_t x = 0; x < input_.width; x += step_) {
        const int64_t pixels = std::min(step_, input_.width - x);
        some(floats_of(context, span.n, y, x, pixels, room), pixels, x);
      }
    }
  }

  // Some pixels of a row as floats: those of the tensor, or codes, which `room` is for.
  const float* floats_of(const RunContext& context, int64_t n, int64_t y, int64_t x, int64_t pixels,
                         float* room) const {
    if (!input_.is_codes()) return context.floats(input_, n, y, x);
    uint8_t* bytes = reinterpret_cast<uint8_t*>(room) + 3 * pixels * input_.channels;  // read before they are written
    const uint8_t* codes =
        read_codes(context.kernels->rows, input_.layout, context.pixel(input_, n, y, x), pixels, bytes);
    for (int64_t i = 0; i < pixels * input_.channels; ++i) room[i] = static_cast<float>(codes[i]);
    return room;
  }

  void add_up(const RunContext& context, const Span& span, const Room& room) const {
    const NormKernels& kernels = *context.kernels->norms;
    const bool squares = spec_.function != Reduction::kSum && spec_.function != Reduction::kMean;
    float* out = context.floats(output_, span.n, span.y, span.x);
    if (!reduces_rows())
      return add_channels(kernels, floats_of(context, span.n, span.y, span.x, span.pixels, room.floats), span, out);
    std::fill_n(room.means, span.numbers, 0.0);
    std::fill_n(room.sums, span.numbers, 0.0);
    if (!squares || is_spread(spec_.function)) {
      for_blocks(context, span, room.floats, [&](const float* in, int64_t pixels, int64_t) {
        kernels.add_columns(room.sums, in, span.numbers, pixels, span.numbers);
      });
    }
    if (squares) {
      for (int64_t i = 0; i < span.numbers && is_spread(spec_.function); ++i) room.means[i] = room.sums[i];
      if (is_spread(spec_.function)) average(kernels, span, room.means);
      std::fill_n(room.sums, span.numbers, 0.0);
      for_blocks(context, span, room.floats, [&](const float* in, int64_t pixels, int64_t) {
        kernels.add_squares(room.sums, room.means, in, span.numbers, pixels, span.numbers);
      });
    }
    if (!spec_.channels_reduced) {
      for (int64_t i = 0; i < span.numbers; ++i) out[i] = finished(room.sums[i]);
      return;
    }
    for (int64_t p = 0; p < span.pixels; ++p) {
      out[p] = finished(kernels.sum_of_doubles(room.sums + p * span.channels, span.channels));
    }
  }

  // Sums become means: of each number, or of all channels of a place.
  void average(const NormKernels& kernels, const Span& span, double* sums) const {
    const double values = count();
    for (int64_t i = 0; i < span.numbers && !spec_.channels_reduced; ++i) sums[i] /= values;
    for (int64_t p = 0; p < span.pixels && spec_.channels_reduced; ++p) {
      double* place = sums + p * span.channels;
      std::fill_n(place, span.channels, kernels.sum_of_doubles(place, span.channels) / values);
    }
  }

  // Of the channels at each place alone, or of nothing.
  void add_channels(const NormKernels& kernels, const float* in, const Span& span, float* out) const {
    const int64_t n = spec_.channels_reduced ? span.channels : 1;
    const bool adds = spec_.function == Reduction::kSum || spec_.function == Reduction::kMean;
    for (int64_t i = 0; i < span.numbers / n; ++i, in += n) {
      const double sum = adds || is_spread(spec_.function) ? kernels.sum(in, n) : 0.0;
      out[i] = finished(adds ? sum : kernels.squares(in, sum / count(), n));
    }
  }

  // What leaves, of a sum or a sum of squares.
  float finished(double sum) const {
    switch (spec_.function) {
      case Reduction::kNorm:
        return static_cast<float>(std::sqrt(sum));
      case Reduction::kVar:
        return static_cast<float>(sum / std::max(0.0, count() - spec_.correction));
      case Reduction::kStd:
        return static_cast<float>(std::sqrt(sum / std::max(0.0, count() - spec_.correction)));
      case Reduction::kMean:
        if (!input_.is_codes()) return static_cast<float>(sum / count());
        return static_cast<float>(sum) * spec_.scale / static_cast<float>(count());
      default:
        return input_.is_codes() ? static_cast<float>(sum) * spec_.scale : static_cast<float>(sum);
    }
  }

  void find_extremes(const RunContext& context, const Span& span, const Room& room) const {
    const NormKernels& kernels = *context.kernels->norms;
    bool is_first = true;
    for_blocks(context, span, room.floats, [&](const float* in, int64_t pixels, int64_t) {
      if (is_first) std::memcpy(room.most, in, static_cast<size_t>(span.numbers) * sizeof(float));
      for (int64_t p = is_first ? 1 : 0; p < pixels; ++p) {
        kernels.extreme_columns(room.most, in + p * span.numbers, span.numbers, spec_.is_smallest());
      }
      is_first = false;
    });
    const int64_t n = spec_.channels_reduced ? span.channels : 1, values = span.numbers / n;
    for (int64_t i = 0; i < values && n > 1; ++i) {
      room.most[i] = kernels.extreme(room.most + i * n, n, spec_.is_smallest());
    }
    if (!output_.is_codes()) {
      std::memcpy(context.floats(output_, span.n, span.y, span.x), room.most, static_cast<size_t>(values) * 4);
      return;
    }
    uint8_t* codes = reinterpret_cast<uint8_t*>(room.floats);
    for (int64_t i = 0; i < values; ++i) codes[i] = static_cast<uint8_t>(room.most[i]);
    uint8_t* out = context.pixel(output_, span.n, span.y, span.x);
    if (output_.layout.kind == Kind::kBytes) std::memcpy(out, codes, static_cast<size_t>(values));
    write_codes(context.kernels->rows, output_.layout, out, span.pixels, codes);
  }

  // The first place of the largest number, or of the first NaN.
  void find_places(const RunContext& context, const Span& span, const Room& room) const {
    const NormKernels& kernels = *context.kernels->norms;
    auto* out = reinterpret_cast<int32_t*>(context.pixel(output_, span.n, span.y, span.x));
    if (spec_.channels_reduced) {
      const float* in = floats_of(context, span.n, span.y, span.x, span.pixels, room.floats);
      for (int64_t p = 0; p < span.pixels; ++p, in += span.channels) {
        const float most = kernels.extreme(in, span.channels, spec_.is_smallest());
        int32_t place = 0;
        while (std::isnan(most) ? !std::isnan(in[place]) : in[place] != most) ++place;
        out[p] = place;
      }
      return;
    }
    std::fill_n(room.places, span.numbers, 0);
    std::fill_n(room.most, span.numbers, spec_.is_smallest() ? INFINITY : -INFINITY);
    for_blocks(context, span, room.floats, [&](const float* in, int64_t pixels, int64_t first) {
      for (int64_t p = 0; p < pixels; ++p) {
        kernels.extreme_places(room.most, room.places, in + p * span.numbers, static_cast<int32_t>(first + p),
                               span.numbers, spec_.is_smallest());
      }
    });
    std::memcpy(out, room.places, static_cast<size_t>(span.numbers) * sizeof(int32_t));
  }

  ReduceSpec spec_;
  const Tensor& input_;
  const Tensor& output_;
  ReducedRows rows_;
  int64_t step_ = 1, values_bytes_ = 0, sums_bytes_ = 0;
};

}  // namespace

std::unique_ptr<Operation> make_reduce(const ReduceSpec& spec, Preparation&) { return std::make_unique<Reduce>(spec); }

}  // namespace bitorch
