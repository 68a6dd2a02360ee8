#include "packing.h"

namespace bitorch {

int64_t packed_row_bytes(int64_t weights_per_channel, int bits) { return (weights_per_channel * bits + 7) / 8; }

void unpack_row(const uint8_t* row, int bits, int64_t first, int64_t count, uint8_t* m) {
  const unsigned mask = (1u << bits) - 1;
  int64_t position = first * bits;
  for (int64_t k = 0; k < count; ++k, position += bits) {
    const int shift = static_cast<int>(position & 7);
    unsigned window = row[position >> 3];
    if (shift + bits > 8) window |= static_cast<unsigned>(row[(position >> 3) + 1]) << 8;
    m[k] = static_cast<uint8_t>((window >> shift) & mask);
  }
}

void pack_row(const uint8_t* m, int64_t count, int bits, uint8_t* row) {
  const int64_t bytes = packed_row_bytes(count, bits);
  for (int64_t i = 0; i < bytes; ++i) row[i] = 0;
  int64_t position = 0;
  for (int64_t k = 0; k < count; ++k, position += bits) {
    const int shift = static_cast<int>(position & 7);
    const unsigned value = static_cast<unsigned>(m[k]) << shift;
    row[position >> 3] = static_cast<uint8_t>(row[position >> 3] | value);
    if (shift + bits > 8) row[(position >> 3) + 1] = static_cast<uint8_t>(value >> 8);
  }
}

}  // namespace bitorch
