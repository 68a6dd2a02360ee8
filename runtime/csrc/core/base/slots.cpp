#include "core/base/slots.h"

#include <utility>

#include "core/base/checked.h"
#include "core/base/packing.h"

namespace bitorch {

namespace {

constexpr const char* kWhat = "the weights";

int slot_bits_for(int bits) { return bits <= 2 ? bits : bits <= 4 ? 4 : 8; }

}  // namespace

GroupSlots::GroupSlots(const PackedGroups& packed, Preparation& preparation)
    : blocks_(ceil_div(packed.rows, kSlotColumns)),
      groups_(packed.groups),
      slot_bits_(slot_bits_for(packed.bits)),
      odd_(packed.odd) {
  group_words_ = ceil_div(packed.inputs / groups_ * slot_bits_, 32);
  Budget& budget = preparation.budget();
  const int64_t columns = checked_mul(blocks_ * kSlotColumns, groups_, kWhat);
  AlignedArray<uint32_t> words(budget, checked_mul(columns, group_words_, kWhat), kWhat);
  AlignedArray<float> scales(budget, columns, kWhat);
  fill(packed, budget, words.data(), scales.data());
  words_ = preparation.kept(std::move(words));
  scales_ = preparation.kept(std::move(scales));
}

CodeSlots GroupSlots::block(int64_t i) const {
  const int64_t columns = groups_ * kSlotColumns;
  return {words_->data() + i * columns * group_words_,
          scales_->data() + i * columns,
          groups_,
          group_words_,
          slot_bits_,
          odd_};
}

void GroupSlots::fill(const PackedGroups& packed, Budget& budget, uint32_t* words, float* scales) const {
  budget.work(checked_mul(packed.rows, checked_mul(packed.inputs, 3, kWhat), kWhat));
  TemporaryArray<uint8_t> m(budget, packed.inputs, kWhat);
  const int64_t row_bytes = packed_row_bytes(packed.inputs, packed.bits), size = packed.inputs / groups_;
  const uint32_t slot = (1u << slot_bits_) - 1, zero = packed.stored ? 0 : 1u << (packed.bits - 1);
  for (int64_t row = 0; row < packed.rows; ++row) {
    unpack_row(packed.weight + row * row_bytes, packed.inputs, packed.bits, m.data());
    const int64_t first = row / kSlotColumns * groups_ * kSlotColumns, column = row % kSlotColumns;
    for (int64_t g = 0; g < groups_; ++g) {
      const int64_t at = first + g * kSlotColumns;
      scales[at + column] = packed.scale[row * groups_ + g];
      uint32_t* to = words + at * group_words_ + column;
      for (int64_t k = 0; k < size; ++k) {
        const int64_t bit = k * slot_bits_;
        to[bit / 32 * kSlotColumns] |= ((m[g * size + k] - zero) & slot) << bit % 32;
      }
    }
  }
}

Kept<int32_t> sums_of_groups(const PackedGroups& packed, int32_t factor, Preparation& preparation) {
  Budget& budget = preparation.budget();
  const int64_t blocks = ceil_div(packed.rows, kSlotColumns), size = packed.inputs / packed.groups;
  const int64_t row_bytes = packed_row_bytes(packed.inputs, packed.bits);
  AlignedArray<int32_t> sums(budget, checked_mul(blocks * kSlotColumns, packed.groups, kWhat), kWhat);
  budget.work(checked_mul(packed.rows, checked_mul(packed.inputs, 2, kWhat), kWhat));
  TemporaryArray<uint8_t> m(budget, packed.inputs, kWhat);
  const uint32_t step = packed.odd ? 2 : 1, highest = packed.odd ? (1u << packed.bits) - 1 : 1u << (packed.bits - 1);
  for (int64_t row = 0; row < packed.rows; ++row) {
    unpack_row(packed.weight + row * row_bytes, packed.inputs, packed.bits, m.data());
    int32_t* to = sums.data() + row / kSlotColumns * packed.groups * kSlotColumns + row % kSlotColumns;
    for (int64_t g = 0; g < packed.groups; ++g) {
      uint32_t sum = 0;
      for (int64_t k = 0; k < size; ++k) sum += step * m[g * size + k] - highest;
      to[g * kSlotColumns] = static_cast<int32_t>(sum * static_cast<uint32_t>(factor));
    }
  }
  return preparation.kept(std::move(sums));
}

}  // namespace bitorch
