// Convolutions of few channels in plain C++ for any architecture.
#if defined(__SSE2__)
#include <immintrin.h>
#elif defined(__aarch64__)
#include <arm_neon.h>
#endif

#include <cstdint>

#include "../core/few_channels_kernels.h"

namespace bitorch {

namespace few_channels_portable {

namespace {

#include "few_channels.inl"

}  // namespace

}  // namespace few_channels_portable

constexpr FewChannelsKernels kPortableFewChannels = {"portable", few_channels_portable::forward,
                                                     few_channels_portable::backward};

}  // namespace bitorch
