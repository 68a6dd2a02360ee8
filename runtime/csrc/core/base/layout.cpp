#include "core/base/layout.h"

#include <cstring>

#include "core/base/checked.h"

namespace bitorch {

namespace {

int64_t pixel_size(Kind kind, int64_t channels) {
  switch (kind) {
    case Kind::kFloat:
    case Kind::kInt:
      return checked_mul(channels, 4, "a tensor");
    case Kind::kBytes:
      return channels;
    case Kind::kPlanes:
      return ceil_div(channels, 8);
  }
  throw Error("a tensor of unknown kind");
}

}  // namespace

Layout Layout::make(Kind kind, int64_t height, int64_t width, int64_t channels, int bits, Halo halo) {
  Layout layout;
  layout.kind = kind;
  layout.height = height;
  layout.width = width;
  layout.channels = channels;
  layout.bits = bits;
  layout.halo = halo;
  const char* what = "a tensor";
  const int64_t columns = checked_add(width, checked_add(halo.left, halo.right, what), what);
  const int64_t rows = checked_add(height, checked_add(halo.top, halo.bottom, what), what);
  layout.pixel_bytes = pixel_size(kind, channels);
  const int64_t plane = checked_mul(columns, layout.pixel_bytes, what);
  layout.plane_bytes = kind == Kind::kPlanes ? plane : 0;
  layout.row_bytes = kind == Kind::kPlanes ? checked_mul(plane, bits, what) : plane;
  layout.image_bytes = round_up(checked_add(checked_mul(rows, layout.row_bytes, what), 63, what) - 63, 64);
  return layout;
}

int64_t Layout::channel_bytes() const { return pixel_size(kind, channels); }

Layout Layout::part(int64_t first, int64_t count) const {
  Layout layout = *this;
  layout.channels = count;
  layout.first_byte += pixel_size(kind, first);
  return layout;
}

namespace {

// `pixels` pixels from one on.
void zero_pixels(const Layout& layout, uint8_t* pixel, int64_t pixels) {
  const auto bytes = static_cast<size_t>(layout.channel_bytes());
  if (layout.pixels_adjoin()) {
    std::memset(pixel, 0, bytes * static_cast<size_t>(pixels));
    return;
  }
  for (int64_t x = 0; x < pixels; ++x, pixel += layout.pixel_bytes) std::memset(pixel, 0, bytes);
}

// Row y of the ring or, within the image, what is beside it.
void zero_row(const Layout& layout, uint8_t* data, int64_t n, int64_t y) {
  const Halo& halo = layout.halo;
  const bool inside = y >= 0 && y < layout.height;
  const int64_t planes = layout.kind == Kind::kPlanes ? layout.bits : 1;
  uint8_t* row = data + layout.offset(n, y, -halo.left);
  for (int64_t i = 0; i < planes; ++i, row += layout.plane_bytes) {
    zero_pixels(layout, row, inside ? halo.left : halo.left + layout.width + halo.right);
    if (inside) zero_pixels(layout, row + (halo.left + layout.width) * layout.pixel_bytes, halo.right);
  }
}

}  // namespace

bool Layout::has_halo() const { return halo.top + halo.left + halo.bottom + halo.right > 0; }

void zero_halo(const Layout& layout, uint8_t* data, int64_t n, int64_t first, int64_t last) {
  if (!layout.has_halo()) return;
  const int64_t begin = first == 0 ? -layout.halo.top : first;
  const int64_t end = last == layout.height ? last + layout.halo.bottom : last;
  for (int64_t y = begin; y < end; ++y) zero_row(layout, data, n, y);
}

void zero_halo(const Layout& layout, uint8_t* data, int64_t batch) {
  for (int64_t n = 0; n < batch; ++n) zero_halo(layout, data, n, 0, layout.height);
}

}  // namespace bitorch
