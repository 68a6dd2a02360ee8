#include "operations/code_keys.h"

namespace bitorch {

CodeSpec read_code_keys(const OperationReader& reader, int64_t channels, bool int_thresholds_allowed) {
  CodeSpec spec;
  spec.bits = reader.bits("bits");
  if (!reader.has("thresholds")) {
    if (reader.has("descending")) reader.fail("descending", "has a meaning only beside \"thresholds\"");
    return spec;
  }
  const ArrayView& array = reader.array("thresholds");
  const std::vector<int64_t> shape = {channels, (int64_t{1} << spec.bits) - 1};
  if (int_thresholds_allowed && array.dtype == Dtype::kInt32) {
    spec.int_thresholds = reader.integers32("thresholds", shape);
  } else {
    spec.float_thresholds = reader.floats("thresholds", shape);
  }
  if (reader.has("descending")) spec.descending = reader.booleans("descending", {channels});
  return spec;
}

void refuse_code_keys(const OperationReader& reader) {
  for (const char* key : {"thresholds", "descending", "bits"}) {
    if (reader.has(key)) reader.fail(key, "has a meaning only beside \"codes\"");
  }
}

}  // namespace bitorch
