#include "operations/lookup.h"

#include <algorithm>

#include "core/base/rows.h"
#include "operations/on_codes.h"

namespace bitorch {

namespace {

int64_t table_size(const LookupSpec& spec) { return (spec.per_channel ? spec.input->channels : 1) << spec.input->bits; }

}  // namespace

LookupSpec read_lookup(const OperationReader& reader) {
  LookupSpec spec;
  spec.input = reader.input("input", {Values::kCodes});
  const int bits = reader.bits("bits");
  const std::vector<int64_t> shape = read_table_shape(reader, *spec.input);
  spec.per_channel = shape.size() == 2;
  spec.table = reader.bytes("table", shape);
  const int64_t size = table_size(spec);
  const int most = (1 << bits) - 1;
  reader.preparation().budget().work(size);
  for (int64_t i = 0; i < size; ++i) {
    if (spec.table[i] <= most) continue;
    reader.fail("table", "has an entry " + std::to_string(spec.table[i]) + ", but " + std::to_string(bits) +
                             "-bit codes are at most " + std::to_string(most));
  }
  spec.output = reader.output("output", Values::kCodes, bits, spec.input->axes, spec.input->channels);
  return spec;
}

namespace {

// Up to this many entries are looked up by comparisons, which takes a vector of codes less than one load each.
constexpr int64_t kMostCompared = 16;

class Lookup : public OnCodes {
 public:
  Lookup(const LookupSpec& spec, Preparation& preparation)
      : OnCodes(spec.input, spec.output), per_channel_(spec.per_channel), entries_(int64_t{1} << spec.input->bits) {
    if (entries_ > kMostCompared) {
      table_ = keep(preparation, spec.table, table_size(spec));
      return;
    }
    // The entries of as many pixels as give loops something to do.
    constexpr int64_t kAtOnce = 512;
    const int64_t channels = spec.input->channels;
    period_ = round_up(std::max(kAtOnce, channels), channels);
    table_ = by_entry(spec, preparation);
  }

  int64_t weight_bytes() const override { return table_->size(); }

 private:
  // [entries][period]
  Kept<uint8_t> by_entry(const LookupSpec& spec, Preparation& preparation) const {
    const auto key = {Preparation::address(spec.table), entries_, period_};
    return preparation.share<AlignedArray<uint8_t>>(key, [&] {
      AlignedArray<uint8_t> rows(preparation.budget(), entries_ * period_, "tables");
      for (int64_t j = 0; j < entries_; ++j) {
        for (int64_t i = 0; i < period_; ++i) {
          const int64_t channel = per_channel_ ? i % input_.channels : 0;
          rows.data()[j * period_ + i] = spec.table[channel * entries_ + j];
        }
      }
      return rows;
    });
  }

  void write(const RunContext& context, const uint8_t* codes, int64_t pixels, uint8_t* out,
             uint8_t* scratch) const override {
    const Layout& layout = output_.layout;
    const int64_t channels = input_.channels, n = pixels * channels;
    uint8_t* target = layout.kind == Kind::kBytes ? out : scratch;
    if (period_ > 0) {
      for (int64_t i = 0; i < n; i += period_) {
        context.kernels->rows.look_up(target + i, codes + i, table_->data(), std::min(period_, n - i), period_,
                                      static_cast<int>(entries_));
      }
    } else if (per_channel_) {
      look_up_by_channel(target, codes, n, table_->data(), channels, input_.bits);
    } else {
      look_up(target, codes, n, table_->data());
    }
    write_codes(context.kernels->rows, layout, out, pixels, target);
  }

  bool per_channel_;
  int64_t entries_, period_ = 0;  // 0: one code after the other
  Kept<uint8_t> table_;           // [entries][period], or with period 0 [entries] or [channels][entries]
};

}  // namespace

std::unique_ptr<Operation> make_lookup(const LookupSpec& spec, Preparation& preparation) {
  return std::make_unique<Lookup>(spec, preparation);
}

}  // namespace bitorch
