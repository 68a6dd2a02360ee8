// Which kernel computes a convolution: the fused ones of the table and the staged path, by what each costs on this
// processor. All give the same numbers, so a choice only decides how long they take.
#pragma once
#include <vector>

#include "core/conv/conv.h"
#include "core/conv/fused_layer.h"

namespace bitorch {

struct KernelChoice {
  const FusedKernel* fused;  // null: the staged path
  const char* name;
  double nanoseconds;  // of one image on one thread, as the kernel itself reckons
};

// Those that read codes in this layout, the cheapest first.
std::vector<KernelChoice> kernel_choices(const ConvSpec& spec, const KernelTable& kernels, Kind input,
                                         bool output_planes, const KernelWish& wish);

// The method of the staged path for an input of this layout.
Method staged_method(const ConvSpec& spec, const KernelTable& kernels, Kind input);

}  // namespace bitorch
