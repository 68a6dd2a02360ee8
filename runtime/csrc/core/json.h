// JSON text (RFC 8259) to values, strictly: UTF-8 is checked, a key given twice is an error, depth is limited.
#pragma once
#include <cstdint>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace bitorch {

class Json {
 public:
  enum class Type { kNull, kBool, kInteger, kReal, kString, kArray, kObject };
  using Member = std::pair<std::string, Json>;

  static constexpr int kMaxDepth = 64;

  // One value and nothing after it. Error with line and column (both from 1, columns in bytes) where the text is not
  // JSON, not UTF-8, nested deeper than kMaxDepth, repeats a key in an object, or holds a number beyond the range of
  // double. A number without fraction and exponent is a kInteger, or a kReal where it does not fit in int64.
  static Json parse(std::string_view text);

  Type type() const { return type_; }
  bool is(Type type) const { return type_ == type; }
  bool is_number() const { return type_ == Type::kInteger || type_ == Type::kReal; }

  // Each may be called on a value of that type only (Error otherwise); real() takes integers as well.
  bool boolean() const;
  int64_t integer() const;
  double real() const;
  const std::string& string() const;
  const std::vector<Json>& items() const;
  const std::vector<Member>& members() const;  // in the order of the text

  // The value of an object's key, or null where it has none.
  const Json* find(std::string_view key) const;

  // Compact JSON text of at most about `limit` bytes, cut with "..." beyond: for error messages.
  std::string text(size_t limit = 120) const;
  static const char* type_name(Type type);  // "null", "a boolean", "an integer", ...

 private:
  friend class JsonParser;
  void expect(Type type) const;
  void append(std::string& out, size_t limit) const;

  Type type_ = Type::kNull;
  bool boolean_ = false;
  int64_t integer_ = 0;
  double real_ = 0;
  std::string string_;
  std::vector<Json> items_;
  std::vector<Member> members_;
};

}  // namespace bitorch
