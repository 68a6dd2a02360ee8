// What the table of operations holds of each: its name, the keys that its description may have, and how it is made.
#pragma once
#include <memory>

#include "core/graph/graph.h"
#include "core/graph/operation_reader.h"

namespace bitorch {

struct OperationDefinition {
  const char* op;
  Keys keys;  // besides "op"; any other key is an Error
  std::unique_ptr<Operation> (*make)(const OperationReader& reader);
};

// kRead turns a description into a spec and does all checks; kMake turns a spec, wherever it comes from, into an
// operation. A spec names tensors, which live as long as the operation, and arrays, which are read until plan() is
// done.
template <auto kRead, auto kMake>
std::unique_ptr<Operation> read_and_make(const OperationReader& reader) {
  return kMake(kRead(reader), reader.preparation());
}

}  // namespace bitorch
