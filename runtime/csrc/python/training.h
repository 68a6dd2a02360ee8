// The functions of core/training, on NumPy arrays.
#pragma once
#include <nanobind/nanobind.h>

namespace bitorch {

void bind_training(nanobind::module_& module);
// Of these, what core/training/norm.h has.
void bind_training_norm(nanobind::module_& module);

// Convolutions of few channels, of core/training/few_channels.h.
void bind_few_channels(nanobind::module_& module);

}  // namespace bitorch
