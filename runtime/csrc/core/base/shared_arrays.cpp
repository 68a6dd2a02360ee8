#include "core/base/shared_arrays.h"

#include <cstring>
#include <iterator>

namespace bitorch {

std::shared_ptr<const void> SharedArrays::find(const Key& key, const Bytes& bytes, std::shared_ptr<const void> made) {
  const auto [first, last] = known_.equal_range(key);
  for (auto known = first; known != last; ++known) {
    std::shared_ptr<const void> array = known->second.array.lock();  // so that it stays while it is compared
    if (array == nullptr) continue;
    if (std::memcmp(known->second.data, bytes.data, static_cast<size_t>(bytes.count)) == 0) return array;
  }
  known_.emplace(key, Known{bytes.data, made});
  return made;
}

void SharedArrays::forget() {
  for (auto known = known_.begin(); known != known_.end();) {
    known = known->second.array.expired() ? known_.erase(known) : std::next(known);
  }
}

}  // namespace bitorch
