#include "operations/slice_stage.h"

#include <cstring>

#include "core/base/checked.h"
#include "core/base/rows.h"

namespace bitorch {

namespace {

template <int kBytes>
void spread_fixed(uint8_t* out, int64_t out_step, const uint8_t* in, int64_t in_step, int64_t count) {
  for (int64_t i = 0; i < count; ++i) std::memcpy(out + i * out_step, in + i * in_step, kBytes);
}

// Pieces of `bytes` bytes that lie in_step apart to where they lie out_step apart.
void spread(uint8_t* out, int64_t out_step, const uint8_t* in, int64_t in_step, int64_t count, int64_t bytes) {
  switch (bytes) {
    case 1:
      return spread_fixed<1>(out, out_step, in, in_step, count);
    case 2:
      return spread_fixed<2>(out, out_step, in, in_step, count);
    case 4:
      return spread_fixed<4>(out, out_step, in, in_step, count);
    case 8:
      return spread_fixed<8>(out, out_step, in, in_step, count);
    case 16:
      return spread_fixed<16>(out, out_step, in, in_step, count);
    case 32:
      return spread_fixed<32>(out, out_step, in, in_step, count);
    case 64:
      return spread_fixed<64>(out, out_step, in, in_step, count);
    default:
      for (int64_t i = 0; i < count; ++i) {
        std::memcpy(out + i * out_step, in + i * in_step, static_cast<size_t>(bytes));
      }
  }
}

}  // namespace

SliceStage::SliceStage(const Layout& slice, const Layout& stage, int64_t slices, int64_t groups)
    : slice_(slice), stage_(stage), slices_(slices), groups_(groups) {}

// A row of codes, where they are bytes in the input and planes in the stage.
int64_t SliceStage::scratch_bytes() const {
  if (slice_.kind == stage_.kind) return 0;
  return round_up(checked_mul(stage_.width, stage_.channels, "scratch memory"), 64);
}

void SliceStage::fill(const RowFunctions& rows, const uint8_t* image, const std::vector<int64_t>& slices,
                      uint8_t* stage, uint8_t* scratch) const {
  zero_halo(stage_, stage, 1);
  const bool converts = slice_.kind != stage_.kind;
  const int64_t planes = slice_.kind == Kind::kPlanes ? slice_.bits : 1;
  const int64_t piece = slice_.channel_bytes() / groups_;  // channels of a group, of one slice
  const int64_t pixel = converts ? stage_.channels : stage_.pixel_bytes;
  for (int64_t y = 0; y < slice_.height; ++y) {
    uint8_t* const row = stage + stage_.offset(0, y, 0);
    uint8_t* const out = converts ? scratch : row;
    for (int64_t s = 0; s < slices_; ++s) {
      const uint8_t* in = image + slice_.offset(0, slices[static_cast<size_t>(s)] * slice_.height + y, 0);
      for (int64_t i = 0; i < planes; ++i) {
        for (int64_t g = 0; g < groups_; ++g) {
          spread(out + i * stage_.plane_bytes + (g * slices_ + s) * piece, pixel,
                 in + i * slice_.plane_bytes + g * piece, slice_.pixel_bytes, slice_.width, piece);
        }
      }
    }
    if (converts) write_codes(rows, stage_, row, stage_.width, scratch);
  }
}

}  // namespace bitorch
