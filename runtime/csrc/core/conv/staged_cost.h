// What a convolution takes on the staged path (conv_run.cpp), as fused kernels reckon their own.
#pragma once
#include "core/conv/conv.h"

namespace bitorch {

// Nanoseconds of an image on one thread, of one of the low-bit methods.
double staged_cost(const ConvSpec& spec, const KernelTable& kernels, Kind input, Method method, Machine machine);

// Whether the costs are those of layers measured with these kernels, rather than of others with wider vectors. Layers
// that leave int32 were not among them.
bool staged_cost_is_fitted(const KernelTable& kernels);

// The least that a layer takes which reads so many bytes of weights once: few pixels wait for them.
double waiting_cost(double weight_bytes, Machine machine);

}  // namespace bitorch
