// What a kernel file gives the training functions (core/training). Its rules are those of kernels.h: nothing that could
// be emitted into an object file.
//
// All tables give the same bits: sums are of integers in int32, and every float is one rounded operation that is said
// here. A tile is pixels x 64 channels of int32: of up to kTilePixels pixels of one row, one block of output channels.
//
//   in      [rows][pixels + ..][steps dwords]   u8 codes; a pixel's window in one row is a run of dwords
//   weights [rows][steps][64][4]                s8; the 64 channels' bytes for each dword
//   tile    [pixels][64]                        sum over rows, steps and the 4 bytes
#pragma once
#include <cstdint>

namespace bitorch {

constexpr int kTileChannels = 64;
constexpr int kTilePixels = 6;  // 6 x 4 sums of 16, 4 weights and a broadcast are 29 of 32 registers

struct TrainingDots {
  const uint8_t* in;
  int64_t in_row, in_step;  // bytes from row to row, and from pixel to pixel
  const int8_t* weights;
  int64_t weight_row;        // bytes from row to row
  int32_t rows, steps;       // 0 rows: the sums are 0
  int32_t pixels, channels;  // 1 .. kTilePixels, 1 .. 64; sums of further channels are not defined
  int32_t* tile;             // 64-byte boundary
  int32_t largest;           // 1 or more: no |code * weight| is larger
};

// y[p][c] = float(d + border[c]) * scale[c], then + bias[c]; d is the sum, or 2 * sum + halves[p].
struct FinishForward {
  const int32_t* tile;
  const int32_t* halves;  // or null
  const int32_t* border;  // [64], 64-byte boundary, and so scale and bias; or null
  const float* scale;
  const float* bias;  // or null
  float* out;
  int64_t out_step;  // floats from pixel to pixel
  int32_t pixels, channels;
};

// dx[p][c] = float(2 * d + border[p][c]) * scale[p], or with d in place of 2 * d, where the mask has a 1, else 0; d as
// above.
struct FinishGradient {
  const int32_t* tile;
  const int32_t* halves;         // or null
  bool twice;                    // 2 * d
  const int32_t* const* border;  // of each pixel, [64]
  const float* scale;            // of the first pixel
  int64_t scale_step;            // floats from pixel to pixel: 0 or 1
  const uint8_t* mask;           // or null for all ones; 7 bytes beyond the last bit that is asked for are readable
  int64_t first_bit, bit_step;   // of the first pixel's first channel; from pixel to pixel
  float* out;
  int64_t out_step;
  int32_t pixels, channels;
};

// For one sample after the other: sums[r][c] = fma(float(d + border[c]), scale, sums[r][c]), d the sum over rows y,
// groups x and bytes b of q[row_step * y + 4 * x + offset[r] + b] * g[y][x][c][b], or 2 * that + halves[r].
struct WeightDots {
  const uint8_t* q;
  int64_t row_step, q_step;  // bytes from row to row, and from sample to sample
  const int64_t* offset;     // [taps]
  const int8_t* g;           // [rows][groups][64][4]
  int64_t g_step;            // bytes from sample to sample
  int32_t rows, groups;
  int32_t taps, channels;  // 1 .. 6, 1 .. 64
  int64_t samples;         // at least 1
  const float* scale;      // [samples]
  const int32_t* halves;   // [taps], or null
  int64_t halves_step;     // from sample to sample
  const int32_t* border;   // [64], 64-byte boundary; or null
  int64_t border_step;     // from sample to sample, whole vectors
  float* sums;             // [taps][64], 64-byte boundary
  int32_t largest;         // 1 or more: no |q * g| is larger
};

// out[c][r] = scale * in[r][c].
struct Transpose {
  const float* in;
  int64_t in_step;  // floats from row to row, whole vectors; rows begin on a 64-byte boundary
  int64_t rows;
  int32_t channels;  // 1 .. 64
  float scale;
  float* out;
  int64_t out_step;
};

// out[r][c] = scale * a, a = fma over s = 0 .. samples-1 of q[s][c] * g[s][r], from 0 on.
struct OuterProduct {
  const float* q;  // [samples][64], 64-byte boundary
  const float* g;
  int64_t g_step;  // floats from sample to sample
  int64_t samples;
  int32_t rows, channels;  // 1 .. 6, 1 .. 64
  float scale;
  float* out;
  int64_t out_step;
};

// The codes of one sample's gradient: numbers 32b + k and 32b + 16 + k take their noise from the low and the high half
// of word 16b + k, counted from `word` on.
//   v = g * factor + noise * 2^-16, rounded twice; i = floor(v), within low .. high
// Without noise: i = round(g * factor + (high + 1/2)) + low, half to even. |g * factor| <= 128.
// Where the grid has a zero, i = round(v), half to even, within low .. high, and v = g * factor without noise.
struct GradientCodes {
  const float* g;
  int64_t n;
  float factor;
  int32_t low, high;
  bool has_zero;  // -high .. high; else -(levels + 1) / 2 .. (levels - 1) / 2
  bool noisy;
  uint32_t key[2];
  uint32_t word;
  bool odd;
  uint8_t* levels;  // i - low; or null
  int8_t* codes;    // 2i + 1 where odd, else i
};

// Bits of codes: bit k of byte b of plane j, of each pixel, is bit (low + j) of codes[8b + k] + add, and 0 beyond the
// last channel. codes: of pixels `step` bytes apart.
struct PlanePixels {
  const uint8_t* codes;
  int64_t step;
  int64_t pixels, channels;
  uint8_t add;
  int32_t low, planes;
  uint8_t* out;                  // (channels + 7) / 8 bytes of each pixel
  int64_t out_step, plane_step;  // bytes from pixel to pixel, and from plane to plane
  int32_t* sums;                 // of each pixel, sum over j and channels of 2^j * bit; or null
};

// A tile as that of TrainingDots: the sum over rows, dwords, planes i of the weights and j of the codes of
// 2^(i + j) * popcount(weight & code).
//
//   in      [code_planes][rows][pixels + ..]          bits; a pixel's window in one row is a run of dwords
//   weights [weight_planes][rows][steps][64] dwords
struct PlaneDots {
  const uint8_t* in;
  int64_t in_plane, in_row, in_step;  // bytes
  const uint32_t* weights;
  int64_t weight_plane, weight_row;  // dwords
  int32_t code_planes, weight_planes;
  int32_t rows, steps;       // 0 rows: the sums are 0
  int32_t pixels, channels;  // as TrainingDots
  int32_t* tile;
};

// Functions of bit planes.
struct PlaneKernels {
  void (*planes)(const PlanePixels*);
  void (*dots)(const PlaneDots*);
};

struct TrainingKernels {
  const char* name;
  // codes[i] = round(clip(x[i], 0, 1) * levels), half to even; bit i of `inside`, when not null, says 0 <= x[i] <= 1,
  // and bits up to the next multiple of 8 are 0. Returns 1 where an x is NaN; its code is 0, and so is its bit.
  int32_t (*quantize)(const float* x, int64_t n, float levels, uint8_t* codes, uint8_t* inside);
  // bytes[i] = x[i] - low, rounded half to even, within 0 .. levels; -low where x is NaN. Returns 1 where one is.
  int32_t (*take_codes)(const float* x, int64_t n, int32_t low, int32_t levels, uint8_t* bytes);
  // The largest |g[i]| as its bits; those of infinity or more where one is infinite or NaN.
  uint32_t (*largest)(const float* g, int64_t n);
  void (*gradient_codes)(const GradientCodes*);
  // out[c][b] = rows[b][c] for c < n <= 64 and b < 4; out[c] = 0 for n <= c < 64. A null row is zeros. 64-byte
  // boundary.
  void (*interleave)(const uint8_t* const* rows, int32_t n, uint8_t* out);
  void (*dots)(const TrainingDots*);
  void (*finish_forward)(const FinishForward*);
  void (*finish_gradient)(const FinishGradient*);
  void (*weight_dots)(const WeightDots*);
  void (*transpose)(const Transpose*);
  void (*outer)(const OuterProduct*);
  const PlaneKernels* planes;  // null where bytes are always as fast
};

extern const TrainingKernels kPortableTraining;
extern const TrainingKernels kAvx2Training;
extern const TrainingKernels kAvx512Training;
// Of CPUs with AVX512_VPOPCNTDQ, which "avx512" does without.
extern const PlaneKernels kAvx512Planes;

}  // namespace bitorch
