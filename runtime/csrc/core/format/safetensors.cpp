#include "core/format/safetensors.h"

#include <algorithm>
#include <string_view>
#include <utility>
#include <vector>

#include "core/base/checked.h"
#include "core/format/json.h"

namespace bitorch {
namespace {

constexpr int64_t kLengthBytes = 8;
constexpr size_t kMaxNameShown = 80;

[[noreturn]] void fail(const std::string& what) { throw Error("safetensors: " + what); }

// Cut where a character begins, so that the message stays UTF-8.
std::string quoted(const std::string& name) {
  if (name.size() <= kMaxNameShown) return "\"" + name + "\"";
  size_t end = kMaxNameShown;
  while (end > 0 && (static_cast<unsigned char>(name[end]) & 0xC0) == 0x80) --end;
  return "\"" + name.substr(0, end) + "...\"";
}

constexpr std::pair<const char*, Dtype> kDtypes[] = {
    {"BOOL", Dtype::kBool}, {"U8", Dtype::kUint8},  {"I8", Dtype::kInt8},     {"I16", Dtype::kInt16},
    {"I32", Dtype::kInt32}, {"I64", Dtype::kInt64}, {"F32", Dtype::kFloat32}, {"F64", Dtype::kFloat64},
};

Dtype parse_dtype(const std::string& tensor, const Json& value) {
  if (value.is(Json::Type::kString)) {
    for (const auto& [name, dtype] : kDtypes) {
      if (value.string() == name) return dtype;
    }
  }
  fail("tensor " + quoted(tensor) + ": dtype is " + value.text() +
       "; it must be one of \"BOOL\", \"U8\", \"I8\", \"I16\", \"I32\", \"I64\", \"F32\", \"F64\"");
}

std::vector<int64_t> parse_counts(const std::string& tensor, const char* key, const Json& value) {
  bool valid = value.is(Json::Type::kArray);
  std::vector<int64_t> counts;
  for (size_t i = 0; valid && i < value.items().size(); ++i) {
    const Json& item = value.items()[i];
    valid = item.is(Json::Type::kInteger) && item.integer() >= 0;
    if (valid) counts.push_back(item.integer());
  }
  if (!valid)
    fail("tensor " + quoted(tensor) + ": " + key + " is " + value.text() + "; it must be a list of integers from 0 on");
  return counts;
}

const Json& member(const std::string& tensor, const Json& entry, const char* key) {
  const Json* value = entry.find(key);
  if (value == nullptr) fail("tensor " + quoted(tensor) + ": the key \"" + key + "\" is missing");
  return *value;
}

int64_t bytes_of(const std::string& tensor, const ArrayView& view) {
  const std::string what = "safetensors: tensor " + quoted(tensor);
  int64_t bytes = dtype_bytes(view.dtype);
  for (int64_t extent : view.shape) bytes = checked_mul(bytes, extent, what.c_str());
  return bytes;
}

struct Entry {
  std::string name;
  ArrayView view;
  int64_t begin, end;  // in the data
};

Entry parse_entry(const std::string& name, const Json& value, int64_t data_size) {
  if (!value.is(Json::Type::kObject))
    fail("tensor " + quoted(name) + " is " + Json::type_name(value.type()) + ", not an object");
  for (const Json::Member& m : value.members()) {
    if (m.first != "dtype" && m.first != "shape" && m.first != "data_offsets") {
      fail("tensor " + quoted(name) + ": unknown key " + quoted(m.first) +
           "; the keys are dtype, shape and data_offsets");
    }
  }
  Entry entry{name, {}, 0, 0};
  entry.view.dtype = parse_dtype(name, member(name, value, "dtype"));
  entry.view.shape = parse_counts(name, "shape", member(name, value, "shape"));
  const Json& offsets_json = member(name, value, "data_offsets");
  const std::vector<int64_t> offsets = parse_counts(name, "data_offsets", offsets_json);
  if (offsets.size() != 2 || offsets[0] > offsets[1] || offsets[1] > data_size) {
    fail("tensor " + quoted(name) + ": data_offsets is " + offsets_json.text() +
         "; it must be [begin, end] with begin <= end <= " + std::to_string(data_size) +
         ", the bytes of data in the file");
  }
  entry.begin = offsets[0];
  entry.end = offsets[1];
  const int64_t bytes = bytes_of(name, entry.view);
  if (bytes != entry.end - entry.begin) {
    fail("tensor " + quoted(name) + ": data_offsets " + offsets_json.text() + " hold " +
         std::to_string(entry.end - entry.begin) + " bytes, but its dtype and shape need " + std::to_string(bytes));
  }
  return entry;
}

// Tensors in the order of their bytes; empty ones may stand between any two others.
void check_cover(std::vector<Entry>& entries, int64_t data_size) {
  std::sort(entries.begin(), entries.end(),
            [](const Entry& a, const Entry& b) { return std::pair(a.begin, a.end) < std::pair(b.begin, b.end); });
  int64_t covered = 0;
  for (const Entry& entry : entries) {
    if (entry.begin != covered) {
      fail("tensor " + quoted(entry.name) + " begins at byte " + std::to_string(entry.begin) +
           " of the data, but the tensors before it end at " + std::to_string(covered) +
           "; there may be no holes and no overlaps");
    }
    covered = entry.end;
  }
  if (covered != data_size) {
    fail("the tensors cover " + std::to_string(covered) + " bytes of data, but the file holds " +
         std::to_string(data_size));
  }
}

void parse_metadata(const Json& value, std::map<std::string, std::string>* metadata) {
  if (!value.is(Json::Type::kObject))
    fail(std::string("\"__metadata__\" is ") + Json::type_name(value.type()) + ", not an object");
  for (const Json::Member& m : value.members()) {
    if (!m.second.is(Json::Type::kString)) {
      fail("\"__metadata__\", key " + quoted(m.first) + ": the value is " + Json::type_name(m.second.type()) +
           ", not a string");
    }
    metadata->emplace(m.first, m.second.string());
  }
}

// The header's text; Error where the bytes cannot hold it.
std::string_view header_text(const uint8_t* bytes, size_t size) {
  if (size < kLengthBytes)
    fail("the file has " + std::to_string(size) + " bytes; it begins with 8 bytes of header length");
  if (std::string_view(reinterpret_cast<const char*>(bytes), 4) == "PK\x03\x04") {
    fail("this is a PyTorch file, such as a checkpoint; a packed file of it is written by bitorch deploy");
  }
  uint64_t length = 0;
  for (int i = kLengthBytes - 1; i >= 0; --i) length = length << 8 | bytes[i];
  if (length > kMaxSafetensorsHeader) {
    fail("the header length is " + std::to_string(length) + " bytes; at most " + std::to_string(kMaxSafetensorsHeader) +
         " are allowed (is this a safetensors file?)");
  }
  if (length > size - kLengthBytes) {
    fail("the header length is " + std::to_string(length) + " bytes, but only " + std::to_string(size - kLengthBytes) +
         " follow; the file is cut off");
  }
  const std::string_view text(reinterpret_cast<const char*>(bytes) + kLengthBytes, length);
  if (text.empty() || text[0] != '{') fail("the header does not begin with \"{\" (is this a safetensors file?)");
  return text;
}

Json parse_header(std::string_view text) {
  try {
    return Json::parse(text);
  } catch (const Error& error) {
    fail(std::string("the header: ") + error.what());
  }
}

}  // namespace

const char* safetensors_name(Dtype dtype) {
  for (const auto& [name, known] : kDtypes) {
    if (known == dtype) return name;
  }
  throw Error("an array of unknown dtype");
}

Safetensors Safetensors::read(const void* data, size_t size, const CheckMetadata& check_metadata) {
  const uint8_t* bytes = static_cast<const uint8_t*>(data);
  const std::string_view text = header_text(bytes, size);
  const Json header = parse_header(text);
  const size_t data_begin = kLengthBytes + text.size();
  const int64_t data_size = static_cast<int64_t>(size - data_begin);

  Safetensors file;
  if (const Json* metadata = header.find("__metadata__")) parse_metadata(*metadata, &file.metadata);
  if (check_metadata) check_metadata(file.metadata);
  std::vector<Entry> entries;
  for (const Json::Member& m : header.members()) {
    if (m.first != "__metadata__") entries.push_back(parse_entry(m.first, m.second, data_size));
  }
  check_cover(entries, data_size);
  for (Entry& entry : entries) {
    entry.view.data = bytes + data_begin + entry.begin;
    file.order.push_back(entry.name);
    file.tensors.emplace(std::move(entry.name), std::move(entry.view));
  }
  return file;
}

}  // namespace bitorch
