#include "operations/normalize_sets.h"

#include <algorithm>
#include <vector>

#include "core/base/rows.h"
#include "core/conv/code_writer.h"

namespace bitorch {

namespace {

constexpr const char* kWhat = "a normalisation";

// Runs of channels whose sums threads may share: whole groups, and whole cache lines.
constexpr int64_t kLine = 16;

// A set is `set_rows` rows of pixels of one image. Its sums are those of each channel, pixel after pixel, which are
// added up for each group; threads share the sets or, where these are few, the channels and then the rows of each.
class NormalizeSets : public Operation {
 public:
  NormalizeSets(const NormalizeSpec& spec, Preparation& preparation)
      : Operation({spec.input}, tensors_of(spec.outputs)),
        spec_(spec),
        input_(*spec.input),
        weight_(keep_weights(spec, spec.weight, spec.weight_by_place, preparation)),
        bias_(keep_weights(spec, spec.bias, spec.bias_by_place, preparation)) {
    if (spec.outputs.codes != nullptr) writer_ = CodeWriter(spec.outputs.rule, input_.channels, preparation);
  }

  int64_t weight_bytes() const override {
    return ((weight_ == nullptr ? 0 : weight_->size()) + (bias_ == nullptr ? 0 : bias_->size())) * 4;
  }

  void plan(const KernelTable&, Preparation&) override {
    constexpr int64_t kSpanValues = 4096;
    const auto room = [](int64_t count, int64_t size) { return round_up(checked_mul(count, size, kWhat), 64); };
    step_ = std::clamp<int64_t>(kSpanValues / input_.channels, 1, input_.width);
    doubles_bytes_ = room(input_.channels, 8);
    floats_bytes_ = room(input_.channels, 4);
    span_bytes_ = room(step_ * input_.channels, 4);
    part_bytes_ = checked_add(2 * (doubles_bytes_ + floats_bytes_), span_bytes_ + writer_.scratch_bytes(), kWhat);
  }

  int64_t scratch_bytes(int64_t, int threads) const override { return checked_mul(part_bytes_, threads, kWhat); }

  void run(const RunContext& context) const override {
    for (const Tensor* output : outputs()) zero_halo(output->layout, context.data(*output), context.batch);
    const int64_t sets = input_.height / spec_.set_rows, items = context.batch * sets;
    const double each = static_cast<double>(spec_.set_rows) * row_values() * 0.4;
    if (items < context.threads) {
      for (int64_t i = 0; i < items; ++i) run_shared(context, {i / sets, i % sets * spec_.set_rows}, each);
      return;
    }
    for_rows(items, static_cast<double>(items) * each, context.threads, [&](int part, int64_t first, int64_t last) {
      const Room room = room_of(context, part);
      for (int64_t i = first; i < last; ++i) {
        const Set set = {i / sets, i % sets * spec_.set_rows};
        measure(context, set, room, 0, input_.channels);
        for (int64_t y = 0; y < spec_.set_rows; ++y) write_row(context, set, room, room, y);
      }
    });
  }

 private:
  struct Set {
    int64_t n, row;  // the image, and the first row
  };
  // Scratch: of each channel what is added up, its mean, and both as the numbers are standardised by; values of a span.
  struct Room {
    double *sums, *means;
    float *middle, *factor, *values;
    uint8_t* codes;
  };

  double row_values() const { return static_cast<double>(input_.width) * static_cast<double>(input_.channels); }

  Room room_of(const RunContext& context, int part) const {
    uint8_t* at = context.scratch + part * part_bytes_;
    const auto take = [&at](int64_t bytes) {
      uint8_t* here = at;
      at += bytes;
      return here;
    };
    Room room;
    room.sums = reinterpret_cast<double*>(take(doubles_bytes_));
    room.means = reinterpret_cast<double*>(take(doubles_bytes_));
    room.middle = reinterpret_cast<float*>(take(floats_bytes_));
    room.factor = reinterpret_cast<float*>(take(floats_bytes_));
    room.values = reinterpret_cast<float*>(take(span_bytes_));
    room.codes = at;
    return room;
  }

