#include "core/base/rows.h"

#include <cstring>

namespace bitorch {

const uint8_t* read_codes(const RowFunctions& rows, const Layout& layout, const uint8_t* pixel, int64_t pixels,
                          uint8_t* scratch) {
  if (layout.kind == Kind::kBytes) return pixel;
  if (layout.channels % 8 == 0) {  // the pixels of a plane follow each other without gaps
    rows.planes_to_bytes(scratch, pixel, layout.plane_bytes, pixels * layout.channels, layout.bits);
    return scratch;
  }
  for (int64_t x = 0; x < pixels; ++x) {
    rows.planes_to_bytes(scratch + x * layout.channels, pixel + x * layout.pixel_bytes, layout.plane_bytes,
                         layout.channels, layout.bits);
  }
  return scratch;
}

void write_codes(const RowFunctions& rows, const Layout& layout, uint8_t* pixel, int64_t pixels, const uint8_t* codes) {
  if (layout.kind == Kind::kBytes) {
    if (codes != pixel) std::memcpy(pixel, codes, static_cast<size_t>(pixels * layout.channels));
    return;
  }
  if (layout.channels % 8 == 0) {
    rows.bytes_to_planes(pixel, layout.plane_bytes, codes, pixels * layout.channels, layout.bits);
    return;
  }
  for (int64_t x = 0; x < pixels; ++x) {
    rows.bytes_to_planes(pixel + x * layout.pixel_bytes, layout.plane_bytes, codes + x * layout.channels,
                         layout.channels, layout.bits);
  }
}

}  // namespace bitorch
