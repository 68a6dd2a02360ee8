// Interpolation with the instructions of the "portable" kernels.
#include "../core/resize_kernels.h"

namespace bitorch {

namespace resize_portable {

#include "resize.inl"

}  // namespace resize_portable

constexpr ResizeKernels kPortableResize = {resize_portable::blend_columns, resize_portable::blend_rows};

}  // namespace bitorch
