#include "core/graph/graph.h"

namespace bitorch {

const char* values_name(Values values) {
  switch (values) {
    case Values::kFloat32:
      return "float32";
    case Values::kInt32:
      return "int32";
    case Values::kCodes:
      return "codes";
  }
  throw Error("a tensor of unknown values");
}

std::string Tensor::describe() const {
  const std::string text = std::string(values_name(values)) + " " + shape_text({height, width, channels});
  return is_codes() ? text + " of " + std::to_string(bits) + (bits == 1 ? " bit" : " bits") : text;
}

std::string Operation::kernel(const KernelTable& kernels) const { return std::string("rows ") + kernels.name; }

}  // namespace bitorch
