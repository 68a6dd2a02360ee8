// From thresholds to what the kernels' code stage needs, per block of output channels.
#pragma once
#include <cstdint>
#include <vector>

#include "core/base/aligned.h"
#include "core/base/preparation.h"
#include "core/kernels.h"

namespace bitorch {

struct BlockRange {
  int64_t first_channel;
  int32_t channels;  // 1 .. kBlock
};
// 0..31, 32..63, ...
std::vector<BlockRange> plain_blocks(int64_t channels);

// q = number of j with x >= threshold[j] (x <= threshold[j] where descending), x an int32 or a float32. No x reaches a
// threshold that is NaN, not even an infinity.
//
// Comparing with up to 255 thresholds is slow, and most thresholds come from a straight line. The rule of a block is
// affine, round(x * multiply + offset), where that gives the same codes on both sides of every threshold: each
// operation in it is monotone, so it then gives the same codes everywhere (for int32: for every |x| <= reach).
// Thresholds that follow a line only nearly, because their maker rounded on the way, are guided: the line decides
// except within `margin` of a half.
class CodeRule {
 public:
  CodeRule() = default;
  // Thresholds [channels][2^bits - 1] in rising order per channel, or falling where descending[c] (null: none), NaN
  // behind all others; else Error. reach: the largest |x| there can be. negate_weights: the caller turns the sign of x
  // itself for descending channels, by negating their weights.
  CodeRule(Budget& budget, const int32_t* thresholds, const uint8_t* descending, int32_t reach, int bits,
           bool negate_weights, const std::vector<BlockRange>& blocks);
  CodeRule(Budget& budget, const float* thresholds, const uint8_t* descending, int bits,
           const std::vector<BlockRange>& blocks);
  // round_half_even(n * clip(x, 0, 1)), n = 2^bits - 1
  CodeRule(Budget& budget, int bits, const std::vector<BlockRange>& blocks);

  // Fills in thresholds, multiply, offset, margin, negate, bits and rule.
  void fill(int64_t block, CodeStage* stage) const;
  // Whether thresholds alone decide and there are few; float32 ones of plain_blocks() then make a CompareRow.
  bool compares_few() const;

 private:
  template <class T>
  void build(Budget& budget, const T* thresholds, const uint8_t* descending, T reach, bool negate_in_stage,
             const std::vector<BlockRange>& blocks);
  void reserve(Budget& budget, int64_t blocks, bool compares);

  int bits_ = 0;
  bool has_negation_ = false;
  AlignedArray<uint32_t> thresholds_;  // [blocks][n][kBlock], int32 or float32
  AlignedArray<float> lines_;          // [blocks][multiply, offset][kBlock]
  AlignedArray<int32_t> negate_;       // [blocks][kBlock]
  AlignedArray<int32_t> rules_;        // [blocks] CodeStage::rule
  AlignedArray<float> margins_;        // [blocks]
};

}  // namespace bitorch
