#include "operations/index_input.h"

#include <atomic>

#include "core/base/rows.h"
#include "operations/indices.h"

namespace bitorch {

namespace {

// Not a RowOperation: its rows give something back, whether their indices are what they must be.
class IndexInput : public Operation {
 public:
  explicit IndexInput(const InputSpec& spec)
      : Operation({}, {spec.output}),
        index_(spec.index),
        tensor_(*spec.output),
        wide_(spec.wide),
        channels_last_(spec.channels_last) {}

  void run(const RunContext& context) const override {
    const int64_t height = tensor_.height, rows = context.batch * height;
    const double values = static_cast<double>(rows) * static_cast<double>(tensor_.width * tensor_.channels);
    std::atomic<int> bad{0};
    for_rows(rows, values, context.threads, [&](int, int64_t first, int64_t last) {
      bool fits = true;
      for (int64_t row = first; row < last; ++row) {
        zero_halo(tensor_.layout, context.data(tensor_), row / height, row % height, row % height + 1);
        fits = run_row(context, row / height, row % height) && fits;
      }
      if (!fits) bad.store(1, std::memory_order_relaxed);
    });
    if (bad.load(std::memory_order_relaxed) != 0) report(context);
  }

  std::string kernel(const KernelTable&) const override { return "copy"; }

 private:
  int64_t value(const RunContext& context, int64_t at) const {
    const void* data = context.inputs[index_].data;
    return wide_ ? static_cast<const int64_t*>(data)[at] : static_cast<const int32_t*>(data)[at];
  }

  // Whether all of the row's indices fit; those that do not are 0.
  bool run_row(const RunContext& context, int64_t n, int64_t y) const {
    const int64_t channels = tensor_.channels, width = tensor_.width, count = index_count(tensor_);
    const int64_t image = (context.first + n) * tensor_.pixels() * channels;
    auto* out = reinterpret_cast<int32_t*>(context.pixel(tensor_, n, y));
    bool fits = true;
    for (int64_t x = 0; x < width; ++x) {
      for (int64_t c = 0; c < channels; ++c) {
        const int64_t pixel = y * width + x;
        const int64_t at = channels_last_ ? pixel * channels + c : c * tensor_.pixels() + pixel;
        const int64_t index = value(context, image + at);
        const bool is_one = index >= 0 && index < count;
        out[x * channels + c] = is_one ? static_cast<int32_t>(index) : 0;
        fits = fits && is_one;
      }
    }
    return fits;
  }

  [[noreturn]] void report(const RunContext& context) const {
    const int64_t image = tensor_.pixels() * tensor_.channels, count = index_count(tensor_);
    const int64_t end = (context.first + context.batch) * image;
    int64_t i = context.first * image;
    while (i + 1 < end && value(context, i) >= 0 && value(context, i) < count) ++i;
    throw Error("input \"" + tensor_.name + "\": " + std::to_string(value(context, i)) + " at flat index " +
                std::to_string(i) + " — indices must be from 0 to " + std::to_string(count - 1));
  }

  size_t index_;
  const Tensor& tensor_;
  bool wide_;           // int64
  bool channels_last_;  // the array
};

}  // namespace

std::unique_ptr<Operation> make_index_input(const InputSpec& spec) { return std::make_unique<IndexInput>(spec); }

}  // namespace bitorch
