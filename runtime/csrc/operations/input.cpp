#include "operations/input.h"

#include <atomic>
#include <cstring>
#include <limits>

#include "core/base/rows.h"
#include "core/base/transpose.h"
#include "operations/array_shape.h"
#include "operations/index_input.h"
#include "operations/indices.h"

namespace bitorch {

namespace {

std::vector<int64_t> read_shape(const OperationReader& reader) {
  const Json& shape = reader.list("shape");
  const size_t rank = shape.items().size();
  if (rank < 1 || rank > kMaxAxes) {
    reader.fail("shape", "must be [C, rows ...], up to " + std::to_string(kMaxAxes) + " dimensions, or [F]");
  }
  return reader.integers("shape", rank, 1, kMaxChannels);
}

// What arrays of a dtype become.
struct Taken {
  Dtype dtype;
  Values values;
  int bits;  // of codes; of indices how many there are
};

Taken read_dtype(const OperationReader& reader) {
  const std::string dtype = reader.choice("dtype", {"float32", "uint8", "int32", "int64"});
  if (dtype != "uint8" && reader.has("bits")) reader.fail("bits", "has a meaning only with \"dtype\": \"uint8\"");
  const bool indices = dtype == "int32" || dtype == "int64";
  if (!indices && reader.has("below")) {
    reader.fail("below", "has a meaning only with \"dtype\": \"int32\" or \"int64\"");
  }
  if (dtype == "float32") return {Dtype::kFloat32, Values::kFloat32, 0};
  if (dtype == "uint8") return {Dtype::kUint8, Values::kCodes, reader.bits("bits")};
  const int64_t below = reader.integer("below", 1, std::numeric_limits<int32_t>::max());
  return {dtype == "int64" ? Dtype::kInt64 : Dtype::kInt32, Values::kInt32, static_cast<int>(below)};
}

Port port_of(const Tensor& tensor, Dtype dtype, const std::vector<int64_t>& shape, bool channels_last) {
  if (shape.size() == 1) return {tensor.name, dtype, shape, "nf", tensor.bits};
  if (!channels_last) return {tensor.name, dtype, shape, "nchw", tensor.bits};
  return {tensor.name, dtype, tensor.shape(), "nhwc", tensor.bits};
}

}  // namespace

InputSpec read_input(const OperationReader& reader) {
  InputSpec spec;
  const Taken taken = read_dtype(reader);
  spec.wide = taken.dtype == Dtype::kInt64;
  const std::vector<int64_t> shape = read_shape(reader);
  const bool has_rows = shape.size() > 1;
  if (has_rows) spec.channels_last = reader.choice("order", {"nchw", "nhwc"}) == "nhwc";
  if (!has_rows && reader.has("order")) reader.choice("order", {"nchw", "nhwc"});
  const RowAxes axes = has_rows ? RowAxes(shape.begin() + 1, shape.end()) : RowAxes{1, 1};
  spec.output = reader.output("output", taken.values, taken.bits, axes, shape[0]);
  Port port = port_of(*spec.output, taken.dtype, shape, spec.channels_last);
  read_array_shape(reader, &port);
  spec.index = reader.add_input(port);
  return spec;
}

namespace {

// Copies n codes; returns their bitwise or, which tells whether any has a bit that it must not have.
uint8_t copy_codes(uint8_t* out, const uint8_t* in, int64_t n) {
  uint8_t seen = 0;
  for (int64_t i = 0; i < n; ++i) {
    out[i] = in[i];
    seen |= in[i];
  }
  return seen;
}

uint8_t or_codes(const uint8_t* in, int64_t n) {
  uint8_t seen = 0;
  for (int64_t i = 0; i < n; ++i) seen |= in[i];
  return seen;
}

// Not a RowOperation: its rows give something back, whether their codes are what they must be.
class Input : public Operation {
 public:
  explicit Input(const InputSpec& spec)
      : Operation({}, {spec.output}),
        index_(spec.index),
        tensor_(*spec.output),
        codes_(spec.output->is_codes()),
        direct_(spec.channels_last || spec.output->channels == 1 || spec.output->pixels() == 1),
        cost_(spec.channels_last ? 0.1 : 0.5) {}

