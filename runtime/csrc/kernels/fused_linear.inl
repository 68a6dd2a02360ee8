// Linear layers and other 1x1 convolutions, whose weights stay as narrow as they are: what the instruction sets share,
// the layout of the weights. Included inside a namespace of each kernel file's own.
//
// With few pixels a layer waits for its weights, so they lie in memory in fields of 1, 2, 4 or 8 bits, several to a
// byte, and are widened in registers. A block is 64 output channels, a group 16 input channels of it, 128 bytes per
// bit:
//
//   block    | group 0 | group 1 | ...            |     K / 16 groups, rounded up
//   group    2, 4, 8 or 16 vectors of 64 bytes, one dword per output channel, 16 channels to a vector
//   byte b of a dword: input channel 4 s + b, for s = 0 .. 3 and f = 0 .. 3 (output channels 16 f .. 16 f + 15) at bit
//   (4 s + f) * field of the vectors, one vector after the other:
//
//   4 bits   vector 2 s          | f = 1 | f = 0 |         vector 2 s + 1      | f = 3 | f = 2 |
//   2 bits   vector s            | f = 3 | f = 2 | f = 1 | f = 0 |
//   1 bit    vector s / 2        | s odd: f = 3, 2, 1, 0 | s even: f = 3, 2, 1, 0 |
//
// The fields of a byte belong to the same input channel but different output channels. So the byte need not be taken
// apart: the products of the lowest bits alone, of the bits up to the second field, up to the third, and of the byte as
// it is are sums of which each holds the one before, and a field's own sum is the difference,
//
//   field f:  (sum of (byte mod 2^((f + 1) * field)) q - sum of (byte mod 2^(f * field)) q) / 2^(f * field)
//
// one operation for each field but the last, which needs none, and no shift. The byte as it is is signed, as vpdpbusd
// and its kin want it, so its highest field stands for m - 2^(field - 1): that bit is stored inverted. Of 1 bit halves
// of bytes are told apart, one shift for both, and there is no sign.

// Bits that a weight takes in memory.
static inline int32_t field_bits(int32_t weight_bits) {
  return weight_bits <= 2 ? weight_bits : weight_bits <= 4 ? 4 : 8;
}

// What is taken away from m in channels 16 f .. 16 f + 15 of each 64.
static constexpr int32_t field_offset(int32_t field, int f) {
  return field == 8 || (field == 4 && f % 2 == 1) || (field == 2 && f == 3) ? 1 << (field - 1) : 0;
}

// Vectors of a group of 16 input channels.
constexpr int32_t kLinearGroup = 16;
static inline int64_t linear_groups(const FusedSpec* spec) {
  return (spec->in_channels + kLinearGroup - 1) / kLinearGroup;
}
static inline int64_t linear_blocks(const FusedSpec* spec) {
  return (spec->out_channels + kFusedChannels - 1) / kFusedChannels;
}
static inline int64_t linear_block_bytes(const FusedSpec* spec) {
  return linear_groups(spec) * 128 * field_bits(spec->weight_bits);
}

// 1x1 without groups, from codes in bytes, and sums of stored fields that fit in int32.
static bool is_linear(const FusedSpec* spec) {
  const bool pointwise = spec->kernel_h == 1 && spec->kernel_w == 1 && spec->groups == 1 && spec->input_planes == 0;
  const int64_t largest = int64_t{128} * ((1 << spec->activation_bits) - 1) * spec->in_channels;
  return pointwise && largest < int64_t{1} << 31;
}

static int64_t linear_bytes(const FusedSpec* spec) { return linear_blocks(spec) * linear_block_bytes(spec); }

// One output channel: its dword of every four input channels.
static void prepare_linear_channel(const FusedSpec* spec, const uint8_t* m, int32_t channel, bool has_sign,
                                   uint8_t* block) {
  const int32_t field = field_bits(spec->weight_bits), f = channel % kFusedChannels / 16;
  const int32_t lane = channel % 16, offset = has_sign ? field_offset(field, f) : 0;
  for (int32_t k = 0; k < spec->in_channels; k += 4) {
    const int32_t count = spec->in_channels - k < 4 ? spec->in_channels - k : 4;
    uint32_t codes = 0;
    if (count == 4) {
      __builtin_memcpy(&codes, m + k, 4);
      codes ^= static_cast<uint32_t>(offset) * 0x01010101u;
    } else {
      for (int32_t b = 0; b < count; ++b) codes |= static_cast<uint32_t>(m[k + b] ^ offset) << (8 * b);
    }
    const int32_t s = k % kLinearGroup / 4, bit = (4 * s + f) * field;
    uint8_t* to = block + int64_t{k / kLinearGroup} * 128 * field + bit / 8 * 64 + lane * 4;
    uint32_t word;
    __builtin_memcpy(&word, to, 4);
    word |= codes << (bit % 8);
    __builtin_memcpy(to, &word, 4);
  }
}

// has_sign: the highest field of a byte is stored with its highest bit inverted.
static void prepare_linear_weights(const FusedSpec* spec, const uint8_t* m, bool has_sign, void* prepared) {
  for (int32_t c = 0; c < spec->out_channels; ++c) {
    uint8_t* block = static_cast<uint8_t*>(prepared) + c / kFusedChannels * linear_block_bytes(spec);
    prepare_linear_channel(spec, m + int64_t{c} * spec->in_channels, c, has_sign, block);
  }
}
