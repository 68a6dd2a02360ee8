// JSON text (RFC 8259) to values, strictly: UTF-8 is checked, a key given twice is an error, depth is limited.
#pragma once
#include <cstdint>
#include <string>
#include <string_view>
#include <utility>
#include <variant>
#include <vector>

namespace bitorch {

class Json {
 public:
  enum class Type { kNull, kBool, kInteger, kReal, kString, kArray, kObject };
  using Member = std::pair<std::string, Json>;

  static constexpr int kMaxDepth = 64;
  static constexpr size_t kMaxValues = size_t{1} << 19;  // about 20 MB of them

  // One value and nothing after it. Error with line and column (both from 1, columns in bytes) where the text is not
  // JSON, not UTF-8, nested deeper than kMaxDepth, of more than kMaxValues values, repeats a key in an object, or holds
  // a number beyond the range of double. A number without fraction and exponent is a kInteger, or a kReal where it does
  // not fit in int64.
  static Json parse(std::string_view text);

  Type type() const { return static_cast<Type>(value_.index()); }
  bool is(Type type) const { return this->type() == type; }
  bool is_number() const { return is(Type::kInteger) || is(Type::kReal); }

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
  static std::string quoted(const std::string& text);  // as a JSON string
  static const char* type_name(Type type);             // "null", "a boolean", "an integer", ...

 private:
  friend class JsonParser;
  template <class T>
  const T& get(Type type) const;
  void append(std::string& out, size_t limit) const;

  // In the order of Type.
  std::variant<std::monostate, bool, int64_t, double, std::string, std::vector<Json>, std::vector<Member>> value_;
};

}  // namespace bitorch
