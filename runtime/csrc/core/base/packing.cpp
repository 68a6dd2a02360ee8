#include "core/base/packing.h"

#include <algorithm>
#include <cstring>

namespace bitorch {

namespace {

// The first of the `size` bytes lowest, whatever this machine's order.
uint64_t load_bytes(const uint8_t* p, int64_t size) {
  uint64_t word = 0;
  for (int64_t i = 0; i < size; ++i) word |= static_cast<uint64_t>(p[i]) << 8 * i;
  return word;
}

// Compilers see one move in a memcpy of 1, 2, 4 or 8 bytes, but not in a loop over them.
constexpr bool kLowestFirst = __BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__;

template <int kBytes>
uint64_t load_word(const uint8_t* p) {
  if constexpr (!kLowestFirst) {
    return load_bytes(p, kBytes);
  } else if constexpr ((kBytes & (kBytes - 1)) == 0) {
    uint64_t word = 0;
    std::memcpy(&word, p, kBytes);
    return word;
  } else {
    constexpr int kFirst = kBytes > 4 ? 4 : 2;
    return load_word<kFirst>(p) | load_word<kBytes - kFirst>(p + kFirst) << 8 * kFirst;
  }
}

void store_word(uint64_t word, uint8_t* p) {
  if (kLowestFirst) {
    std::memcpy(p, &word, 8);
    return;
  }
  for (int i = 0; i < 8; ++i) p[i] = static_cast<uint8_t>(word >> 8 * i);
}

// A byte for each of the eight fields of kBits bits: halves of the word move apart, then halves of these.
template <int kBits>
uint64_t spread_fields(uint64_t word) {
  constexpr uint64_t kField = (1u << kBits) - 1, kPair = (uint64_t{1} << 2 * kBits) - 1,
                     kFour = (uint64_t{1} << 4 * kBits) - 1;
  word = (word & kFour) | (word >> 4 * kBits & kFour) << 32;
  word = (word & kPair * 0x0000000100000001u) | (word >> 2 * kBits & kPair * 0x0000000100000001u) << 16;
  return (word & kField * 0x0001000100010001u) | (word >> kBits & kField * 0x0001000100010001u) << 8;
}
// Of single bits: byte i keeps bit i of as many copies, and what is not 0 becomes 1.
template <>
uint64_t spread_fields<1>(uint64_t word) {
  const uint64_t kept = word * 0x0101010101010101u & 0x8040201008040201u;
  return (kept + 0x7f7f7f7f7f7f7f7fu) >> 7 & 0x0101010101010101u;
}
template <>
uint64_t spread_fields<8>(uint64_t word) {
  return word;
}

// Eight weights are kBits bytes: one word.
template <int kBits>
void unpack(const uint8_t* row, int64_t count, uint8_t* m) {
  int64_t k = 0;
  for (; k + 8 <= count; k += 8, row += kBits) {
    store_word(spread_fields<kBits>(load_word<kBits>(row)), m + k);
  }
  const uint64_t fields = spread_fields<kBits>(load_bytes(row, packed_row_bytes(count - k, kBits)));
  for (int i = 0; k < count; ++i, ++k) m[k] = static_cast<uint8_t>(fields >> 8 * i);
}

}  // namespace

int64_t packed_row_bytes(int64_t weights_per_channel, int bits) { return (weights_per_channel * bits + 7) / 8; }

void unpack_row(const uint8_t* row, int64_t count, int bits, uint8_t* m) {
  constexpr void (*kUnpack[])(const uint8_t*, int64_t, uint8_t*) = {unpack<1>, unpack<2>, unpack<3>, unpack<4>,
                                                                    unpack<5>, unpack<6>, unpack<7>, unpack<8>};
  kUnpack[bits - 1](row, count, m);
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

void split_planes(const uint8_t* m, int64_t count, int bits, uint8_t* planes, int64_t plane_bytes) {
  constexpr uint64_t kLowBits = 0x0101010101010101u, kGather = 0x0102040810204080u;
  for (int64_t k = 0; k < count; k += 8) {
    const uint64_t codes = load_bytes(m + k, std::min<int64_t>(8, count - k));
    // The product adds bit 0 of byte i at bit 56 + i, and nothing else reaches the highest byte.
    for (int j = 0; j < bits; ++j)
      planes[j * plane_bytes + k / 8] = static_cast<uint8_t>((codes >> j & kLowBits) * kGather >> 56);
  }
}

void copy_bits(uint8_t* out, const uint8_t* in, int64_t first, int64_t count) {
  in += first / 8;
  const int shift = static_cast<int>(first % 8);
  for (; count > 0; count -= 32, in += 4, out += 4) {
    const int64_t taken = std::min<int64_t>(count, 32);
    const uint64_t bits = load_bytes(in, 8) >> shift & ((uint64_t{1} << taken) - 1);
    for (int64_t i = 0; 8 * i < taken; ++i) out[i] = static_cast<uint8_t>(bits >> 8 * i);
  }
}

}  // namespace bitorch
