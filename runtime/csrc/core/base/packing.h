// The canonical order of packed weights, the same on every machine.
//
// A weight code c is stored as an m of `bits` bits: on the odd grid (c odd, -n <= c <= n, n = 2^bits - 1) as (c + n) /
// 2, on the signed one (-2^(bits - 1) <= c < 2^(bits - 1)) as c + 2^(bits - 1). The weights of one output channel are
// taken in the order (kernel_h, kernel_w, in_channels / groups), last index fastest; weight k occupies the bits k*bits
// .. (k+1)*bits - 1 of the channel's row, bit b of the row being bit b%8 of byte b/8. Each row starts at a byte; the
// bits that fill up its last byte are zero.
#pragma once
#include <cstdint>

namespace bitorch {

int64_t packed_row_bytes(int64_t weights_per_channel, int bits);
// m of the first `count` weights of one row.
void unpack_row(const uint8_t* row, int64_t count, int bits, uint8_t* m);
void pack_row(const uint8_t* m, int64_t count, int bits, uint8_t* row);
// Bit j of every m: bit k%8 of byte k/8 at planes + j*plane_bytes, for j < bits. Bits beyond `count` of the last byte
// are zero.
void split_planes(const uint8_t* m, int64_t count, int bits, uint8_t* planes, int64_t plane_bytes);
// `count` bits from bit `first` of `in` on to the beginning of `out`; the rest of out's last byte is zero. Reads up to
// 8 bytes from each byte that it needs.
void copy_bits(uint8_t* out, const uint8_t* in, int64_t first, int64_t count);

}  // namespace bitorch