  // One set by all threads; each takes some of the channels, then some of the rows.
  void run_shared(const RunContext& context, const Set& set, double nanoseconds) const {
    const Room shared = room_of(context, 0);
    const int64_t group = input_.channels / spec_.groups;
    const int64_t unit = group % kLine == 0 ? group : group * kLine;  // of channels
    const int64_t units = ceil_div(input_.channels, unit);
    for_rows(units, nanoseconds * 0.6, context.threads, [&](int, int64_t first, int64_t last) {
      measure(context, set, shared, first * unit, std::min(input_.channels, last * unit));
    });
    for_rows(spec_.set_rows, nanoseconds * 0.4, context.threads, [&](int part, int64_t first, int64_t last) {
      const Room own = room_of(context, part);
      for (int64_t y = first; y < last; ++y) write_row(context, set, shared, own, y);
    });
  }

  // Mean and factor of channels c0 .. c1 - 1, which are whole groups.
  void measure(const RunContext& context, const Set& set, const Room& room, int64_t c0, int64_t c1) const {
    const NormKernels& kernels = *context.kernels->norms;
    const int64_t group = input_.channels / spec_.groups;
    const auto count = static_cast<double>(group * spec_.places());
    std::fill(room.means + c0, room.means + c1, 0.0);
    if (spec_.by == kDeviation) {
      std::fill(room.sums + c0, room.sums + c1, 0.0);
      for (int64_t y = 0; y < spec_.set_rows; ++y) {
        kernels.add_columns(room.sums + c0, row(context, set, y) + c0, input_.channels, input_.width, c1 - c0);
      }
      for (int64_t c = c0; c < c1; c += group) {
        std::fill_n(room.means + c, group, kernels.sum_of_doubles(room.sums + c, group) / count);
      }
    }
    std::fill(room.sums + c0, room.sums + c1, 0.0);
    for (int64_t y = 0; y < spec_.set_rows; ++y) {
      const float* in = row(context, set, y) + c0;
      kernels.add_squares(room.sums + c0, room.means + c0, in, input_.channels, input_.width, c1 - c0);
    }
    for (int64_t c = c0; c < c1; c += group) {
      const double squares = kernels.sum_of_doubles(room.sums + c, group);
      std::fill_n(room.factor + c, group, kernels.factor_of(spec_.by, squares, count, spec_.eps));
      std::fill_n(room.middle + c, group, static_cast<float>(room.means[c]));
    }
  }

  const float* row(const RunContext& context, const Set& set, int64_t y) const {
    return context.floats(input_, set.n, set.row + y);
  }

  // Row y of a set that was measured.
  void write_row(const RunContext& context, const Set& set, const Room& measured, const Room& own, int64_t y) const {
    const int64_t channels = input_.channels;
    const Tensor* floats = spec_.outputs.floats;
    const Tensor* codes = spec_.outputs.codes;
    StandardizePixels pixels = {};
    pixels.mean = measured.middle;
    pixels.factor = measured.factor;
    pixels.weight_step = spec_.weight_by_place ? channels : 0;
    pixels.bias_step = spec_.bias_by_place ? channels : 0;
    pixels.channels = channels;
    for (int64_t x = 0; x < input_.width; x += step_) {
      const int64_t place = y * input_.width + x;
      pixels.in = context.floats(input_, set.n, set.row + y, x);
      pixels.out = floats != nullptr ? context.floats(*floats, set.n, set.row + y, x) : own.values;
      pixels.weight = weight_ == nullptr ? nullptr : weight_->data() + place * pixels.weight_step;
      pixels.bias = bias_ == nullptr ? nullptr : bias_->data() + place * pixels.bias_step;
      pixels.pixels = std::min(step_, input_.width - x);
      context.kernels->norms->standardize(&pixels);
      if (!writer_) continue;
      writer_.write(*context.kernels, codes->layout, pixels.out, channels, pixels.pixels,
                    context.pixel(*codes, set.n, set.row + y, x), own.codes);
    }
  }

  NormalizeSpec spec_;
  const Tensor& input_;
  Kept<float> weight_, bias_;  // or null
  CodeWriter writer_;
  int64_t step_ = 1, doubles_bytes_ = 0, floats_bytes_ = 0, span_bytes_ = 0, part_bytes_ = 0;
};

}  // namespace

std::unique_ptr<Operation> make_normalize_sets(const NormalizeSpec& spec, Preparation& preparation) {
  return std::make_unique<NormalizeSets>(spec, preparation);
}

}  // namespace bitorch
