// The class Program of the Python module.
#pragma once
#include <nanobind/nanobind.h>

namespace bitorch {

void bind_program(nanobind::module_& module);

}  // namespace bitorch
