#include "core/graph/operation_reader.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <utility>

namespace bitorch {

namespace {

std::string quoted(const std::string& text) { return "\"" + text + "\""; }

// Names stand in error messages, which end at a NUL and should not break a terminal.
bool is_name(const std::string& text) {
  if (text.empty()) return false;
  for (const char c : text) {
    if (static_cast<unsigned char>(c) < 0x20 || c == 0x7f) return false;
  }
  return true;
}

std::string list_of(const std::vector<std::string>& names, size_t limit) {
  std::string text;
  for (size_t i = 0; i < names.size(); ++i) {
    if (i == limit) return text + ", ... (" + std::to_string(names.size()) + " in all)";
    text += (i > 0 ? ", " : "") + quoted(names[i]);
  }
  return text;
}

bool in_range(const Json& value, int64_t low, int64_t high) {
  return value.is(Json::Type::kInteger) && value.integer() >= low && value.integer() <= high;
}

std::string range_text(int64_t low, int64_t high) {
  return "an integer from " + std::to_string(low) + " to " + std::to_string(high);
}

}  // namespace

ArrayTable::ArrayTable(const std::map<std::string, ArrayView>& arrays, Budget& budget)
    : arrays_(arrays), budget_(budget) {
  for (const auto& [name, array] : arrays) {
    if (!is_name(name)) throw Error("arrays: a name must not be empty or have control characters");
    if (array.elements() > 0 && array.data == nullptr) throw Error("array " + quoted(name) + ": no data");
  }
}

const ArrayView* ArrayTable::use(const std::string& name) {
  const auto found = arrays_.find(name);
  if (found == arrays_.end()) return nullptr;
  used_.insert(name);
  return &found->second;
}

const void* ArrayTable::elements(const ArrayView& array) {
  const int64_t size = dtype_bytes(array.dtype);
  if (reinterpret_cast<uintptr_t>(array.data) % static_cast<uintptr_t>(size) == 0) return array.data;
  const int64_t bytes = checked_mul(array.elements(), size, "an array");
  const auto fill = [&](uint8_t* copy) { std::memcpy(copy, array.data, static_cast<size_t>(bytes)); };
  return copy_of(array, bytes, fill);
}

const uint8_t* ArrayTable::booleans(const ArrayView& array) {
  const int64_t count = array.elements();
  const uint8_t* source = static_cast<const uint8_t*>(array.data);
  return copy_of(array, count, [&](uint8_t* copy) {
    for (int64_t i = 0; i < count; ++i) copy[i] = source[i] != 0;
  });
}

void ArrayTable::check_all_used() const {
  std::vector<std::string> unused;
  for (const auto& entry : arrays_) {
    if (used_.count(entry.first) == 0) unused.push_back(entry.first);
  }
  if (!unused.empty()) throw Error("arrays that no operation uses: " + list_of(unused, 8) + "; leave them out");
}

std::string ArrayTable::names() const {
  std::vector<std::string> names;
  for (const auto& entry : arrays_) names.push_back(entry.first);
  return names.empty() ? "there are no arrays" : "the arrays are " + list_of(names, 16);
}

OperationReader::OperationReader(const Json& description, size_t index, ArrayTable& arrays, Graph& graph,
                                 Preparation& preparation)
    : description_(description),
      arrays_(arrays),
      graph_(graph),
      preparation_(preparation),
      where_("operation " + std::to_string(index)) {
  if (!description.is(Json::Type::kObject)) {
    throw OperationError(where_ + ": " + description.text() + " — must be an object with an \"op\"");
  }
  const Json* op = description.find("op");
  if (op == nullptr || !op->is(Json::Type::kString)) {
    throw OperationError(where_ + ": \"op\" must be a string that names the operation, e.g. \"conv2d\"");
  }
  op_ = op->string();
  where_ += " (" + op_ + ")";
}

void OperationReader::fail(const char* key, const std::string& rule) const {
  const Json* value = description_.find(key);
  throw OperationError(where_ + ", \"" + key + "\": " + (value == nullptr ? "missing" : value->text()) + " — " + rule);
}

void OperationReader::fail(const std::string& rule) const { throw OperationError(where_ + ": " + rule); }

void OperationReader::allow(const Keys& keys) const {
  for (const Json::Member& member : description_.members()) {
    bool known = member.first == "op";
    for (const char* key : keys) known = known || member.first == key;
    if (known) continue;
    const std::vector<std::string> names(keys.begin(), keys.end());
    throw OperationError(where_ + ", " + quoted(member.first) + ": unknown key — " + op_ + " has " +
                         list_of(names, 32));
  }
}

const Json& OperationReader::value(const char* key) const {
  const Json* value = description_.find(key);
  if (value == nullptr) throw OperationError(where_ + ": the key \"" + key + "\" is missing");
  return *value;
}

const std::string& OperationReader::name(const char* key) const {
  const Json& name = value(key);
  if (!name.is(Json::Type::kString) || !is_name(name.string())) {
    fail(key, "must be a name (a string that is not empty and has no control characters)");
  }
  return name.string();
}

std::vector<std::string> OperationReader::names(const char* key) const {
  const Json& list = value(key);
  const char* rule = "must be a list of one or more names";
  if (!list.is(Json::Type::kArray) || list.items().empty()) fail(key, rule);
  std::vector<std::string> names;
  for (const Json& item : list.items()) {
    if (!item.is(Json::Type::kString) || !is_name(item.string())) fail(key, rule);
    names.push_back(item.string());
  }
  return names;
}

std::string OperationReader::choice(const char* key, std::initializer_list<const char*> choices) const {
  const Json& chosen = value(key);
  for (const char* choice : choices) {
    if (chosen.is(Json::Type::kString) && chosen.string() == choice) return choice;
  }
  fail(key, "must be one of " + list_of(std::vector<std::string>(choices.begin(), choices.end()), choices.size()));
}

const Json& OperationReader::list(const char* key) const {
  if (!value(key).is(Json::Type::kArray)) fail(key, "must be a list");
  return value(key);
}

int64_t OperationReader::integer(const char* key, int64_t low, int64_t high) const {
  if (!in_range(value(key), low, high)) fail(key, "must be " + range_text(low, high));
  return value(key).integer();
}

std::vector<int64_t> OperationReader::integers(const char* key, size_t count, int64_t low, int64_t high) const {
  const Json& list = value(key);
  if (!list.is(Json::Type::kArray) || list.items().size() != count) {
    fail(key, "must be a list of " + std::to_string(count) + " integers");
  }
  std::vector<int64_t> integers;
  for (const Json& item : list.items()) {
    if (!in_range(item, low, high)) fail(key, "each must be " + range_text(low, high));
    integers.push_back(item.integer());
  }
  return integers;
}

std::vector<int64_t> OperationReader::integers(const char* key, size_t count, int64_t low, int64_t high,
                                               int64_t missing) const {
  return has(key) ? integers(key, count, low, high) : std::vector<int64_t>(count, missing);
}

int OperationReader::bits(const char* key) const { return static_cast<int>(integer(key, 1, 8)); }

bool OperationReader::flag(const char* key) const {
  if (!value(key).is(Json::Type::kBool)) fail(key, "must be true or false");
  return value(key).boolean();
}

bool OperationReader::flag(const char* key, bool missing) const { return has(key) ? flag(key) : missing; }

float OperationReader::number(const char* key) const {
  if (!value(key).is_number()) fail(key, "must be a number");
  const double number = value(key).real();
  // Beyond this, rounding to float32 would give infinity, and the conversion would be undefined.
  if (std::fabs(number) >= 3.4028235677973366e38) fail(key, "must be finite as a float32");
  return static_cast<float>(number);
}

const ArrayView& OperationReader::array(const char* key) const {
  const ArrayView* array = arrays_.use(name(key));
  if (array == nullptr) fail(key, "there is no array of that name; " + arrays_.names());
  return *array;
}

const void* OperationReader::checked_array(const char* key, Dtype dtype, const std::vector<int64_t>& shape) const {
  const ArrayView& view = array(key);
  if (view.dtype != dtype || view.shape != shape) {
    fail(key, "the array is " + view.describe() + ", but must be " + dtype_name(dtype) + " " + shape_text(shape));
  }
  return dtype == Dtype::kBool ? arrays_.booleans(view) : arrays_.elements(view);
}

const float* OperationReader::floats(const char* key, const std::vector<int64_t>& shape) const {
  return static_cast<const float*>(checked_array(key, Dtype::kFloat32, shape));
}

const uint8_t* OperationReader::bytes(const char* key, const std::vector<int64_t>& shape) const {
  return static_cast<const uint8_t*>(checked_array(key, Dtype::kUint8, shape));
}

const int32_t* OperationReader::integers32(const char* key, const std::vector<int64_t>& shape) const {
  return static_cast<const int32_t*>(checked_array(key, Dtype::kInt32, shape));
}

const uint8_t* OperationReader::booleans(const char* key, const std::vector<int64_t>& shape) const {
  return static_cast<const uint8_t*>(checked_array(key, Dtype::kBool, shape));
}

const Tensor* OperationReader::input(const char* key, std::initializer_list<Values> allowed) const {
  return input_named(key, name(key), allowed);
}

const Tensor* OperationReader::input_named(const char* key, const std::string& name,
                                           std::initializer_list<Values> allowed) const {
  const auto found = graph_.by_name.find(name);
  if (found == graph_.by_name.end()) {
    fail(key, "no operation before this one gives a tensor called " + quoted(name));
  }
  std::string expected;
  for (Values values : allowed) {
    if (found->second->values == values) return found->second;
    expected += std::string(expected.empty() ? "" : " or ") + values_name(values);
  }
  fail(key, "the tensor " + quoted(name) + " is " + found->second->describe() + ", but must be " + expected);
}

void OperationReader::check_extents(const Tensor& tensor) const {
  int64_t least = tensor.channels, most = 1, outer = 1;
  for (size_t i = 0; i < tensor.axes.size(); ++i) {
    least = std::min(least, tensor.axes[i]);
    most = std::max(most, tensor.axes[i]);
    // Both factors are at most kMaxExtent: the product fits, and is not multiplied further where it is beyond.
    if (i + 1 < tensor.axes.size() && most <= kMaxExtent && outer <= kMaxExtent) outer *= tensor.axes[i];
  }
  if (least < 1) fail("the result would be " + shape_text(tensor.shape()) + ", empty");
  if (most > kMaxExtent || outer > kMaxExtent || tensor.channels > kMaxChannels) {
    fail("the result would be [rows ..., C] = " + shape_text(tensor.shape()) + "; at most " +
         std::to_string(kMaxExtent) + " along each axis of rows, and along all but the last together, and " +
         std::to_string(kMaxChannels) + " channels");
  }
  if (tensor.axes.size() + 1 > kMaxAxes) {
    fail("the result would be " + shape_text(tensor.shape()) + ": at most " + std::to_string(kMaxAxes) +
         " dimensions are allowed, channels included");
  }
}

const Tensor* OperationReader::output(const char* key, Values values, int bits, const RowAxes& axes,
                                      int64_t channels) const {
  Tensor tensor;
  tensor.name = name(key);
  tensor.values = values;
  tensor.bits = bits;
  tensor.axes = axes;
  tensor.channels = channels;
  check_extents(tensor);
  tensor.width = axes.back();
  tensor.height = 1;
  for (size_t i = 0; i + 1 < axes.size(); ++i) tensor.height *= axes[i];
  const auto inserted = graph_.by_name.emplace(tensor.name, nullptr);
  if (!inserted.second) fail(key, "a tensor of that name is already there; each name is given once");
  graph_.tensors.push_back(tensor);
  inserted.first->second = &graph_.tensors.back();
  return inserted.first->second;
}

const Tensor* OperationReader::output_like(const char* key, const Tensor& tensor) const {
  return output(key, tensor.values, tensor.bits, tensor.axes, tensor.channels);
}

size_t OperationReader::add_input(Port port) const {
  graph_.inputs.push_back(std::move(port));
  return graph_.inputs.size() - 1;
}

size_t OperationReader::add_output(const char* key, Port port) const {
  if (!graph_.output_names.insert(port.name).second) fail(key, "this tensor is an output already");
  graph_.outputs.push_back(std::move(port));
  return graph_.outputs.size() - 1;
}

}  // namespace bitorch
