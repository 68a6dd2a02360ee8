// What the fuzzers change: bytes, JSON, arrays.
#pragma once
#include <algorithm>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <iterator>
#include <map>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "case_file.h"
#include "core/format/json.h"
#include "core/program/plans.h"
#include "tool.h"

namespace bitorch {

// ---- JSON that can be changed ----

struct Node {
  enum Kind { kLeaf, kList, kObject } kind = kLeaf;
  std::string text;  // of a leaf, as JSON
  std::vector<std::pair<std::string, Node>> children;

  static Node from(const Json& json) {
    Node node;
    if (json.is(Json::Type::kArray)) {
      node.kind = kList;
      for (const Json& item : json.items()) node.children.emplace_back("", from(item));
    } else if (json.is(Json::Type::kObject)) {
      node.kind = kObject;
      for (const Json::Member& m : json.members()) node.children.emplace_back(m.first, from(m.second));
    } else {
      node.text = json.is(Json::Type::kString) ? Json::quoted(json.string()) : json.text();
    }
    return node;
  }

  std::string json() const {
    if (kind == kLeaf) return text;
    std::string out = kind == kList ? "[" : "{";
    for (size_t i = 0; i < children.size(); ++i) {
      if (i > 0) out += ", ";
      if (kind == kObject) out += Json::quoted(children[i].first) + ": ";
      out += children[i].second.json();
    }
    return out + (kind == kList ? "]" : "}");
  }

