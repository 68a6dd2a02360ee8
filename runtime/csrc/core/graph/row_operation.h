// An operation that works on one row at a time.
//
//   rows of the batch    image 0: 0 1 2 .. rows-1 | image 1: 0 1 2 .. rows-1 | ...
//   parts                |<------- part 0 ------->|<------- part 1 ------->| ...
//
// The rows of all images are one list, which threads share in runs of neighbours: an image is split where a batch is
// small, and a part walks through memory in order. Each part has scratch of its own.
#pragma once
#include <cstdint>
#include <vector>

#include "core/graph/by_rows.h"
#include "core/graph/graph.h"

namespace bitorch {

class RowOperation : public Operation, private ByRows {
 public:
  int64_t scratch_bytes(int64_t batch, int threads) const final;
  // Zeroes the halo of every output, then calls run_row for every row.
  void run(const RunContext& context) const final;
  const ByRows* by_rows() const final { return reads_by_rows() ? this : nullptr; }

 protected:
  // rows: how often run_row is called for an image; 1: it does whole images. `what` stands in the Error that a size
  // does not fit, e.g. "a pool".
  RowOperation(const char* what, int64_t rows, std::vector<const Tensor*> inputs, std::vector<const Tensor*> outputs);

  // How long a row takes, about, in nanoseconds: little work is not worth waking a thread for.
  virtual double row_cost() const = 0;
  // Row y of image n. scratch: part_bytes_ bytes on a 64-byte boundary where that is a multiple of 64, the part's own.
  virtual void run_row(const RunContext& context, uint8_t* scratch, int64_t n, int64_t y) const = 0;
  // Whether rows of its outputs, as many as run_row is called for, are made of the rows_read() of its inputs.
  virtual bool reads_by_rows() const { return false; }
  // As it stands here: row y of inputs as high as the outputs for row y, others as a whole.
  RowSpan rows_read(const Tensor& input, RowSpan rows) const override {
    return input.height == rows_ ? rows : RowSpan{0, input.height};
  }
  // Before a part's first row.
  virtual void start_part(uint8_t* /*scratch*/) const {}

  const char* what() const { return what_; }
  // The bytes of count x size, as a piece of scratch.
  int64_t room(int64_t count, int64_t size) const { return round_up(checked_mul(count, size, what_), 64); }

  int64_t part_bytes_ = 0;  // scratch of one part, fixed in plan()

 private:
  void run_rows(const RunContext& context, int64_t n, RowSpan rows, uint8_t* scratch) const final {
    for (int64_t y = rows.first; y < rows.last; ++y) run_row(context, scratch, n, y);
  }
  void begin_rows(uint8_t* scratch) const final { start_part(scratch); }
  int64_t rows_scratch() const final { return part_bytes_; }
  double row_nanoseconds() const final { return row_cost(); }

  const char* what_;
  int64_t rows_;
};

// The numbers of one row, width x channels, halo excluded.
inline double row_values(const Tensor& tensor) {
  return static_cast<double>(tensor.width) * static_cast<double>(tensor.channels);
}

}  // namespace bitorch
