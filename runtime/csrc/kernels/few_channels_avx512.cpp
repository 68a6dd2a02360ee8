// Convolutions of few channels with AVX-512.
#include <immintrin.h>

#include <cstdint>

#include "../core/few_channels_kernels.h"

namespace bitorch {

namespace few_channels_avx512 {

namespace {

#include "few_channels.inl"

}  // namespace

}  // namespace few_channels_avx512

constexpr FewChannelsKernels kAvx512FewChannels = {"avx512", few_channels_avx512::forward,
                                                   few_channels_avx512::backward};

}  // namespace bitorch
