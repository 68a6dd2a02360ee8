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
  for (int64_t x = 0; x < pixels; ++x, pixel += layout.pixel_bytes) std::memset(pixel, 0, bytes);
}

void zero_halo_of_part(const Layout& layout, uint8_t* data, int64_t batch) {
  const Halo& halo = layout.halo;
  const int64_t columns = halo.left + layout.width + halo.right;
  const int64_t planes = layout.kind == Kind::kPlanes ? layout.bits : 1;
  for (int64_t n = 0; n < batch; ++n) {
    for (int64_t y = -halo.top; y < layout.height + halo.bottom; ++y) {
      uint8_t* row = data + layout.offset(n, y, -halo.left);
      const bool inside = y >= 0 && y < layout.height;
      for (int64_t i = 0; i < planes; ++i, row += layout.plane_bytes) {
        zero_pixels(layout, row, inside ? halo.left : columns);
        if (inside) zero_pixels(layout, row + (halo.left + layout.width) * layout.pixel_bytes, halo.right);
      }
    }
  }
}

}  // namespace

void zero_halo(const Layout& layout, uint8_t* data, int64_t batch) {
  const Halo& halo = layout.halo;
  if (halo.top == 0 && halo.left == 0 && halo.bottom == 0 && halo.right == 0) return;
  if (!layout.pixels_adjoin()) return zero_halo_of_part(layout, data, batch);
  const int64_t planes = layout.kind == Kind::kPlanes ? layout.bits : 1;
  const int64_t plane_bytes = layout.kind == Kind::kPlanes ? layout.plane_bytes : layout.row_bytes;
  const int64_t left = halo.left * layout.pixel_bytes;
  const int64_t right = halo.right * layout.pixel_bytes;
  for (int64_t n = 0; n < batch; ++n) {
    uint8_t* image = data + n * layout.image_bytes;
    std::memset(image, 0, static_cast<size_t>(halo.top * layout.row_bytes));
    uint8_t* plane = image + halo.top * layout.row_bytes;
    for (int64_t i = 0; i < layout.height * planes; ++i, plane += plane_bytes) {
      std::memset(plane, 0, static_cast<size_t>(left));
      std::memset(plane + plane_bytes - right, 0, static_cast<size_t>(right));
    }
    std::memset(plane, 0, static_cast<size_t>(halo.bottom * layout.row_bytes));
  }
}

}  // namespace bitorch
