#include "core/training/gradient.h"

#include <cstring>
#include <limits>

#include "core/base/checked.h"
#include "core/training/workers.h"

namespace bitorch {
namespace {

constexpr uint32_t kInfinity = 0x7f800000;
// Smaller ones have no reciprocal in float32.
constexpr float kLeast = 0x1p-120f;

}  // namespace

float sample_codes(const TrainingKernels& kernels, const GradientSpec& spec, const float* g, int64_t sample, int64_t n,
                   bool as_odd, uint8_t* levels, int8_t* codes) {
  const int low = spec.low();
  const uint32_t bits = kernels.largest(g, n);
  if (bits >= kInfinity) {
    if (levels != nullptr) std::memset(levels, -low, static_cast<size_t>(n));
    std::memset(codes, as_odd ? 1 : 0, static_cast<size_t>(n));
    return std::numeric_limits<float>::quiet_NaN();
  }
  float largest;
  std::memcpy(&largest, &bits, sizeof largest);
  if (largest < kLeast) largest = 0;
  const auto steps = static_cast<float>(spec.n());
  // Half of the steps is exact, and twice the largest may be no float32.
  const float factor = (spec.has_zero ? steps : 0.5f * steps) / (largest == 0 ? 1.0f : largest);
  const uint64_t word = 16 * static_cast<uint64_t>(sample) * static_cast<uint64_t>(ceil_div(n, 32));
  const GradientCodes job{g,
                          n,
                          factor,
                          low,
                          spec.high(),
                          spec.has_zero,
                          spec.noisy,
                          {spec.key[0], spec.key[1]},
                          static_cast<uint32_t>(word),
                          as_odd,
                          levels,
                          codes};
  kernels.gradient_codes(&job);
  return largest / steps;
}

void gradient_codes(const TrainingKernels& kernels, const GradientSpec& spec, const float* g, int64_t samples,
                    int64_t numbers, int threads, int8_t* codes, float* scale) {
  for_items(samples, threads, [&](int, int64_t sample) {
    const int64_t at = sample * numbers;
    scale[sample] = sample_codes(kernels, spec, g + at, sample, numbers, false, nullptr, codes + at);
  });
}

}  // namespace bitorch
