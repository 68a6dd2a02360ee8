// What quantize, add and affine have in common: float32 pixels in, float32 and/or codes out.
#pragma once
#include <cstdint>
#include <vector>

#include "core/conv/code_writer.h"
#include "core/graph/operation_reader.h"
#include "core/graph/row_operation.h"

namespace bitorch {

// What leaves: at least one of the two, both of one shape.
struct ElementwiseOutputs {
  const Tensor* floats = nullptr;  // null where not wanted
  const Tensor* codes = nullptr;   // null where not wanted
  CodeSpec rule;                   // of the codes; no int32 thresholds
};

std::vector<const Tensor*> tensors_of(const ElementwiseOutputs& outputs);
// The keys "float32", "codes" and what belongs to them, for tensors of this shape.
ElementwiseOutputs read_elementwise_outputs(const OperationReader& reader, const RowAxes& axes, int64_t channels);
// The codes alone, called `key`.
ElementwiseOutputs read_elementwise_codes(const OperationReader& reader, const char* key, const RowAxes& axes,
                                          int64_t channels);
void check_same_shape(const OperationReader& reader, const char* key, const Tensor& other, const Tensor& shape);

// Works on a span of pixels at a time: its 16 KiB of values stay in the first cache until they are codes.
class Elementwise : public RowOperation {
 public:
  bool reads_part(const Tensor&) const override { return true; }
  void plan(const KernelTable&, Preparation&) override;

 protected:
  // Pixels x .. x+count-1 of one row.
  struct Span {
    int64_t n, y, x, count;
  };

  Elementwise(std::vector<const Tensor*> inputs, const ElementwiseOutputs& outputs, Preparation& preparation);

  // The values of a span, [count][channels]: written to `room`; or where they are in the first input already, as far
  // apart as its pixels are, and of its shape. Where an input's pixels do not adjoin, a span that is written is one
  // pixel.
  virtual const float* values(const RunContext& context, const Span& span, float* room) const = 0;

  static const float* span_of(const RunContext& context, const Tensor& tensor, const Span& span) {
    return context.floats(tensor, span.n, span.y, span.x);
  }

  const Tensor& shape_;  // what leaves, or one of the two: of that shape

 private:
  const float* all_values(const RunContext& context, const Span& span, float* room) const;
  bool reads_by_rows() const override { return true; }
  double row_cost() const override;
  void run_row(const RunContext& context, uint8_t* scratch, int64_t n, int64_t y) const override;

  const Tensor* floats_;
  const Tensor* codes_;
  CodeWriter writer_;
  bool adjoin_ = true;  // the pixels of every input
  int64_t step_ = 1, values_bytes_ = 0;
};

}  // namespace bitorch
