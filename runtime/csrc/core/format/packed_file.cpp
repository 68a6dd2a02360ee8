#include "core/format/packed_file.h"

#include <algorithm>
#include <utility>

#include "core/base/checked.h"
#include "core/format/json.h"
#include "core/format/sha256.h"

namespace bitorch {

namespace {

using Metadata = std::map<std::string, std::string>;

constexpr const char* kKeys[] = {"format", "format_version", "program", "info", "sha256"};

// A value from the file, for a message.
std::string shown(const std::string& text) {
  const std::string quoted = Json::quoted(text);
  return quoted.size() <= 80 ? quoted : std::to_string(text.size()) + " bytes of text";
}

const std::string& value_of(const Metadata& metadata, const char* key) {
  const auto found = metadata.find(key);
  if (found == metadata.end()) throw Error(std::string("the key \"") + key + "\" is missing in the metadata");
  return found->second;
}

// A version is a number without leading zeros, from 1 on.
void check_version(const std::string& text) {
  const bool digits = !text.empty() && text.size() < 10 && text[0] != '0' &&
                      std::all_of(text.begin(), text.end(), [](char c) { return c >= '0' && c <= '9'; });
  if (!digits) throw Error("\"format_version\" is " + shown(text) + "; it must be a number from 1 on");
  if (std::stoi(text) > kFormatVersion) {
    throw Error("the file has format version " + text + ", and this bitorch-runtime reads versions up to " +
                std::to_string(kFormatVersion) +
                "; install a newer bitorch-runtime, or save the network again with an older bitorch");
  }
}

// The format and its version come first: what else a file may hold depends on them.
void check_metadata(const Metadata& metadata) {
  const auto format = metadata.find("format");
  if (format == metadata.end() || format->second != "bitorch") {
    throw Error("no packed network of bitorch: \"format\" in the metadata must be \"bitorch\", but " +
                (format == metadata.end() ? "is missing" : "is " + shown(format->second)));
  }
  check_version(value_of(metadata, "format_version"));
  for (const auto& [key, value] : metadata) {
    if (std::find(std::begin(kKeys), std::end(kKeys), key) != std::end(kKeys)) continue;
    throw Error("the metadata have the unknown key " + shown(key) +
                "; the keys are format, format_version, program, info and sha256");
  }
}

// Numbers as eight bytes, the lowest first; text and data after their size.
class Hash {
 public:
  void number(uint64_t value) {
    uint8_t bytes[8];
    for (int i = 0; i < 8; ++i) bytes[i] = static_cast<uint8_t>(value >> 8 * i);
    sha_.update(bytes, sizeof(bytes));
  }
  void bytes(const void* data, size_t size) {
    number(size);
    sha_.update(data, size);
  }
  void text(const std::string& text) { bytes(text.data(), text.size()); }
  std::string hex() { return hex_text(sha_.finish()); }

 private:
  Sha256 sha_;
};

bool is_allowed(Dtype dtype) {
  return dtype == Dtype::kFloat32 || dtype == Dtype::kInt32 || dtype == Dtype::kUint8 || dtype == Dtype::kBool;
}

void check_tensor(const std::string& name, const ArrayView& array) {
  if (!is_allowed(array.dtype)) {
    throw Error("tensor " + shown(name) + " is " + array.describe() +
                "; a packed file holds float32, int32, uint8 and bool");
  }
  const int64_t count = array.elements();
  if (count == 0)
    throw Error("tensor " + shown(name) + " is " + array.describe() + ", empty; a packed file has no such tensors");
  if (array.dtype != Dtype::kBool) return;
  const uint8_t* values = static_cast<const uint8_t*>(array.data);
  if (std::any_of(values, values + count, [](uint8_t value) { return value > 1; })) {
    throw Error("tensor " + shown(name) + " is bool, but has bytes other than 0 and 1");
  }
}

void check_hash(const Metadata& metadata, const Safetensors& file) {
  const std::string& stored = value_of(metadata, "sha256");
  const bool hex = stored.size() == 64 && stored.find_first_not_of("0123456789abcdef") == std::string::npos;
  if (!hex) throw Error("\"sha256\" is " + shown(stored) + "; it must be 64 hexadecimal digits in lower case");
  if (packed_hash(value_of(metadata, "program"), value_of(metadata, "info"), file) != stored) {
    throw Error(
        "the content does not have the SHA-256 that the file states: it was damaged or changed after it was written; "
        "copy or save it again");
  }
}

std::vector<std::string> read_class_names(const Json& value) {
  const char* rule = "\"info\": \"class_names\" must be a list of one or more strings";
  if (!value.is(Json::Type::kArray) || value.items().empty()) throw Error(rule);
  std::vector<std::string> names;
  for (const Json& name : value.items()) {
    if (!name.is(Json::Type::kString)) throw Error(rule);
    names.push_back(name.string());
  }
  return names;
}

std::vector<std::string> check_info(const std::string& text) {
  const Json info = [&] {
    try {
      return Json::parse(text);
    } catch (const Error& error) {
      throw Error(std::string("\"info\": ") + error.what());
    }
  }();
  if (!info.is(Json::Type::kObject))
    throw Error(std::string("\"info\" is ") + Json::type_name(info.type()) + "; it must be an object");
  std::vector<std::string> class_names;
  for (const Json::Member& member : info.members()) {
    if (member.first == "class_names") {
      class_names = read_class_names(member.second);
    } else if (member.first != "preprocessing" && member.first != "provenance") {
      throw Error("\"info\" has the unknown key " + shown(member.first) +
                  "; the keys are class_names, preprocessing and provenance");
    } else if (!member.second.is(Json::Type::kObject)) {
      throw Error("\"info\": \"" + member.first + "\" is " + Json::type_name(member.second.type()) +
                  "; it must be an object");
    }
  }
  return class_names;
}

}  // namespace

std::string packed_hash(const std::string& program, const std::string& info, const Safetensors& file) {
  Hash hash;
  hash.text(program);
  hash.text(info);
  for (const std::string& name : file.order) {
    const ArrayView& array = file.tensors.at(name);
    hash.text(name);
    hash.text(safetensors_name(array.dtype));
    hash.number(array.shape.size());
    for (const int64_t extent : array.shape) hash.number(static_cast<uint64_t>(extent));
    hash.bytes(array.data, static_cast<size_t>(array.elements() * dtype_bytes(array.dtype)));
  }
  return hash.hex();
}

PackedFile PackedFile::read(const void* data, size_t size) {
  Safetensors file = Safetensors::read(data, size, check_metadata);
  PackedFile packed;
  packed.format_version = std::stoi(value_of(file.metadata, "format_version"));
  packed.program = value_of(file.metadata, "program");
  packed.info = value_of(file.metadata, "info");
  for (const auto& [name, array] : file.tensors) check_tensor(name, array);
  check_hash(file.metadata, file);
  packed.sha256 = file.metadata.at("sha256");
  packed.class_names = check_info(packed.info);
  packed.arrays = std::move(file.tensors);
  return packed;
}

}  // namespace bitorch
