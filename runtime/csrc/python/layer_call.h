// The class LayerCall of the Python module.
#pragma once
#include <nanobind/nanobind.h>

namespace bitorch {

void bind_layer_call(nanobind::module_& module);

}  // namespace bitorch
