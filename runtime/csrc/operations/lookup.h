// lookup: every code becomes another code.
#pragma once
#include "operations/definition.h"

namespace bitorch {

inline constexpr const char* kLookupKeys[] = {"input", "output", "bits", "table"};

struct LookupSpec {
  const Tensor* input = nullptr;   // codes
  const Tensor* output = nullptr;  // codes, of the same shape
  const uint8_t* table = nullptr;  // [2^input bits] or [channels][2^input bits] of codes of the output's bits
  bool per_channel = false;        // of the table
};

LookupSpec read_lookup(const OperationReader& reader);
std::unique_ptr<Operation> make_lookup(const LookupSpec& spec, Preparation& preparation);

}  // namespace bitorch
