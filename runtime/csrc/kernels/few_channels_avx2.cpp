// Convolutions of few channels with AVX2 and FMA.
#include <immintrin.h>

#include <cstdint>

#include "../core/few_channels_kernels.h"

namespace bitorch {

namespace few_channels_avx2 {

namespace {

#include "few_channels.inl"

}  // namespace

}  // namespace few_channels_avx2

constexpr FewChannelsKernels kAvx2FewChannels = {"avx2", few_channels_avx2::forward, few_channels_avx2::backward};

}  // namespace bitorch
