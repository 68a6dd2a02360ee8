// concat along an axis of rows.
#pragma once
#include "operations/concat.h"

namespace bitorch {

ConcatSpec read_concat_rows(const OperationReader& reader);
std::unique_ptr<Operation> make_concat_rows(const ConcatSpec& spec);

}  // namespace bitorch
