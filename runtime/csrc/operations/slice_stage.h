// Slices of a volume side by side: what a window sees of several slices becomes the channels of one image, between
// borders of zeros.
//
//   slices  | H x W x C | H x W x C | ..          stage  [halo + H + halo][halo + W + halo][groups][slices][C / groups]
#pragma once
#include <cstdint>
#include <vector>

#include "core/base/layout.h"
#include "core/kernels.h"

namespace bitorch {

class SliceStage {
 public:
  // slice: the layout of a slice of the input; stage: of as many channels as `slices` of them have, in bytes, planes
  // or floats. Planes become planes only where channels_fit().
  SliceStage(const Layout& slice, const Layout& stage, int64_t slices, int64_t groups);
  // Whether planes of slices can be put side by side.
  static bool channels_fit(int64_t channels, int64_t groups) { return groups == 1 && channels % 8 == 0; }

  int64_t bytes() const { return stage_.image_bytes + kSlack; }
  int64_t scratch_bytes() const;
  // image: where the rows of the input's slices begin, its halo included; slices: which of them.
  void fill(const RowFunctions& rows, const uint8_t* image, const std::vector<int64_t>& slices, uint8_t* stage,
            uint8_t* scratch) const;

 private:
  Layout slice_, stage_;
  int64_t slices_, groups_;
};

}  // namespace bitorch
