// Which numbers of a tensor make one row of what is reduced.
//
//   axes [A, B, W], B reduced:      row a of the output is made of rows a * B .. a * B + B - 1, pixel by pixel
//   axes [A, B, W], A and W:        pixel b of B is made of rows b, B + b, 2 * B + b, .., all pixels of each
#pragma once
#include <vector>

#include "core/graph/graph.h"

namespace bitorch {

class ReducedRows {
 public:
  ReducedRows() = default;
  // axes: of rows, outermost first; reduced: which of them.
  ReducedRows(const RowAxes& axes, const std::vector<bool>& reduced);

  bool width_reduced() const { return width_reduced_; }
  // How many rows make one of the output.
  int64_t count() const { return count_; }
  // Number i of those that make row y of the output.
  int64_t row(int64_t y, int64_t i) const { return offset(kept_, y) + offset(reduced_, i); }

 private:
  struct Axis {
    int64_t size, stride;  // in rows of pixels
  };
  static int64_t offset(const std::vector<Axis>& axes, int64_t index);

  std::vector<Axis> kept_, reduced_;  // innermost first
  int64_t count_ = 1;
  bool width_reduced_ = false;
};

}  // namespace bitorch
