// Interpolation: pixels between pixels. Plain structs only, as in kernels.h.
#pragma once
#include <cstdint>

namespace bitorch {

// out pixel x = the sum over k < count of in pixel places[x][k] times weights[x][k], from k = 0 on: each product and
// each sum is rounded once.
struct ResizeColumns {
  const float* in;        // [..][channels]
  float* out;             // [width][channels]
  const int32_t* places;  // [width][count]
  const float* weights;   // [width][count]
  int64_t width, channels;
  int32_t count;  // 2 or 4
};

struct ResizeKernels {
  void (*columns)(const ResizeColumns*);
  // out[i] = the same sum of in[0][i] * weights[0] .. in[count - 1][i] * weights[count - 1], count 2 or 4
  void (*rows)(float* out, const float* const* in, const float* weights, int32_t count, int64_t n);
};

// One per kernel file; only those of this architecture are linked.
extern const ResizeKernels kPortableResize;
extern const ResizeKernels kAvx2Resize;
extern const ResizeKernels kAvx512Resize;

}  // namespace bitorch
