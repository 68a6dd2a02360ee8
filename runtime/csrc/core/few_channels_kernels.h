// What a kernel file gives convolutions of floats whose input has few channels, as images have (core/training/
// few_channels.h). Its rules are those of kernels.h: nothing that could be emitted into an object file.
//
// A window's numbers in one row of the image are a run, of `steps` floats. All tables give the same bits: every sum has
// the order that is said here, and every step of it is one fma. Channels are filled up to `width`, a multiple of 16.
#pragma once
#include <cstdint>

namespace bitorch {

constexpr int kFewLanes = 16;

// out[p][c]: from start[c] on, over rows r and steps k in their order, fma(in[r][p][k], weights[r][k][c], sum).
struct FewForward {
  const float* in;
  int64_t in_row, in_step;  // floats from row to row, and from pixel to pixel
  const float* weights;     // [rows][steps][width]
  const float* start;       // [width]
  int32_t rows, steps;      // at least 1
  int32_t pixels, width;    // at least 1
  float* out;
  int64_t out_step;  // floats from pixel to pixel
};

// sums[k][c] += the sum over p, from 0 on, of fma(in[p * in_step + offset[k]], g[p][c], sum).
struct FewBackward {
  const float* in;
  int64_t in_step;
  const int64_t* offset;  // [taps]
  const float* g;
  int64_t g_step;
  int32_t taps;           // at least 1
  int32_t pixels, width;  // at least 1
  float* sums;            // [taps][width]
};

struct FewChannelsKernels {
  const char* name;
  void (*forward)(const FewForward*);
  void (*backward)(const FewBackward*);
};

extern const FewChannelsKernels kPortableFewChannels;
extern const FewChannelsKernels kAvx2FewChannels;
extern const FewChannelsKernels kAvx512FewChannels;

}  // namespace bitorch
