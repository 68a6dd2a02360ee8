// What a kernel file gives to the rest: plain structs and one table of functions per instruction set.
//
// Kernel files are compiled with flags of their own, so this header holds nothing that could be emitted into an object
// file: no std::, no inline functions with bodies, no templates. A function emitted twice, once with AVX-512 and once
// without, would be merged by the linker, and the wrong copy could be kept.
#pragma once
#include <cstdint>

#include "fused.h"

namespace bitorch {

// A tile is `pixels` output pixels x one block of output channels. Its accumulators are handed over in memory,
// row by row: tile[pixel][kBlock], 64-byte aligned, int32 or float32. Kernels divide a tile further, into what their
// registers hold; large tiles share the cost of a call and of loading thresholds.
constexpr int kBlock = 32;
constexpr int kMaxTilePixels = 64;
constexpr int kMaxTableBlock = 128;

// How a product of codes is computed. The numbers index KernelTable::dot.
enum Method : int {
  kPopcount = 0,   // bit planes: AND, population count
  kBytes = 1,      // uint8 codes x int8 weights
  kWords = 2,      // int16 codes x int16 weights, where kBytes would saturate; reads a staged copy of its input
  kTables = 3,     // look-up tables of subset sums, indexed by weight bits; reads tables staged from its input
  kDepthwise = 4,  // uint8 codes x int16 weights, one input channel per output channel
  kFloat = 5,      // float32 x float32
  kDepthwiseFloat = 6,
  kMethods = 7,
};

// One tile of dot products. For pixel p and channel c of the block, tile[p][c] is the sum
//   kPopcount        over s, i, j of 2^(i+j) popcount(w[j][s][c] & load32(pixel[p] + i * plane_bytes + step[s]))
//   kBytes           over s, b of w[s][c][b] * uint8(pixel[p][step[s] + b]), b = 0..3
//   kWords           over s, b of w[s][c][b] * int16(pixel[p] + step[s] + 2 * b), b = 0..1
//   kDepthwise       over s of w[s][c] * uint8(pixel[p][step[s] + c]), |w| < 2^weight_bits
//   kFloat           over s of w[s][c] * float(pixel[p] + step[s]), in any order
//   kDepthwiseFloat  over s of w[s][c] * float(pixel[p] + step[s] + 4 * c), in any order
//   kTables          over j, s of 2^j * (entry w[j][s][c] of the table at pixel[p] + step[s]), which is the number that
//                    kPopcount gives. stage_tables wrote the tables for each input pixel: an entry is the sum of the
//                    codes whose bits are set in its index. One step per kernel tap and KernelTable::table_channels
//                    input channels, taps of one kernel row innermost. Here a block has up to table_block channels, in
//                    parts of table_lanes, and the tile is [ceil(channels / 32)][pixels][32].
// with the weights laid out as
//   kPopcount                uint32 [weight_bits][steps][32]
//   kBytes                   int8 [steps][32][4]
//   kWords                   int16 [steps][32][2]
//   kDepthwise               int32 [steps][32]
//   kFloat, kDepthwiseFloat  float [steps][32]
//   kTables                  uint8 [ceil(channels / table_lanes)][weight_bits][steps][table_lanes]
// Sums are exact modulo 2^32; the caller has checked that D fits in 31 bits, its terms need not. Loads from a pixel are
// unaligned 4-byte loads (kDepthwise: `channels` bytes, kDepthwiseFloat: `channels` floats; kTables: whole tables,
// aligned to table_bytes up to 64). Kernels may compute all 32 channels or only `channels` of them, rounded up.
struct DotTile {
  const uint8_t* const* pixel;  // [pixels]
  const int32_t* step;          // [steps] byte offsets
  const void* weights;          // 64-byte aligned
  int64_t plane_bytes;          // from one bit plane of a pixel to the next
  int32_t pixels;               // 1 .. KernelTable::tile_pixels[method]
  int32_t steps;                // >= 1
  int32_t channels;             // 1 .. 32; kTables: 1 .. table_block
  int32_t weight_bits;          // 1 .. 8
  int32_t activation_bits;      // 1 .. 8
};
using DotFunction = void (*)(const DotTile*, void* tile);

// What turns accumulators into D, the sum of weight code times activation code:
//   D = (accumulator << shift) + add[p] + border[p][c]
// add: per-pixel terms (window sums), or null. border: per-pixel rows of per-channel terms, or null.
struct Correction {
  const int32_t* add;
  const int32_t* const* border;
  int32_t shift;
};

// tile[p][c] = D
struct IntStage {
  Correction correction;
  int32_t pixels, channels;
};
using IntFunction = void (*)(const IntStage*, int32_t* tile);

// y = float(x) * multiply[c] + offset[c]  (two roundings, never fused), then with norm_multiply
// y = fma(y, norm_multiply[c], norm_offset[c])  (one rounding), then + residual[p][c], then max(y, 0) that keeps NaN.
// x is D, or the float accumulator. In place: a tile of int32 becomes a tile of float32.
struct FloatStage {
  Correction correction;         // ignored for float accumulators
  const float* multiply;         // [32]
  const float* offset;           // [32]
  const float* norm_multiply;    // [32]; or null, and norm_offset with it
  const float* norm_offset;      // [32]
  const float* const* residual;  // [pixels] rows of `channels` floats, not one more is read; or null
  int32_t pixels, channels;
  int32_t relu;
  float* const* out;  // [pixels] rows of `channels` floats, where y goes as well, not one more is written; or null
};
using FloatFunction = void (*)(const FloatStage*, void* tile);

// Codes: q = number of j with  x >= threshold[j][c], x = D or y, after a change of sign where negate says so. NaN gives
// 0. Thresholds rise with j; a float32 one may be NaN, which no x reaches, and then so are all that follow.
//   kAffine  q = round_half_even(v), v = clamp(float(x) * multiply[c] + offset[c], 0, n), n = 2^bits - 1, two
//            roundings, never fused; negate is null. Chosen only where it was checked to give the codes that the
//            thresholds give.
//   kGuided  the thresholds decide, but where v (x after negate) is less than `margin` away from an integer, that
//            integer is the code. A kernel may compare every x instead.
//   Planes   channel c goes to bit c%8 of byte c/8 at out[p] + i*out_plane_bytes, i = 0..bits-1, bits beyond `channels`
//            zero, ceil(channels/8) bytes written per plane, not one more.
//   Bytes    `channels` bytes at out[p].
enum CodeRuleKind : int { kCompare = 0, kAffine = 1, kGuided = 2 };
struct CodeStage {
  Correction correction;   // ignored for float input
  const void* thresholds;  // [n][32], int32 for D, float32 for y; null for kAffine
  const float* multiply;   // [32]; not for kCompare
  const float* offset;     // [32]; not for kCompare
  const int32_t* negate;   // [32] of 0 or -1; or null
  uint8_t* const* out;     // [pixels]
  int64_t out_plane_bytes;
  int32_t pixels, channels;
  int32_t bits;    // 1 .. 8
  int32_t rule;    // a CodeRuleKind
  int32_t planes;  // 1: bit planes, 0: bytes
  float margin;    // kGuided only
};
using CodeFunction = void (*)(const CodeStage*, const void* tile);

// sums[x] = sum over the codes of pixel x, x = 0..pixels-1; one row of one channel group.
// Planes: `bytes` bytes per plane, pixel_bytes apart. Bytes: `bytes` codes, pixel_bytes apart (planes == 0).
struct PixelSums {
  const uint8_t* row;
  int64_t pixel_bytes, plane_bytes;
  int32_t* sums;
  int32_t pixels, bytes, bits, planes;
};
using PixelSumsFunction = void (*)(const PixelSums*);

// out[i] = x[i] / divide[c], then * multiply[c] + offset[c] (two roundings), then fma(that, norm_multiply[c],
// norm_offset[c]) (one), then + residual[i], then clamped to [low, high], which keeps NaN; c = i mod period. Parts that
// are null are left out; of multiply and offset, and of norm_multiply and norm_offset, both are there or neither.
struct AffineRow {
  const float* x;                                                         // [n]
  float* out;                                                             // [n], none of the others
  const float *divide, *multiply, *offset, *norm_multiply, *norm_offset;  // [period]
  const float* residual;                                                  // [n]
  int64_t n, period;
  float low, high;  // -infinity and infinity: not clamped
};

// Some pixels of floats become codes: q = number of j with x >= threshold[j], x after a change of sign where negate
// says so; NaN gives 0. As CodeStage's kCompare, for any number of channels at once.
struct CompareRow {
  const float* x;
  int64_t step;             // floats from one pixel to the next
  const float* thresholds;  // [ceil(channels / 32)][2^bits - 1][32], 64-byte aligned
  const int32_t* negate;    // [ceil(channels / 32)][32] of 0 or -1; or null
  uint8_t* out;
  int64_t out_pixel_bytes, out_plane_bytes;
  int64_t pixels, channels;
  int32_t bits;    // 1 or 2
  int32_t planes;  // 1: bit planes, 0: bytes; written as by CodeStage
};

// Some channels of some pixels, in any order: 64 bytes of them at a time, which come from two windows of 64 bytes.
//
//   channels 58 of 0 1 2 3 .. 57 | 58 59 .. 115      taken 0 58 1 59 2 60 ..
//            `-- first window --'  `-- second --'    index 0 64 1 65 2 66 ..
struct TakeWindows {
  int32_t first, second;    // the channel that each begins with
  uint64_t first_channels;  // which of 64 (16 of floats) from there on there are
  uint64_t second_channels;
  uint64_t taken;     // which are written
  uint8_t index[64];  // in the first window, or behind it in the second
};
struct TakeRow {
  const uint8_t* in;
  uint8_t* out;
  int64_t in_step, out_step;  // bytes from one pixel to the next
  int64_t pixels, groups;
  const TakeWindows* windows;  // [groups]
};

// Loops over rows that the compiler vectorises with the flags of the kernel file.
struct RowFunctions {
  // out[i] = max(out[i], in[i])
  void (*max_bytes)(uint8_t* out, const uint8_t* in, int64_t n);
  void (*max_floats)(float* out, const float* in, int64_t n);  // NaN wins
  // out[i] = the maximum of in[0][i] .. in[count - 1][i], the first of equal ones; NaN wins; count >= 1
  void (*max_of_floats)(float* out, const float* const* in, int count, int64_t n);
  // bit planes: out = elementwise maximum of two codes, plane i of n bytes at i*plane_bytes
  void (*max_planes)(uint8_t* out, int64_t out_plane_bytes, const uint8_t* in, int64_t in_plane_bytes, int64_t n,
                     int bits);
  void (*add_ints)(int32_t* out, const int32_t* in, int64_t stride, int64_t n);  // out[i] += in[i * stride]
  void (*add_bytes)(int32_t* out, const uint8_t* in, int64_t n);                 // out[i] += in[i]
  void (*add_floats)(float* out, const float* in, int64_t n);                    // out[i] += in[i]
  void (*affine)(const AffineRow*);
  // one pixel (or any run of channels): codes in bytes <-> bit planes
  void (*planes_to_bytes)(uint8_t* out, const uint8_t* in, int64_t plane_bytes, int64_t channels, int bits);
  void (*bytes_to_planes)(uint8_t* out, int64_t plane_bytes, const uint8_t* in, int64_t channels, int bits);
  // codes = clamp(round_half_even(x * n), 0, n); NaN gives 0
  void (*quantize_unit)(uint8_t* out, const float* in, int64_t n, int bits);
  void (*compare_row)(const CompareRow*);  // null: CodeStage does it
  void (*take_floats)(const TakeRow*);     // null where there are no instructions for it, and so below
  void (*take_bytes)(const TakeRow*);
  void (*widen_bytes)(int16_t* out, const uint8_t* in, int64_t n);  // staging of kWords
  // out[i] = table[codes[i]][i], i = 0 .. n - 1; table [entries][period], n <= period; codes are below entries
  void (*look_up)(uint8_t* out, const uint8_t* codes, const uint8_t* table, int64_t n, int64_t period, int entries);
};

// Pixels of n floats that share what belongs to their channels.
struct PixelFunctions {
  // out[c] += in[p * step + c], pixel after pixel
  void (*add)(float* out, const float* in, int64_t step, int64_t pixels, int64_t n);
  // out[p * n + c] = in[p * n + c] * by[c]
  void (*multiply)(float* out, const float* in, const float* by, int64_t pixels, int64_t n);
};

// Staging of kTables: one row of input pixels becomes one row of table entries. It may read up to 63 bytes past a
// pixel.
struct TableStage {
  const uint8_t* row;  // plane 0 or bytes of the first pixel
  int64_t pixel_bytes, plane_bytes;
  uint8_t* out;  // pixel x, table k (channels k * table_channels on): out + x * out_pixel_bytes + k * table_bytes
  int64_t out_pixel_bytes;
  int32_t pixels, channels, bits, planes;
};
using TableStageFunction = void (*)(const TableStage*);

// Families of functions with headers of their own, so that a new one compiles only what calls it.
struct NormKernels;      // norm_kernels.h: normalisations and reductions
struct FunctionKernels;  // function_kernels.h: functions of floats, softmax
struct MatrixKernels;    // matrix_kernels.h: products of two tensors, attention
struct PairKernels;      // pair_kernels.h: two tensors number by number, one repeated along axes
struct ResizeKernels;    // resize_kernels.h: interpolation

struct KernelTable {
  const char* name;                // "portable", "avx2", "avx512", "avx512-vpopcntdq", "avx512-amx", "neon", ...
  DotFunction dot[kMethods];       // null where the instruction set does not use the method
  const char* dot_name[kMethods];  // what profiles and benchmarks print, e.g. "popcount avx512-vpopcntdq"
  int32_t tile_pixels[kMethods];   // most pixels per call, <= kMaxTilePixels
  IntFunction finish_int;
  FloatFunction int_to_float;
  FloatFunction float_to_float;
  CodeFunction int_to_codes;
  CodeFunction float_to_codes;
  PixelSumsFunction pixel_sums;
  TableStageFunction stage_tables;  // null without kTables
  int32_t table_channels;           // input channels per table
  int32_t table_bytes;              // staged bytes per table
  RowFunctions rows;
  // Which method is fastest for weight_bits x activation_bits in a convolution: a Method per [W-1][A-1]. kBytes and
  // kWords read codes in bytes, kPopcount reads planes, kTables reads either. The reasons stand beside the table in
  // each kernel file.
  uint8_t method[8][8];
  int32_t table_lanes;              // output channels that one look-up serves: a multiple of 32
  int32_t table_block;              // output channels per call: a multiple of table_lanes, at most kMaxTableBlock
  const FusedKernel* const* fused;  // [fused_count], null without any
  int32_t fused_count;
  PixelFunctions pixels;
  const NormKernels* norms;
  const FunctionKernels* functions;
  const MatrixKernels* matrices;
  const PairKernels* pairs;
  const ResizeKernels* resizes;
};

// One per kernel file; only those of this architecture are linked. Constant-initialised: nothing runs at load.
extern const KernelTable kPortableKernels;
extern const KernelTable kAvx2Kernels;
extern const KernelTable kAvx512Kernels;
extern const KernelTable kAvx512VpopcntdqKernels;
extern const KernelTable kAvx512AmxKernels;
extern const KernelTable kNeonKernels;
extern const KernelTable kNeonDotprodKernels;

}  // namespace bitorch
