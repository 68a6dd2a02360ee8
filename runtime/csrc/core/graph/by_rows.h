// What an operation can do that gives some rows of its outputs without the others.
#pragma once
#include <cstdint>

namespace bitorch {

struct RunContext;
struct Tensor;

// Rows first .. last - 1 of an image.
struct RowSpan {
  int64_t first = 0, last = 0;
  int64_t count() const { return last - first; }
};

// Such an operation can share a tensor with the one that reads it a few rows at a time (chain.h).
class ByRows {
 public:
  virtual ~ByRows() = default;
  // The rows of `input` that these rows of the outputs are made of. Both ends rise, or stay, where those of `rows` do.
  virtual RowSpan rows_read(const Tensor& input, RowSpan rows) const = 0;
  // Writes these rows of the outputs of image n, not their halo. `scratch`: rows_scratch() bytes on a 64-byte boundary,
  // after begin_rows().
  virtual void run_rows(const RunContext& context, int64_t n, RowSpan rows, uint8_t* scratch) const = 0;
  virtual void begin_rows(uint8_t* /*scratch*/) const {}
  virtual int64_t rows_scratch() const = 0;
  // How long a row takes, about, in nanoseconds.
  virtual double row_nanoseconds() const = 0;
};

// What an operation can do that takes all rows of its input in their order: it can take them while they are made, and
// does not read them from memory again.
class TakesRows {
 public:
  virtual ~TakesRows() = default;
  // Rows of image n, each once, from the first to the last; with the last one the result is there.
  virtual void take_rows(const RunContext& context, int64_t n, RowSpan rows) const = 0;
};

}  // namespace bitorch
