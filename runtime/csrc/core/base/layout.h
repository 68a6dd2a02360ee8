// How one tensor lies in memory. Every tensor of a program is NHWC: images, rows, pixels, channels.
//
//   kFloat, kInt  [H+halo][W+halo][C] of 4 bytes
//   kBytes        [H+halo][W+halo][C] codes of one byte, 0 .. 2^bits - 1
//   kPlanes       [H+halo][bits][W+halo][ceil(C/8)]: in each row one bit plane after the other; channel c is bit c%8 of
//                 byte c/8 of its pixel; bits beyond C are zero
//
// One row of kPlanes, 2 bits, halo of one pixel on each side, 20 channels (3 bytes per pixel and plane):
//
//   |<------------- plane 0 ------------->|<------------- plane 1 ------------->|
//   | 000 | bbb | bbb | ... | bbb |  000  | 000 | bbb | bbb | ... | bbb |  000  |   row_bytes
//    halo  x=0   x=1         x=W-1  halo   ^ pixel + plane_bytes
//
// A row's planes lie one after the other, not a whole image's: what a window reads of all planes is a few rows of
// memory. Within a plane neighbouring pixels adjoin, so that the taps of a kernel row are one run of bytes, which
// kernels read 4 at a time whatever the number of channels.
//
// The halo is a ring of pixels of value 0 (code 0) around each image, as wide as the widest padding among the tensor's
// consumers, so that no convolution kernel has edge cases. Its producer zeroes it on every run: tensors share memory
// whose earlier contents are another's. Kernels read 4 bytes at any byte offset, staging of tables whole vectors, so a
// buffer is followed by at least kSlack readable bytes.
//
//         left  width   right
//        +----+-------+----+
//        | 0  |   0   | 0  |  top
//        +----+-------+----+
//        | 0  | image | 0  |  height      offset(n, 0, 0) is the first pixel of the image,
//        +----+-------+----+              offset(n, -top, -left) where the memory begins
//        | 0  |   0   | 0  |  bottom
//        +----+-------+----+
//
// A part of another tensor is some of its channels: the same rows, pixels and halo, at the same strides, from
// first_byte of each pixel on. Its pixels do not adjoin.
#pragma once
#include <cstdint>

namespace bitorch {

enum class Kind { kFloat, kInt, kBytes, kPlanes };

constexpr int64_t kSlack = 64;
static_assert(kSlack >= 64, "kernels read up to 63 bytes past a pixel");

struct Halo {
  int64_t top = 0, left = 0, bottom = 0, right = 0;
};

struct Layout {
  Kind kind = Kind::kFloat;
  int64_t height = 1, width = 1, channels = 1;
  int bits = 0;  // of codes
  Halo halo;
  int64_t pixel_bytes = 0;  // from one pixel to the next
  int64_t plane_bytes = 0;  // from one bit plane of a row to the next; kPlanes only
  int64_t row_bytes = 0;
  int64_t image_bytes = 0;  // a multiple of 64
  int64_t first_byte = 0;   // of each pixel; not 0 but for parts

  // Fills in the strides; throws Error when a size does not fit.
  static Layout make(Kind kind, int64_t height, int64_t width, int64_t channels, int bits, Halo halo);
  // Byte offset of pixel (y, x) of image n, halo excluded: (0, 0) is the first real pixel.
  int64_t offset(int64_t n, int64_t y, int64_t x) const {
    return n * image_bytes + (y + halo.top) * row_bytes + (x + halo.left) * pixel_bytes + first_byte;
  }
  // What the channels of a pixel take, in one bit plane where they lie in planes.
  int64_t channel_bytes() const;
  bool pixels_adjoin() const { return pixel_bytes == channel_bytes(); }
  bool has_halo() const;
  // Channels first .. first + channels - 1 of this one. Of planes, a multiple of 8 of them or the last ones, from a
  // multiple of 8 on.
  Layout part(int64_t first, int64_t channels) const;
};

// Zeroes the ring around each of `batch` images.
void zero_halo(const Layout& layout, uint8_t* data, int64_t batch);
// What of image n's ring belongs to its rows first .. last - 1: what is beside them, above row 0, below the last row.
// Threads that share an image zero what they write next to: two cores do not pass its lines to and fro.
void zero_halo(const Layout& layout, uint8_t* data, int64_t n, int64_t first, int64_t last);

}  // namespace bitorch
