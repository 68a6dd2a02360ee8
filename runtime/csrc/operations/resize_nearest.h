// resize by the nearest pixels: output o of an axis is pixel o * size / outputs, rounded down.
#pragma once
#include "operations/resize.h"

namespace bitorch {

std::unique_ptr<Operation> make_resize_nearest(const ResizeSpec& spec);

}  // namespace bitorch
