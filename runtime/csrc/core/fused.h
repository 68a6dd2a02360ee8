// Fused kernels: one function that makes whole rows of a convolution's outputs, from codes to codes or floats, without
// the sums ever lying in memory. Like kernels.h this header holds plain structs only.
//
//   staged (kernels.h)     codes -> dot -> tile of int32 -> finish_int / int_to_float / int_to_codes -> codes, floats
//   fused                  codes -> registers -> codes, floats
//
// The staged path serves every layer; it is the oracle and the fallback. A fused kernel serves the layers that suit it,
// gives the same bits, and owns everything inside: the layout of its weights, the order of its loops, its scratch.
#pragma once
#include <cstdint>

namespace bitorch {

// The processors whose costs are known. A choice of a kernel depends on this, a result never does.
enum class Machine : int32_t {
  kGeneric,         // anything else
  kZen4,            // two 512-bit operations a cycle, one of them a population count or a shuffle
  kZen5,            // four, two
  kIceLake,         // two, one; two vpdpbusd. Also Tiger Lake
  kSapphireRapids,  // as Ice Lake, and tiles of bytes (AMX). Also Emerald and Granite Rapids
};

// Channels of per-channel arrays, rounded up to this, are readable; and a part of a layer's channels begins there.
constexpr int32_t kFusedChannels = 64;

// What becomes of D, in this order; c is the output channel.
//   D        the sum of weight code x activation code, exact, + border
//   y        = float(D) * multiply[c] + offset[c], two roundings; then, with norm_multiply, y = fma(y,
//   norm_multiply[c],
//            norm_offset[c]), one; then + residual; then, with relu, max(y, 0), which keeps NaN. Only with has_float.
//   code     of D (codes_from_int) or of y:
//              kFusedThresholds  the number of j with x >= thresholds[j][c], as in CodeStage; NaN gives 0
//              kFusedLine        round_half_even(clamp(float(x) * line_multiply[c] + line_offset[c], 0, n)), two
//                                roundings; NaN gives 0. The thresholds of up to 4 bits are there, too, except for
//                                codes of y that the unit quantizer makes (then the line is x * n + 0).
// Arrays of channels are [padded], padded = out_channels rounded up to kFusedChannels; behind out_channels thresholds
// are out of reach and numbers 0. All are 64-byte aligned.
enum FusedRule : int32_t { kFusedThresholds, kFusedLine };
struct FusedEpilogue {
  const float *multiply, *offset, *norm_multiply, *norm_offset;  // null without has_float; norm_*: or absent
  const void* thresholds;                                        // [n][padded] int32 or float32; null: the unit line
  const float *line_multiply, *line_offset;                      // kFusedLine
  // [classes of rows][classes of columns][padded], or null: what D gets where activations have a zero point or are
  // signs. row_class and column_class are those of an output's y and x; one class of each: the same for all pixels.
  const int32_t* border;
  const int32_t *row_class, *column_class;
  int32_t row_classes, column_classes;
  int32_t has_float, has_residual, relu;
  int32_t wants_float, wants_codes, codes_from_int;
  int32_t bits;    // of the codes, 1 .. 8
  int32_t planes;  // 1: codes leave in bit planes, 0: in bytes
  int32_t rule;    // a FusedRule, the same for all channels
};

// A max-pool of what the convolution makes, padding never being the largest: kernel_h == 0 where there is none. Then
// everything behind D is that of the largest D of a window, or of the least one where y falls with D. D need not be
// finished elsewhere: y rises or falls with it in every channel, all numbers are finite, and no y is -0.
struct FusedPool {
  int32_t kernel_h, kernel_w, stride_h, stride_w, pad_top, pad_left;
  int32_t height, width;  // of the result
  const int32_t* falls;   // [padded] of 0 or -1; null: y rises in every channel
};

// A layer. What a weight m = 0 .. 2^weight_bits - 1 stands for is c = code_step * m + lowest_code, so that
//   D = code_step * (sum of m q) + lowest_code * (sum of q) + border.
// The odd grid has steps of 2, the signed one of 1; activations that are signs double both.
struct FusedSpec {
  int32_t in_channels, out_channels, groups;
  int32_t kernel_h, kernel_w, stride_h, stride_w, dilation_h, dilation_w;
  int32_t height, width;  // of the output
  int32_t weight_bits, activation_bits;
  int32_t code_step, lowest_code;
  int32_t input_planes;  // 1: bit planes, 0: bytes
  // Over all channels and all inputs there are, from the weights themselves: the largest of |D| without the border, and
  // the largest sum of m q.
  int64_t largest_sum, largest_product;
  int64_t largest_border;  // of |border|
  FusedPool pool;
  FusedEpilogue epilogue;
};

// Output rows y0 .. y0 + rows - 1 of one image, channels first_channel .. first_channel + channels - 1. first_channel
// is a multiple of kFusedChannels, and so is `channels` unless it reaches the last one. Every pointer is that of output
// row y0, x = 0, channel 0 (not first_channel). Nothing beyond the rows, pixels and channels named may be written, not
// a byte; up to kSlack bytes behind a pixel's codes may be read.
struct FusedBand {
  const void* prepared;  // what prepare() wrote
  // Of the window of output (y0, 0): its first tap, in the halo where there is padding. row_bytes, pixel_bytes: from
  // one input row, pixel to the next.
  const uint8_t* input;
  int64_t row_bytes, pixel_bytes, plane_bytes;
  uint8_t* codes;
  int64_t codes_row, codes_pixel, codes_plane;
  float* out;  // strides in bytes
  int64_t out_row, out_pixel;
  const float* residual;  // may be == out, with its strides: read a number before it is written
  int64_t residual_row, residual_pixel;
  int32_t y0, rows, first_channel, channels;
  uint8_t* scratch;  // scratch_bytes, 64-byte aligned
  int32_t width;     // pixels of a row: the spec's width, or more where pixels are joined
};

struct FusedKernel {
  const char* name;  // what profiles print, e.g. "popcount8 avx512-vpopcntdq"
  // Nanoseconds that one image takes on one thread; negative: this kernel does not serve the layer. Of the spec alone:
  // a choice needs no measuring and is the same in every process. Nothing that a pointer of the spec points to is read,
  // and thresholds, lines and borders may not be there yet.
  double (*cost)(const FusedSpec*, Machine);
  int64_t (*prepared_bytes)(const FusedSpec*);
  // m: [out_channels][kernel_h * kernel_w][in_channels / groups]. prepared: zeroed, 64-byte aligned. False: the numbers
  // do not suit, take another kernel.
  bool (*prepare)(const FusedSpec*, const uint8_t* m, void* prepared);
  int64_t (*scratch_bytes)(const FusedSpec*);
  void (*run)(const FusedSpec*, const FusedBand*);
  // Whether the pixels of several rows or images may be handed over as one row of band.width pixels, wherever they lie
  // at one distance and are of one class: 1x1 without padding, as linear layers are, whose tokens are images of one
  // pixel. Such a kernel sees all the pixels that share its weights.
  bool joins_pixels = false;
  // Whether it serves layers with a pool. Rows, codes and floats of a band are then those of the pool's result, and
  // `input` is that of the convolution's first output in the image.
  bool pools = false;
};

}  // namespace bitorch
