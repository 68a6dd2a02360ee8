#include "operations/array_shape.h"

namespace bitorch {

void read_array_shape(const OperationReader& reader, Port* port) {
  const char* key = "array_shape";
  if (!reader.has(key)) return;
  const size_t rank = reader.list(key).items().size();
  if (rank > kMaxArrayRank) {
    reader.fail(key, "must have from 0 to " + std::to_string(kMaxArrayRank) + " dimensions, without the batch");
  }
  const std::vector<int64_t> shape = reader.integers(key, rank, 1, int64_t{1} << 62);
  int64_t given = 1, wanted = 1;
  for (const int64_t extent : shape) given = checked_mul(given, extent, "an array");
  for (const int64_t extent : port->shape) wanted = checked_mul(wanted, extent, "an array");
  if (given != wanted) {
    reader.fail(key, "must have as many numbers as " + shape_text(port->shape) + ", the array without it");
  }
  port->shape = shape;
}

}  // namespace bitorch
