// The functions of core/training, on NumPy arrays.
#pragma once
#include <nanobind/nanobind.h>

namespace bitorch {

void bind_training(nanobind::module_& module);

}  // namespace bitorch
