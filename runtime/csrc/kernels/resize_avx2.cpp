// Interpolation with the instructions of the "avx2" kernels.
#include "../core/resize_kernels.h"

namespace bitorch {

namespace resize_avx2 {

#include "resize.inl"

}  // namespace resize_avx2

constexpr ResizeKernels kAvx2Resize = {resize_avx2::blend_columns, resize_avx2::blend_rows};

}  // namespace bitorch
