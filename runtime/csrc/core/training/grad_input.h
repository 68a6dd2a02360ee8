// dx of one sample in the channels of one group, from the levels of its gradient.
#pragma once
#include <cstdint>
#include <vector>

#include "core/training/gradient_spec.h"
#include "core/training/images.h"
#include "core/training/tiles.h"
#include "core/training/weight_codes.h"

namespace bitorch {

// Codes are multiple * j - n with levels j from 0 on, so the sum of code * c is multiple * (sum of j * c) - n *
// (sum of c), where the second sum runs over the taps that meet a pixel of y: a constant of each class of rows and
// columns.
class GradInput {
 public:
  GradInput(const TrainingKernels& kernels, const ConvShape& shape, const WeightCodes& weight,
            const GradientSpec& gradient, int64_t group);

  // What one thread works in.
  struct Room {
    Scratch<uint8_t> image;
    Scratch<int32_t> pixels, halves;
  };
  Room make_room() const;

  // levels [out.rows][out.columns][out_channels], dx and mask are those of all channels; mask: or null. A room of any
  // group will do.
  void run(const Room& room, const uint8_t* levels, float scale, const uint8_t* mask, float* dx) const;

 private:
  // Windows that meet the same taps, and what their sums begin with: [row classes][column classes][padded channels].
  struct Classes {
    std::vector<TapRange> ranges;
    std::vector<int32_t> of;  // for each position
  };
  struct Part {
    Phase rows, columns;
    Classes row_classes, column_classes;
    Scratch<int8_t> packed;
    Scratch<int32_t> border;
  };

  static Classes classes_of(const Phase& phase, int64_t extent);
  Scratch<int32_t> border_of(const Part& part, const std::vector<int32_t>& sums, int n) const;
  void sum_windows(const Room& room, const Part& part) const;
  void run_row(const Room& room, const Part& part, int64_t block, int64_t y, float scale, const uint8_t* mask,
               float* dx) const;

  const TrainingKernels& kernels_;
  ConvShape s_;                         // of the group
  int64_t group_, in_step_, out_step_;  // channels of x and y
  bool halved_, twice_;
  int32_t largest_;  // product of a level and what stands for a weight's code
  Image image_;
  std::vector<Part> parts_;
};

}  // namespace bitorch
