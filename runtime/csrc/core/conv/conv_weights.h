// From canonical weights to the layout of a method: blocks of output channels, and the list of 4-byte steps that the
// kernels walk through for each output pixel.
//
//   a pixel's window, as the input holds it          weights of one block, bytes [steps][32 channels][4]
//
//   row 0   | tap | tap | tap | .. more pixels       step 0  | c0: 4 | c1: 4 | c2: 4 | ... | c31: 4 |
//   row 1   | tap | tap | tap |                      step 1  | c0: 4 | c1: 4 | ...
//   row 2   | tap | tap | tap |                      ...
//             `--- 4 bytes = one step, at pixel + steps[s]
//
// A kernel loads the 4 bytes of a step once, repeats them in every lane of a vector, and meets them with one vector of
// weights per 16 channels: the input is read as it lies, without im2col, and weights are read in the order of memory.
// The kernel's size and dilation are in `steps`, its stride in the addresses of pixels: kernel functions know neither.
#pragma once
#include <cstdint>
#include <memory>
#include <vector>

#include "core/base/aligned.h"
#include "core/base/preparation.h"
#include "core/conv/conv.h"
#include "core/conv/thresholds.h"

namespace bitorch {

// A row of pixels as the kernels read it: the input itself, or what was staged from it.
struct PixelFormat {
  int64_t pixel_bytes;
  int64_t row_bytes;
  int channel_bits;      // 1 bit planes, 8 bytes, 16 words, 32 floats; 0 tables
  int64_t table_stride;  // kTables: from one table of a pixel to the next
};

struct ConvBlock {
  int64_t first_channel;  // of the output
  int32_t channels;
  int64_t input_offset;   // bytes from a pixel to the block's first input channel
  int64_t weight_offset;  // bytes into ConvWeights::data
  int64_t group;          // window sums are per group
};

// The same for images of any size, so that layers with the same weights can share it.
struct ConvWeights {
  AlignedArray<ConvBlock> blocks;
  Kept<uint8_t> data;
};

// Depthwise in the sense of kDepthwise: one input channel per output channel.
bool is_depthwise(const ConvGeometry& geometry);
// Whether its weights are (c - 1) / 2, because the codes do not fit int8: 8-bit ones of the odd grid in kBytes.
bool halves_codes(const ConvSpec& spec, Method method);
// Whether one block holds several small groups, with zero weights between them.
bool merges_groups(const ConvSpec& spec, Method method);
// The output channels, 0 or 1, whose codes fall with D and whose weights therefore change sign, so that every threshold
// rises; null: none. Not where D itself leaves as well, and not on the signed grid, which has no -c for its lowest c.
// y is the same, as its factor changes sign too, but where D is 0 and the offset -0.
const uint8_t* negated_channels(const ConvSpec& spec);
// Which output channels share a block.
std::vector<BlockRange> conv_blocks(const ConvGeometry& geometry, bool merged);

// The weights of a low-bit layer, one output channel at a time; the memory of one channel serves the next.
class WeightRows {
 public:
  // negate: the output channels whose weights change sign, or null; on the signed grid none of them may hold m = 0.
  WeightRows(Budget& budget, const ConvSpec& spec, const uint8_t* negate);

  // m of every weight, [kernel_h * kernel_w][in_channels / groups].
  void write(int64_t channel, uint8_t* m) const;
  // The same; the caller may change them.
  uint8_t* codes(int64_t channel);
  // The same in bit planes: bit j of weight k is bit k%8 of byte k/8 at j * plane_bytes().
  const uint8_t* planes(int64_t channel);
  int64_t plane_bytes() const { return (count_ + 7) / 8 + 8; }  // 8 more than needed: they are read in words

 private:
  const ConvSpec& spec_;
  const uint8_t* negate_;
  int64_t count_;
  TemporaryArray<uint8_t> codes_, planes_;
};

// The largest |D| there is: in every channel each input counts for at most its largest code.
int64_t largest_result(const ConvSpec& spec, Budget& budget);

struct PreparedWeights {
  std::shared_ptr<const ConvWeights> weights;
  AlignedArray<int32_t> steps;  // byte offsets from a pixel, the same for every block
};
// negate: as of WeightRows.
PreparedWeights prepare_weights(const ConvSpec& spec, Method method, const KernelTable& kernels,
                                const PixelFormat& format, const uint8_t* negate, Preparation& preparation);

}  // namespace bitorch
