// The axes in front of the matrices of a product, such as heads: an axis of one place meets any size.
//
//   left   [4, 1, M, K]                              item of the result    0 1 2 3 4 5 ..
//   right     [3, K, N]     result [4, 3, M, N]      made of left's        0 0 0 1 1 1 ..
//                                                    and right's           0 1 2 0 1 2 ..
#pragma once
#include <array>

#include "core/graph/graph.h"

namespace bitorch {

// All row axes of a tensor but the last one.
RowAxes leading_axes(const Tensor& tensor);

// Lets the axes of another operand meet those of the result, which grow where they are 1; false where they do not fit.
// groups: the innermost one of the result may be a multiple of the other's.
bool meet(RowAxes* result, const RowAxes& other, bool groups);

// Which item of an operand an item of the result is made of.
class ItemsOf {
 public:
  ItemsOf() = default;
  // Of axes that have met. Where an axis of the result is a multiple of the operand's, neighbours share an item.
  ItemsOf(const RowAxes& result, const RowAxes& operand);
  int64_t operator()(int64_t item) const;

 private:
  struct Axis {
    int64_t size, shared, step;  // of the result; places with one item; items from one to the next
  };
  std::array<Axis, kMaxAxes> axes_;
  size_t count_ = 0;
};

int64_t items(const RowAxes& axes);

}  // namespace bitorch
