// Pixels from one tensor to another of as many channels, whatever the layouts of both.
#pragma once
#include <cstring>

#include "core/base/rows.h"

namespace bitorch {

// `pixels` pixels that lie side by side in one row of each. Codes in bytes become planes, and the reverse, on the way.
inline void copy_pixels(const RowFunctions& functions, const Layout& from, const uint8_t* in, const Layout& to,
                        uint8_t* out, int64_t pixels) {
  if (from.kind != to.kind) {
    if (from.kind == Kind::kPlanes) {
      read_codes(functions, from, in, pixels, out);
    } else {
      write_codes(functions, to, out, pixels, in);
    }
    return;
  }
  const int64_t planes = from.kind == Kind::kPlanes ? from.bits : 1;
  for (int64_t i = 0; i < planes; ++i) {
    std::memcpy(out + i * to.plane_bytes, in + i * from.plane_bytes, static_cast<size_t>(pixels * from.pixel_bytes));
  }
}

}  // namespace bitorch
