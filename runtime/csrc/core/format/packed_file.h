// The packed file: a network as docs/format.md specifies it. A safetensors file whose metadata hold the program.
#pragma once
#include <cstddef>
#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "core/base/array.h"
#include "core/format/safetensors.h"

namespace bitorch {

constexpr int kFormatVersion = 1;  // the newest that this library reads; it reads every older one

struct PackedFile {
  int format_version = kFormatVersion;
  std::string program;                   // JSON, as Program takes it
  std::string info;                      // JSON
  std::vector<std::string> class_names;  // of `info`; empty where it has none
  std::string sha256;
  std::map<std::string, ArrayView> arrays;  // views of the bytes that were read, which must outlive them

  // Checks all of it, the hash included, except the program, which Program checks. Error: what is wrong and where.
  static PackedFile read(const void* data, size_t size);
};

// The hash that a file with these texts and tensors must state.
std::string packed_hash(const std::string& program, const std::string& info, const Safetensors& file);

}  // namespace bitorch
