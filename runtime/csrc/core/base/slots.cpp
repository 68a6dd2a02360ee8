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
  const uint32_t slot = (1u << slot_bits_) - 1, half = 1u << (packed.bits - 1);
  for (int64_t row = 0; row < packed.rows; ++row) {
    unpack_row(packed.weight + row * row_bytes, packed.inputs, packed.bits, m.data());
    const int64_t first = row / kSlotColumns * groups_ * kSlotColumns, column = row % kSlotColumns;
    for (int64_t g = 0; g < groups_; ++g) {
      const int64_t at = first + g * kSlotColumns;
      scales[at + column] = packed.scale[row * groups_ + g];
      uint32_t* to = words + at * group_words_ + column;
      for (int64_t k = 0; k < size; ++k) {
        const int64_t bit = k * slot_bits_;
        to[bit / 32 * kSlotColumns] |= ((m[g * size + k] - half) & slot) << bit % 32;
      }
    }
  }
}

}  // namespace bitorch
