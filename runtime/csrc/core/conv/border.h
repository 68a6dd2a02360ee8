// What padding adds to D, where codes do not mean themselves: those of signs and those with a zero point.
#pragma once
#include <cstdint>
#include <vector>

#include "core/base/aligned.h"
#include "core/conv/conv.h"
#include "core/conv/thresholds.h"

namespace bitorch {

// sums[row class][column class][block][kBlock]
struct ConvBorder {
  AlignedArray<int32_t> row_class, column_class;  // of each output
  int64_t column_classes = 0;
  AlignedArray<int32_t> sums;
};

// sums: minus `times` the sum of the weight codes on real pixels. negate: as of WeightRows.
ConvBorder make_border(const ConvSpec& spec, int64_t times, const uint8_t* negate,
                       const std::vector<BlockRange>& blocks, Budget& budget);

}  // namespace bitorch