  void collect(std::vector<Node*>* leaves, std::vector<Node*>* parents) {
    if (kind == kLeaf) {
      leaves->push_back(this);
      return;
    }
    if (!children.empty()) parents->push_back(this);
    for (auto& [key, child] : children) child.collect(leaves, parents);
  }
};

inline const std::vector<std::string> kLeaves = {
    "0",
    "1",
    "-1",
    "2",
    "3",
    "7",
    "8",
    "9",
    "16",
    "31",
    "32",
    "33",
    "64",
    "255",
    "256",
    "1000",
    "32767",
    "65536",
    "1000000",
    "2147483647",
    "2147483648",
    "-2147483648",
    "4294967296",
    "4611686018427387904",
    "9223372036854775807",
    "-9223372036854775808",
    "0.5",
    "-0.0",
    "1e-45",
    "3e38",
    "1e308",
    "-1e300",
    "true",
    "false",
    "null",
    "\"\"",
    "\"x\"",
    "[]",
    "{}",
    "[1, 1]",
    "[0, 0]",
    "[1]",
    "[-1, 0]",
    "[2, 1, 0]",
    "[0, 2, 1]",
    "[1, 1, 1, 1]",
    "[2, 3, 1, 4, 1, 2, 1, 1]",
    "[1, 1, 1, 1, 1, 1, 1, 1, 1]",
    "[1048576, 1048576, 1048576, 1048576]",
    "[4611686018427387904, 4611686018427387904]",
    "[3, 3]",
    "{\"sum\": [[2, \"height\"], [3]]}",
    "{\"sum\": [[1, \"width\"], [1]]}",
    "{\"sum\": [[4611686018427387904, \"height\", \"width\"]]}",
    "{\"runs\": [[0, 1, {\"sum\": [[1, \"width\"], [1]]}]]}",
    "{\"runs\": [[2147483647, -1, 1048576]]}",
    "\"float32\"",
    "\"uint8\"",
    "\"int32\"",
    "\"nchw\"",
    "\"nhwc\"",
    "\"chw\"",
    "\"hwc\"",
    "\"leaky_relu\"",
    "\"hardswish\"",
    "\"sigmoid\"",
    "\"constant\"",
    "\"reflect\"",
    "\"replicate\"",
    "\"circular\"",
    "\"odd\"",
    "\"signed\"",
    "\"\\u0000\"",
    "\"\xc3\xa9\xe2\x82\xac\xf0\x9f\x98\x80\"",
};

// Every operation that there is, and every key that one may have.
inline const std::vector<std::string> kOperations = [] {
  std::vector<std::string> names;
  for (const auto& [op, keys] : Program::operations()) names.push_back(op);
  return names;
}();

inline const std::vector<std::string> kKeys = [] {
  std::set<std::string> all = {"op"};
  for (const auto& [op, keys] : Program::operations()) all.insert(keys.begin(), keys.end());
  return std::vector<std::string>(all.begin(), all.end());
}();

inline void change_leaf(Random& random, Node* leaf, const std::vector<Node*>& leaves) {
  if (random.one_in(3)) {
    leaf->text = random.of(kLeaves);
  } else if (random.one_in(2)) {
    leaf->text = leaves[random.below(leaves.size())]->text;  // names swapped, numbers from elsewhere
  } else {
    char* end = nullptr;
    const long long value = std::strtoll(leaf->text.c_str(), &end, 10);
    if (end != leaf->text.c_str() && *end == '\0' && std::llabs(value) < 1000000) {
      leaf->text = std::to_string(random.one_in(2) ? value + 1 : random.one_in(2) ? value - 1 : value * 2);
    } else {
      leaf->text = Json::quoted(random.of(kOperations));
    }
  }
}

inline void change_children(Random& random, Node* parent, const std::vector<Node*>& leaves) {
  auto& children = parent->children;
  const size_t at = random.below(children.size());
  switch (random.below(parent->kind == Node::kObject ? 6 : 4)) {
    case 0:
      children.erase(children.begin() + static_cast<std::ptrdiff_t>(at));
      return;
    case 1: {
      const std::pair<std::string, Node> copy = children[at];
      children.insert(children.begin() + static_cast<std::ptrdiff_t>(random.below(children.size() + 1)), copy);
      return;
    }
    case 2:
      std::swap(children[at], children[random.below(children.size())]);
      return;
    case 3:
      std::swap(children[at].second, children[random.below(children.size())].second);
      return;
    case 4:
      children[at].first = random.of(kKeys);
      return;
    default:
      children.emplace_back(random.of(kKeys), *leaves[random.below(leaves.size())]);
  }
}

inline std::string mutate_json(Random& random, const std::string& text) {
  Node root = Node::from(Json::parse(text));
  for (size_t n = 1 + random.below(3); n > 0; --n) {
    std::vector<Node*> leaves, parents;
    root.collect(&leaves, &parents);
    if (leaves.empty() || parents.empty()) break;
    if (random.one_in(2)) {
      change_leaf(random, leaves[random.below(leaves.size())], leaves);
    } else {
      change_children(random, parents[random.below(parents.size())], leaves);
    }
  }
  return root.json();
}

inline void damage_bytes(Random& random, std::vector<uint8_t>* bytes) {
  for (size_t n = 1 + random.below(4); n > 0 && !bytes->empty(); --n) {
    // Headers are where the structure is: half of the damage is done there.
    const size_t at = random.below(random.one_in(2) ? bytes->size() : std::min<size_t>(bytes->size(), 4096));
    const auto place = bytes->begin() + static_cast<std::ptrdiff_t>(at);
    switch (random.below(5)) {
      case 0:
        *place = static_cast<uint8_t>(*place ^ 1u << random.below(8));
        break;
      case 1:
        *place = static_cast<uint8_t>(random.word());
        break;
      case 2:
        bytes->resize(at);
        break;
      case 3:
        bytes->insert(place, static_cast<uint8_t>("0123456789[]{},:\"\\e-."[random.below(21)]));
        break;
      default:
        bytes->erase(place);
    }
  }
}

// ---- Arrays that can be changed ----

inline std::vector<Dtype> all_dtypes() {
  return {Dtype::kBool,  Dtype::kUint8, Dtype::kInt8,    Dtype::kInt16,
          Dtype::kInt32, Dtype::kInt64, Dtype::kFloat32, Dtype::kFloat64};
}

inline void put_extremes(Random& random, OwnedArray* array) {
  static const std::vector<uint32_t> kWords = {
      0x7fc00000u, 0x7f800000u, 0xff800000u, 0x80000000u, 0x7fffffffu, 0xffffffffu,
      0u,          1u,          0x7f7fffffu, 0x00000001u, 0x3f800000u, 0xcb000000u,
  };
  const int64_t most = 1 + static_cast<int64_t>(random.below(8));
  for (int64_t n = 0; n < most && array->bytes > 0; ++n) {
    if (array->view.dtype == Dtype::kFloat32 || array->view.dtype == Dtype::kInt32) {
      const uint32_t word = random.of(kWords);
      std::memcpy(array->memory.get() + random.below(static_cast<size_t>(array->bytes / 4)) * 4, &word, 4);
    } else {
      array->memory[random.below(static_cast<size_t>(array->bytes))] = static_cast<uint8_t>(random.word());
    }
  }
}

// Another dtype or shape, with as much of the data as there is.
inline void reshape(Random& random, OwnedArray* array) {
  Dtype dtype = array->view.dtype;
  std::vector<int64_t> shape = array->view.shape;
  switch (random.below(6)) {
    case 0:
      dtype = random.of(all_dtypes());
      break;
    case 1:
      shape.push_back(1);
      break;
    case 2:
      if (!shape.empty()) shape.pop_back();
      break;
    case 3:
      std::reverse(shape.begin(), shape.end());
      break;
    case 4:
      if (!shape.empty()) shape[random.below(shape.size())] += 1;
      break;
    default:
      if (!shape.empty()) shape[random.below(shape.size())] = static_cast<int64_t>(random.below(3));
  }
  OwnedArray changed(dtype, shape);
  for (int64_t i = 0; i < changed.bytes; ++i)
    changed.memory[i] = array->bytes > 0 ? array->memory[i % array->bytes] : 0;
  if (dtype == Dtype::kBool) {
    for (int64_t i = 0; i < changed.bytes; ++i) changed.memory[i] &= 1;
  }
  *array = std::move(changed);
}

inline void mutate_arrays(Random& random, std::map<std::string, OwnedArray>* arrays) {
  if (arrays->empty()) return;
  auto one = arrays->begin(), other = arrays->begin();
  std::advance(one, random.below(arrays->size()));
  std::advance(other, random.below(arrays->size()));
  switch (random.below(6)) {
    case 0:
      std::swap(one->second, other->second);
      break;
    case 1:
      arrays->erase(one);
      break;
    case 2:
      (*arrays)["unused"] = OwnedArray(one->second.view);
      break;
    case 3:
      reshape(random, &one->second);
      break;
    default:
      put_extremes(random, &one->second);
  }
}

// The 8 bytes of length, the header, the data.
inline std::vector<uint8_t> safetensors_bytes(const std::string& header, const std::vector<uint8_t>& data) {
  std::vector<uint8_t> bytes;
  for (int i = 0; i < 8; ++i) bytes.push_back(static_cast<uint8_t>(static_cast<uint64_t>(header.size()) >> 8 * i));
  bytes.insert(bytes.end(), header.begin(), header.end());
  bytes.insert(bytes.end(), data.begin(), data.end());
  return bytes;
}

// ---- Indices ----

// The i-th number of an input of indices: one that fits, but for some.
inline void put_index(Random& random, const Port& port, uint8_t* memory, int64_t i) {
  const int64_t index = random.one_in(64) ? random.from(-2, 1 << 20) : random.from(0, std::max(port.bits, 1) - 1);
  const auto narrow = static_cast<int32_t>(index);
  if (port.dtype == Dtype::kInt64) {
    std::memcpy(memory + i * 8, &index, 8);
  } else {
    std::memcpy(memory + i * 4, &narrow, 4);
  }
}

// ---- Sizes ----

// Of every input: as it is, with something for what is open, which fits more often than not.
inline std::vector<std::vector<int64_t>> random_shapes(Random& random, const Plans& plans) {
  std::vector<std::vector<int64_t>> shapes;
  for (size_t i = 0; i < plans.inputs().size(); ++i) {
    shapes.push_back(plans.inputs()[i].shape);
    const std::vector<OpenSizes::Choice> choices = plans.choices(i);
    for (size_t d = 0; d < choices.size(); ++d) {
      if (shapes[i][d] >= 0) continue;
      shapes[i][d] = choices[d].least + choices[d].step * random.from(0, random.one_in(8) ? 1 << 20 : 5);
      if (random.one_in(16)) shapes[i][d] += random.from(-3, 3);
    }
  }
  return shapes;
}

}  // namespace bitorch
