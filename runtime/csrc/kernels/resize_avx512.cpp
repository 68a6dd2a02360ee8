// Interpolation with the instructions of the "avx512" kernels.
#include "../core/resize_kernels.h"

namespace bitorch {

namespace resize_avx512 {

#include "resize.inl"

}  // namespace resize_avx512

constexpr ResizeKernels kAvx512Resize = {resize_avx512::blend_columns, resize_avx512::blend_rows};

}  // namespace bitorch
