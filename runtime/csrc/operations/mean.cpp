#include "operations/mean.h"

namespace bitorch {

float read_code_scale(const OperationReader& reader, const Tensor& input) {
  if (!reader.has("scale")) return input.is_codes() ? 1.0f / static_cast<float>((1 << input.bits) - 1) : 1.0f;
  if (!input.is_codes()) reader.fail("scale", "has a meaning only for codes, but the input is " + input.describe());
  return reader.number("scale");
}

void check_sum_of_codes(const OperationReader& reader, const Tensor& input, int64_t values) {
  if (!input.is_codes()) return;
  const int64_t largest = checked_mul(values, (int64_t{1} << input.bits) - 1, "the sum of a pool");
  if (largest >= int64_t{1} << 31) reader.fail("sums of up to " + std::to_string(largest) + " must stay below 2^31");
}

}  // namespace bitorch
