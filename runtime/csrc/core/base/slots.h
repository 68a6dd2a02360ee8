// Packed codes in slots of words, as kernels read them (CodeSlots in matrix_kernels.h).
#pragma once
#include <cstdint>

#include "core/base/aligned.h"
#include "core/base/preparation.h"
#include "core/matrix_kernels.h"

namespace bitorch {

// A matrix of codes, rows of the canonical order (packing.h), with a scale for each group of a row's inputs.
struct PackedGroups {
  const uint8_t* weight = nullptr;  // [rows][packed_row_bytes]
  int bits = 0;
  bool odd = false;
  const float* scale = nullptr;  // [rows][groups]
  int64_t rows = 0, inputs = 0;
  int64_t groups = 1;   // divides the inputs
  bool stored = false;  // whether slots hold the stored m, not q
};

// The same in blocks of kSlotColumns rows, which are the columns of the product; the last block is filled up with 0.
class GroupSlots {
 public:
  GroupSlots() = default;
  GroupSlots(const PackedGroups& packed, Preparation& preparation);

  CodeSlots block(int64_t i) const;
  int64_t blocks() const { return blocks_; }
  int64_t groups() const { return groups_; }
  int64_t group_depth() const { return group_words_ * (32 / slot_bits_); }  // of a group, with what fills it up
  int64_t depth() const { return groups_ * group_depth(); }
  int slot_bits() const { return slot_bits_; }
  int64_t bytes() const { return words_->size() * 4 + scales_->size() * 4; }

 private:
  void fill(const PackedGroups& packed, Budget& budget, uint32_t* words, float* scales) const;

  int64_t blocks_ = 0, groups_ = 1, group_words_ = 1;
  int slot_bits_ = 8;
  bool odd_ = false;
  Kept<uint32_t> words_;  // [blocks][groups][group_words][kSlotColumns]
  Kept<float> scales_;    // [blocks][groups][kSlotColumns]
};

// factor times the sum of the codes of each group of each row, modulo 2^32, where a block of GroupSlots has its scales:
// [blocks][groups][kSlotColumns].
Kept<int32_t> sums_of_groups(const PackedGroups& packed, int32_t factor, Preparation& preparation);

}  // namespace bitorch
