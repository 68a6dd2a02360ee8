// Arrays that several plans of one file keep together. Each plan prepares its own, and keeps instead an equal one of a
// plan that is still there. They are compared byte by byte, so that nothing has to be known of what they depend on: a
// kernel may lay out the weights of a layer in another way for another size of image, or in the same.
#pragma once
#include <cstdint>
#include <map>
#include <memory>
#include <typeindex>
#include <utility>

#include "core/base/aligned.h"

namespace bitorch {

// An array that others may keep as well, by its address, and what it was charged.
struct SharedUse {
  const void* array;
  int64_t bytes;
};

// For one plan at a time; those that keep the arrays may be dropped meanwhile.
class SharedArrays {
 public:
  // An array with these numbers: one that is kept somewhere, or this.
  template <class T>
  Kept<T> one_of(AlignedArray<T> array) {
    auto made = std::make_shared<const AlignedArray<T>>(std::move(array));
    const Bytes bytes = {made->data(), made->size() * static_cast<int64_t>(sizeof(T))};
    return std::static_pointer_cast<const AlignedArray<T>>(find({typeid(T), bytes.count}, bytes, made));
  }

  // Of arrays that nobody keeps any more.
  void forget();

 private:
  using Key = std::pair<std::type_index, int64_t>;  // bytes
  struct Bytes {
    const void* data;
    int64_t count;
  };
  struct Known {
    const void* data;
    std::weak_ptr<const void> array;
  };

  std::shared_ptr<const void> find(const Key& key, const Bytes& bytes, std::shared_ptr<const void> made);

  std::multimap<Key, Known> known_;
};

}  // namespace bitorch
