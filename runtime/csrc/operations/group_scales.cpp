#include "operations/group_scales.h"

namespace bitorch {

int64_t read_groups(const OperationReader& reader, int64_t channels, int64_t inputs) {
  const ArrayView& scale = reader.array("scale");
  const bool is_matrix = scale.shape.size() == 2 && scale.shape[0] == channels && scale.shape[1] >= 1;
  if (is_matrix && inputs % scale.shape[1] == 0) return scale.shape[1];
  reader.fail("scale", "the array is " + scale.describe() + ", but must be float32 [" + std::to_string(channels) +
                           ", groups], of as many groups as divide the input's " + std::to_string(inputs) +
                           " channels");
}

}  // namespace bitorch
