// Making programs ask for much: sizes that no array backs, arrays that many operations share, and operations by the
// thousand. What comes out is mostly well formed, so that what a loader refuses it refuses for its size.
#pragma once
#include <cstdint>
#include <map>
#include <string>
#include <utility>
#include <vector>

#include "core/format/json.h"
#include "fuzz_mutations.h"
#include "tool.h"

namespace bitorch {

class Enlarger {
 public:
  Enlarger(Random& random, const std::string& program, std::map<std::string, OwnedArray>* arrays)
      : random_(random), program_(Node::from(Json::parse(program))), arrays_(*arrays) {}

  void change() {
    if (program_.kind != Node::kList || program_.children.empty()) return;
    switch (random_.below(6)) {
      case 0:
        return repeat_operation();
      case 1:
        return widen();
      case 2:
        return read_again();
      case 3:
        return stretch();
      case 4:
        return grow_arrays();
      default:
        return grow_input();
    }
  }

  std::string json() const { return program_.json(); }

 private:
  using Operations = std::vector<std::pair<std::string, Node>>;

  static Node leaf(std::string text) {
    Node node;
    node.text = std::move(text);
    return node;
  }
  static Node list(const std::vector<int64_t>& values) {
    Node node;
    node.kind = Node::kList;
    for (int64_t value : values) node.children.emplace_back("", leaf(std::to_string(value)));
    return node;
  }
  static Node* find(Node& operation, const std::string& key) {
    for (auto& [name, value] : operation.children) {
      if (name == key) return &value;
    }
    return nullptr;
  }
  static std::string op_of(Node& operation) {
    const Node* op = find(operation, "op");
    return op == nullptr ? "" : op->text;
  }

  // About 2^0 to 2^most_bits, all magnitudes alike.
  int64_t size(size_t most_bits) {
    const int64_t power = int64_t{1} << random_.below(most_bits + 1);
    return std::max<int64_t>(1, power + random_.from(-1, 1));
  }

  std::string fresh() { return "\"z" + std::to_string(names_++) + "\""; }

  Operations& operations() { return program_.children; }
  Node& any_operation() { return operations()[random_.below(operations().size())].second; }

  // The name of a tensor, quoted: of the last ones more often, which may be those that were made large.
  std::string any_tensor() {
    std::vector<std::string> names;
    for (auto& [key, operation] : operations()) {
      for (const char* result : {"output", "float32", "int32", "codes"}) {
        if (const Node* name = find(operation, result)) names.push_back(name->text);
      }
    }
    if (names.empty()) return "\"x\"";
    return random_.one_in(2) ? names.back() : random_.of(names);
  }

  Node copy_with_fresh_results(const Node& operation) {
    Node copy = operation;
    for (const char* result : {"output", "float32", "int32", "codes"}) {
      if (Node* name = find(copy, result)) *name = leaf(fresh());
    }
    return copy;
  }

  void append(Node operation) { operations().emplace_back("", std::move(operation)); }

  void repeat_operation() {
    const Node operation = any_operation();
    Node probe = operation;
    if (op_of(probe) == "\"input\"" || op_of(probe) == "\"output\"") return;
    for (int64_t n = size(random_.one_in(32) ? 11 : 6); n > 0; --n) append(copy_with_fresh_results(operation));
  }

  void add(const std::string& op, std::vector<std::pair<std::string, Node>> keys) {
    Node operation;
    operation.kind = Node::kObject;
    operation.children = std::move(keys);
    operation.children.emplace_back("op", leaf("\"" + op + "\""));
    operation.children.emplace_back("output", leaf(fresh()));
    append(std::move(operation));
  }

  // A tensor of many channels, or of many pixels, from a small one.
  void widen() {
    const std::string input = any_tensor();
    const bool channels = random_.one_in(2);
    add("pad", {{"input", leaf(input)},
                {"padding", list(channels ? std::vector<int64_t>(4, 0)
                                          : std::vector<int64_t>{size(20), size(20), size(4), size(4)})},
                {"mode", leaf("\"constant\"")},
                {"channels", list({0, channels ? size(24) - 1 : 0})},
                {"value", leaf(std::to_string(random_.below(4)))}});
  }

