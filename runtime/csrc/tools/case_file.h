// A case on disk: a program, its inputs and what it must give (written by tests/dump_cases.py), for tools without
// Python.
//
// Every array lies in a block of memory of its own, exactly as long as it is, so that sanitizers see one byte too many.
#pragma once
#include <cstdint>
#include <cstring>
#include <fstream>
#include <iterator>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "core/base/checked.h"
#include "core/format/json.h"
#include "core/format/safetensors.h"
#include "core/program/program.h"

namespace bitorch {

// An array that owns its memory.
struct OwnedArray {
  OwnedArray() = default;
  OwnedArray(Dtype dtype, const std::vector<int64_t>& shape) {
    view.dtype = dtype;
    view.shape = shape;
    bytes = checked_mul(view.elements(), dtype_bytes(dtype), "an array");
    memory.reset(new uint8_t[static_cast<size_t>(bytes)]);
    view.data = memory.get();
  }
  explicit OwnedArray(const ArrayView& from) : OwnedArray(from.dtype, from.shape) {
    if (bytes > 0) std::memcpy(memory.get(), from.data, static_cast<size_t>(bytes));
  }

  ArrayView view;
  int64_t bytes = 0;
  std::unique_ptr<uint8_t[]> memory;
};

struct CaseFile {
  std::string program;
  std::map<std::string, OwnedArray> arrays, inputs, expected;
  std::map<std::string, double> tolerance;  // absolute, per output; outputs that are not here are equal to the last bit

  std::map<std::string, ArrayView> array_views() const {
    std::map<std::string, ArrayView> views;
    for (const auto& [name, array] : arrays) views.emplace(name, array.view);
    return views;
  }

  static CaseFile parse(const std::vector<uint8_t>& bytes) {
    const Safetensors file = Safetensors::read(bytes.data(), bytes.size());
    CaseFile result;
    const auto program = file.metadata.find("program");
    if (program == file.metadata.end()) throw Error("a case needs \"program\" in its metadata");
    result.program = program->second;
    const auto tolerance = file.metadata.find("tolerance");
    if (tolerance != file.metadata.end()) {
      const Json json = Json::parse(tolerance->second);
      for (const Json::Member& m : json.members()) result.tolerance.emplace(m.first, m.second.real());
    }
    for (const auto& [name, view] : file.tensors) {
      const size_t dot = name.find('.');
      const std::string kind = name.substr(0, dot);
      if (dot == std::string::npos || (kind != "array" && kind != "input" && kind != "expected")) {
        throw Error("a case holds array.NAME, input.NAME and expected.NAME, not \"" + name + "\"");
      }
      auto& group = kind == "array" ? result.arrays : kind == "input" ? result.inputs : result.expected;
      group.emplace(name.substr(dot + 1), OwnedArray(view));
    }
    return result;
  }
};

inline std::vector<uint8_t> read_file(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  if (!file) throw Error(path + ": cannot be read");
  return std::vector<uint8_t>(std::istreambuf_iterator<char>(file), std::istreambuf_iterator<char>());
}

// The arrays of a program's outputs for one batch, filled with bytes that no result has by chance.
inline std::vector<OwnedArray> make_outputs(const Program& program, int64_t batch) {
  std::vector<OwnedArray> outputs;
  for (const Program::Port& port : program.outputs()) {
    std::vector<int64_t> shape = {batch};
    shape.insert(shape.end(), port.shape.begin(), port.shape.end());
    outputs.emplace_back(port.dtype, shape);
    std::memset(outputs.back().memory.get(), 0xa5, static_cast<size_t>(outputs.back().bytes));
  }
  return outputs;
}

inline std::vector<void*> pointers(const std::vector<OwnedArray>& arrays) {
  std::vector<void*> result;
  for (const OwnedArray& array : arrays) result.push_back(array.memory.get());
  return result;
}

}  // namespace bitorch
