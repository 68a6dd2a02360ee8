// What dequantize and lookup have in common: every code stands for one entry of a table.
#pragma once
#include <vector>

#include "core/graph/operation_reader.h"
#include "core/graph/row_operation.h"

namespace bitorch {

// What the shape of "table" must be: an entry per code, for all channels or, where it has two dimensions, for each.
std::vector<int64_t> read_table_shape(const OperationReader& reader, const Tensor& input);

// Takes its input as bytes, a span of pixels at a time: 4 KiB of codes and what they become stay in the first cache.
class OnCodes : public RowOperation {
 public:
  void plan(const KernelTable&, Preparation&) override;

 protected:
  OnCodes(const Tensor* input, const Tensor* output);

  // codes: [pixels][channels]; out: the first of those pixels in the output; scratch: as many bytes as codes.
  virtual void write(const RunContext& context, const uint8_t* codes, int64_t pixels, uint8_t* out,
                     uint8_t* scratch) const = 0;

  const Tensor& input_;
  const Tensor& output_;

 private:
  bool reads_by_rows() const override { return true; }
  double row_cost() const override { return row_values(input_) * 0.6; }
  void run_row(const RunContext& context, uint8_t* scratch, int64_t n, int64_t y) const override;

  int64_t step_ = 1, codes_bytes_ = 0;
};

// out[i] = table[codes[i]]; table [2^bits].
template <class T>
void look_up(T* out, const uint8_t* codes, int64_t n, const T* table) {
  for (int64_t i = 0; i < n; ++i) out[i] = table[codes[i]];
}

// The same with a table for each channel, [channels][2^bits]; codes: n / channels pixels.
template <class T>
void look_up_by_channel(T* out, const uint8_t* codes, int64_t n, const T* table, int64_t channels, int bits) {
  for (int64_t p = 0; p < n; p += channels) {
    for (int64_t c = 0; c < channels; ++c) out[p + c] = table[(c << bits) + codes[p + c]];
  }
}

}  // namespace bitorch