  // One more operation on what is there, of those that need no arrays.
  void read_again() {
    const std::string input = any_tensor();
    const std::pair<std::string, Node> from = {"input", leaf(input)};
    const Node pair_of_ones = list({1, 1}), none = list({0, 0, 0, 0});
    Node twice;
    twice.kind = Node::kList;
    twice.children = {{"", leaf(input)}, {"", leaf(input)}};
    switch (random_.below(9)) {
      case 0:
        return add("softmax", {from});
      case 1:
        return add("activation", {from, {"function", leaf("\"sigmoid\"")}});
      case 2:
        return add("flatten", {from, {"order", leaf(random_.one_in(2) ? "\"chw\"" : "\"hwc\"")}});
      case 3:
        return add("quantize", {from, {"bits", leaf(std::to_string(1 + random_.below(8)))}});
      case 4:
        return add("dequantize", {from});
      case 5:
        return add("global_avg_pool", {from});
      case 6:
        return add("adaptive_avg_pool", {from, {"output_size", list({size(20), size(20)})}});
      case 7:
        return add("concat", {{"inputs", twice}});
      default:
        return add("max_pool", {from, {"kernel_size", pair_of_ones}, {"stride", pair_of_ones}, {"padding", none}});
    }
  }

  // One number of a window, a shape or a padding.
  void stretch() {
    Node& operation = any_operation();
    for (const char* key :
         {"kernel_size", "padding", "dilation", "stride", "output_size", "channels", "groups", "zero_point"}) {
      Node* value = find(operation, key);
      if (value == nullptr || random_.one_in(2)) continue;
      if (value->kind == Node::kList && !value->children.empty()) {
        value->children[random_.below(value->children.size())].second = leaf(std::to_string(size(20)));
      } else if (value->kind == Node::kLeaf && value->text[0] != '"') {
        *value = leaf(std::to_string(size(20)));
      }
    }
  }

  void grow_input() {
    for (auto& [key, operation] : operations()) {
      Node* shape = op_of(operation) == "\"input\"" ? find(operation, "shape") : nullptr;
      if (shape == nullptr || shape->children.empty()) continue;
      shape->children[random_.below(shape->children.size())].second = leaf(std::to_string(size(24)));
    }
  }

  // A copy of an operation, with more output channels: its arrays are repeated along the first dimension.
  void grow_arrays() {
    Node operation = copy_with_fresh_results(any_operation());
    Node* channels = find(operation, "out_channels");
    const int64_t factor = size(random_.one_in(8) ? 12 : 6);
    int64_t grown = 0;
    for (auto& [key, value] : operation.children) {
      if (value.kind != Node::kLeaf || value.text.size() < 2 || value.text[0] != '"') continue;
      const auto found = arrays_.find(value.text.substr(1, value.text.size() - 2));
      if (found == arrays_.end() || found->second.view.shape.empty() || found->second.bytes * factor > kMostBytes)
        continue;
      const OwnedArray& array = found->second;
      std::vector<int64_t> shape = array.view.shape;
      shape[0] *= factor;
      OwnedArray repeated(array.view.dtype, shape);
      for (int64_t i = 0; i < repeated.bytes; ++i) repeated.memory[i] = array.memory[i % array.bytes];
      const std::string name = fresh();
      arrays_[name.substr(1, name.size() - 2)] = std::move(repeated);
      value = leaf(name);
      ++grown;
    }
    if (grown == 0) return;
    if (channels != nullptr) *channels = leaf(std::to_string(std::atoll(channels->text.c_str()) * factor));
    append(std::move(operation));
  }

  static constexpr int64_t kMostBytes = 64 << 10;  // of an array

  Random& random_;
  Node program_;
  std::map<std::string, OwnedArray>& arrays_;
  int names_ = 0;
};

}  // namespace bitorch