  int64_t scratch_bytes(int64_t, int threads) const override {
    if (!codes_ || tensor_.layout.kind == Kind::kBytes) return 0;
    return checked_mul(checked_mul(tensor_.width, tensor_.channels, "an input"), threads, "an input");
  }

  void run(const RunContext& context) const override {
    const int64_t height = tensor_.height, rows = context.batch * height;
    const double values = static_cast<double>(rows) * static_cast<double>(tensor_.width * tensor_.channels);
    std::atomic<int> bad{0};
    for_rows(rows, values * cost_, context.threads, [&](int part, int64_t first, int64_t last) {
      uint8_t seen = 0;
      for (int64_t row = first; row < last; ++row) {
        const int64_t n = row / height, y = row % height;
        zero_halo(tensor_.layout, context.data(tensor_), n, y, y + 1);
        seen |= run_row(context, part, n, y);
      }
      if (codes_ && (seen >> tensor_.bits) != 0) bad.store(1, std::memory_order_relaxed);
    });
    if (bad.load(std::memory_order_relaxed) != 0) report(context);
  }

  std::string kernel(const KernelTable&) const override { return "copy"; }

 private:
  // Returns the bitwise or of the row's codes.
  uint8_t run_row(const RunContext& context, int part, int64_t n, int64_t y) const {
    const Layout& layout = tensor_.layout;
    const int64_t size = codes_ ? 1 : 4;
    const int64_t channels = tensor_.channels, width = tensor_.width;
    const int64_t row_values = width * channels, plane_values = tensor_.pixels();
    const uint8_t* source = static_cast<const uint8_t*>(context.inputs[index_].data);
    source += ((context.first + n) * tensor_.height * row_values + (direct_ ? y * row_values : y * width)) * size;
    uint8_t* target = context.pixel(tensor_, n, y);
    if (!codes_) {
      if (direct_) {
        std::memcpy(target, source, static_cast<size_t>(row_values * size));
      } else {
        transpose(source, plane_values, target, channels, channels, width, size);
      }
      return 0;
    }
    if (direct_ && layout.kind == Kind::kBytes) return copy_codes(target, source, row_values);
    const uint8_t* codes = source;
    if (!direct_) {
      uint8_t* staged = layout.kind == Kind::kBytes ? target : context.scratch + part * row_values;
      transpose_bytes(source, plane_values, staged, channels, channels, width);
      codes = staged;
    }
    write_codes(context.kernels->rows, layout, target, width, codes);
    return or_codes(codes, row_values);
  }

  [[noreturn]] void report(const RunContext& context) const {
    const int64_t image = tensor_.pixels() * tensor_.channels;
    const int64_t count = (context.first + context.batch) * image;
    const uint8_t* codes = static_cast<const uint8_t*>(context.inputs[index_].data);
    const int most = (1 << tensor_.bits) - 1;
    int64_t i = context.first * image;
    while (i < count && codes[i] <= most) ++i;
    const std::string value = i < count ? std::to_string(codes[i]) : "a value";
    throw Error("input \"" + tensor_.name + "\": " + value + " at flat index " + std::to_string(i) + " — " +
                std::to_string(tensor_.bits) + "-bit codes must be from 0 to " + std::to_string(most));
  }

  size_t index_;
  const Tensor& tensor_;
  bool codes_;
  bool direct_;  // the array has the order of the tensor, or an order that makes no difference
  double cost_;  // nanoseconds per value
};

}  // namespace

std::unique_ptr<Operation> make_input(const InputSpec& spec, Preparation&) {
  if (are_indices(*spec.output)) return make_index_input(spec);
  return std::make_unique<Input>(spec);
}

}  // namespace bitorch
