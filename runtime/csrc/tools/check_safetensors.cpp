// Checks the safetensors reader: files that are right, files that are wrong in each way it knows, and every truncation
// of one.
//
//   check_safetensors      exits with 1 at the first file that is read otherwise than it should be
#include <cstdint>
#include <cstdio>
#include <cstring>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "core/base/checked.h"
#include "core/format/safetensors.h"

namespace bitorch {
namespace {

std::string file_of(const std::string& header, const std::string& data) {
  std::string bytes;
  for (int i = 0; i < 8; ++i) bytes += static_cast<char>(static_cast<uint64_t>(header.size()) >> 8 * i);
  return bytes + header + data;
}

// What the reader says, "" for nothing; from memory of exactly this size, so that a sanitizer sees a read beyond it.
std::string read(const std::string& bytes, Safetensors* file, std::unique_ptr<uint8_t[]>* memory) {
  memory->reset(new uint8_t[bytes.size()]);
  std::memcpy(memory->get(), bytes.data(), bytes.size());
  try {
    *file = Safetensors::read(memory->get(), bytes.size());
    return "";
  } catch (const Error& error) {
    return error.what();
  }
}

int failures = 0;

void expect(bool condition, const std::string& what) {
  if (condition) return;
  std::printf("WRONG %s\n", what.c_str());
  ++failures;
}

void check_error(const std::string& bytes, const std::string& part) {
  Safetensors file;
  std::unique_ptr<uint8_t[]> memory;
  const std::string message = read(bytes, &file, &memory);
  expect(message.find(part) != std::string::npos,
         "an error with \"" + part + "\" was expected, not \"" + message + "\"");
}

void check_header_error(const std::string& header, const std::string& part) {
  check_error(file_of(header, "01234567"), part);
}

const char kGood[] =
    "{\"__metadata__\": {\"a\": \"1\", \"b\": \"\\u00e9\"}, \"y\": {\"dtype\": \"F32\", \"shape\": [2, 1], "
    "\"data_offsets\": [1, 9]}, "
    "\"x\": {\"dtype\": \"U8\", \"shape\": [], \"data_offsets\": [0, 1]}, \"empty\": {\"dtype\": \"I64\", \"shape\": "
    "[3, 0], \"data_offsets\": [1, 1]}}  ";

void check_good_files() {
  Safetensors file;
  std::unique_ptr<uint8_t[]> memory;
  const std::string good = file_of(kGood, std::string("*\0\0\x80\x3f\0\0\0\x40", 9));
  expect(read(good, &file, &memory).empty(), "a right file is refused");
  expect(file.metadata == std::map<std::string, std::string>{{"a", "1"}, {"b", "\xc3\xa9"}}, "metadata");
  expect(file.tensors.size() == 3, "number of tensors");
  expect(file.tensors.at("x").describe() == "uint8 []" && *static_cast<const char*>(file.tensors.at("x").data) == '*',
         "tensor x");
  expect(file.tensors.at("empty").describe() == "int64 [3, 0]", "tensor empty");
  const ArrayView& y = file.tensors.at("y");
  float values[2];
  std::memcpy(values, y.data, sizeof(values));
  expect(y.describe() == "float32 [2, 1]" && values[0] == 1.0f && values[1] == 2.0f, "tensor y");
  for (size_t size = 0; size < good.size(); ++size) {
    expect(!read(good.substr(0, size), &file, &memory).empty(),
           "a file cut to " + std::to_string(size) + " bytes is read");
  }
  check_error(good + "x", "cover 9 bytes of data, but the file holds 10");
  expect(read(file_of("{}", ""), &file, &memory).empty() && file.tensors.empty(), "a file without tensors");
}

void check_wrong_files() {
  check_error("", "has 0 bytes");
  check_error(std::string(8, '\xff'), "header length is 18446744073709551615");
  check_error(std::string("\x05\0\0\0\0\0\0\0{}", 10), "cut off");
  check_error(std::string(8, '\0'), "does not begin with");
  check_error(file_of(" {}", ""), "does not begin with");
  check_error(file_of("{} x", ""), "the header: JSON, line 1, column 4");
  check_error(file_of("[]", ""), "does not begin with");

  const std::string x = "{\"x\": {\"dtype\": \"U8\", \"shape\": [8], \"data_offsets\": ";
  check_header_error(x + "[0, 9]}}", "end <= 8");
  check_header_error(x + "[-1, 7]}}", "integers from 0 on");
  check_header_error(x + "[0.0, 8]}}", "integers from 0 on");
  check_header_error(x + "[8, 0]}}", "begin <= end");
  check_header_error(x + "[0]}}", "[begin, end]");
  check_header_error(x + "[0, 8, 8]}}", "[begin, end]");
  check_header_error(x + "[0, 99999999999999999999]}}", "list of integers");
  check_header_error(x + "[0, 7]}}", "hold 7 bytes, but its dtype and shape need 8");
  check_header_error(x + "[0, 8]}, \"x\": 1}", "given twice");
  check_header_error(x + "[0, 8], \"more\": 1}}", "unknown key \"more\"");
  check_header_error(x + "[0, 8]}, \"y\": {\"dtype\": \"U8\", \"shape\": [1], \"data_offsets\": [7, 8]}}",
                     "no overlaps");
  check_header_error("{\"x\": {\"dtype\": \"U8\", \"shape\": [2], \"data_offsets\": [6, 8]}}", "begins at byte 6");
  check_header_error("{\"x\": {\"dtype\": \"U8\", \"shape\": [2], \"data_offsets\": [0, 2]}}", "cover 2 bytes");
  check_header_error("{\"x\": {\"dtype\": \"BF16\", \"shape\": [4], \"data_offsets\": [0, 8]}}", "dtype is \"BF16\"");
  check_header_error("{\"x\": {\"dtype\": 1, \"shape\": [4], \"data_offsets\": [0, 8]}}", "dtype is 1");
  check_header_error("{\"x\": {\"shape\": [4], \"data_offsets\": [0, 8]}}", "\"dtype\" is missing");
  check_header_error("{\"x\": {\"dtype\": \"F64\", \"shape\": [4611686018427387904, 4], \"data_offsets\": [0, 8]}}",
                     "does not fit");
  check_header_error("{\"x\": {\"dtype\": \"F64\", \"shape\": 1, \"data_offsets\": [0, 8]}}", "shape is 1");
  check_header_error("{\"x\": []}", "not an object");
  check_header_error("{\"__metadata__\": []}", "not an object");
  check_header_error("{\"__metadata__\": {\"a\": 1}}", "an integer, not a string");
}

}  // namespace
}  // namespace bitorch

int main() {
  bitorch::check_good_files();
  bitorch::check_wrong_files();
  if (bitorch::failures == 0) std::printf("safetensors: every file is read or refused as it should be\n");
  return bitorch::failures == 0 ? 0 : 1;
}
