#include "core/format/json.h"

#include <algorithm>
#include <charconv>
#include <cmath>
#include <limits>
#include <tuple>

#include "core/base/checked.h"
#include "core/format/reals.h"

namespace bitorch {

const char* Json::type_name(Type type) {
  switch (type) {
    case Type::kNull:
      return "null";
    case Type::kBool:
      return "a boolean";
    case Type::kInteger:
      return "an integer";
    case Type::kReal:
      return "a number";
    case Type::kString:
      return "a string";
    case Type::kArray:
      return "a list";
    case Type::kObject:
      return "an object";
  }
  throw Error("a JSON value of unknown type");
}

template <class T>
const T& Json::get(Type type) const {
  if (!is(type)) throw Error(std::string("JSON: expected ") + type_name(type) + ", not " + type_name(this->type()));
  return std::get<T>(value_);
}

bool Json::boolean() const { return get<bool>(Type::kBool); }
int64_t Json::integer() const { return get<int64_t>(Type::kInteger); }
double Json::real() const { return is(Type::kInteger) ? static_cast<double>(integer()) : get<double>(Type::kReal); }
const std::string& Json::string() const { return get<std::string>(Type::kString); }
const std::vector<Json>& Json::items() const { return get<std::vector<Json>>(Type::kArray); }
const std::vector<Json::Member>& Json::members() const { return get<std::vector<Member>>(Type::kObject); }

const Json* Json::find(std::string_view key) const {
  for (const Member& member : members()) {
    if (member.first == key) return &member.second;
  }
  return nullptr;
}

namespace {

void append_quoted(std::string& out, const std::string& text, size_t limit) {
  static const char* const kHex = "0123456789abcdef";
  out += '"';
  for (char c : text) {
    if (out.size() > limit) break;
    const unsigned char byte = static_cast<unsigned char>(c);
    if (c == '"' || c == '\\') {
      out += '\\';
      out += c;
    } else if (byte < 0x20) {
      out += "\\u00";
      out += kHex[byte >> 4];
      out += kHex[byte & 15];
    } else {
      out += c;
    }
  }
  out += '"';
}

bool is_continuation(char c) { return (static_cast<unsigned char>(c) & 0xC0) == 0x80; }

}  // namespace

void Json::append(std::string& out, size_t limit) const {
  if (out.size() > limit) return;
  switch (type()) {
    case Type::kNull:
      out += "null";
      return;
    case Type::kBool:
      out += boolean() ? "true" : "false";
      return;
    case Type::kInteger:
      out += std::to_string(integer());
      return;
    case Type::kReal: {
      char digits[32];
      const std::string_view number(digits, static_cast<size_t>(write_real(digits, real()) - digits));
      out += number;
      if (number.find_first_of(".e") == std::string_view::npos) out += ".0";
      return;
    }
    case Type::kString:
      append_quoted(out, string(), limit);
      return;
    case Type::kArray:
      out += '[';
      for (size_t i = 0; i < items().size() && out.size() <= limit; ++i) {
        if (i > 0) out += ", ";
        items()[i].append(out, limit);
      }
      out += ']';
      return;
    case Type::kObject:
      out += '{';
      for (size_t i = 0; i < members().size() && out.size() <= limit; ++i) {
        if (i > 0) out += ", ";
        append_quoted(out, members()[i].first, limit);
        out += ": ";
        members()[i].second.append(out, limit);
      }
      out += '}';
      return;
  }
}

std::string Json::text(size_t limit) const {
  std::string out;
  append(out, limit);
  if (out.size() <= limit) return out;
  size_t end = limit;
  while (end > 0 && is_continuation(out[end])) --end;
  return out.substr(0, end) + "...";
}

std::string Json::quoted(const std::string& text) {
  std::string out;
  append_quoted(out, text, std::numeric_limits<size_t>::max());
  return out;
}

// Recursive descent over the text, one function per production.
class JsonParser {
 public:
  explicit JsonParser(std::string_view text) : text_(text) {}

  Json document() {
    Json value;
    skip_space();
    parse_value(value, 0);
    skip_space();
    if (position_ != text_.size()) fail(position_, "nothing may follow the value");
    return value;
  }

 private:
  [[noreturn]] void fail(size_t at, const std::string& what) const {
    size_t line = 1, start = 0;
    for (size_t i = 0; i < at && i < text_.size(); ++i) {
      if (text_[i] == '\n') {
        ++line;
        start = i + 1;
      }
    }
    throw Error("JSON, line " + std::to_string(line) + ", column " + std::to_string(at - start + 1) + ": " + what);
  }

  bool at_end() const { return position_ == text_.size(); }
  char peek() const { return at_end() ? '\0' : text_[position_]; }
  bool digit() const { return peek() >= '0' && peek() <= '9'; }

  bool take(char c) {
    if (at_end() || text_[position_] != c) return false;
    ++position_;
    return true;
  }

  void skip_space() {
    while (!at_end() && (peek() == ' ' || peek() == '\t' || peek() == '\n' || peek() == '\r')) ++position_;
  }

  void parse_value(Json& value, int depth) {
    if (depth > Json::kMaxDepth) fail(position_, "nested deeper than " + std::to_string(Json::kMaxDepth) + " levels");
    if (at_end()) fail(position_, "a value is missing: the text ends here");
    if (++values_ > Json::kMaxValues) fail(position_, "more than " + std::to_string(Json::kMaxValues) + " values");
    switch (peek()) {
      case '{':
        return parse_object(value, depth);
      case '[':
        return parse_array(value, depth);
      case '"':
        value.value_ = parse_string();
        return;
      case 't':
      case 'f':
      case 'n':
        return parse_word(value);
      default:
        return parse_number(value);
    }
  }

  void parse_word(Json& value) {
    const std::string_view rest = text_.substr(position_);
    const auto starts = [&](std::string_view word) { return rest.substr(0, word.size()) == word; };
    if (starts("null")) {
      position_ += 4;
    } else if (starts("true")) {
      value.value_ = true;
      position_ += 4;
    } else if (starts("false")) {
      value.value_ = false;
      position_ += 5;
    } else {
      fail(position_, "a value must be an object, a list, a string, a number, true, false or null");
    }
  }

  void parse_array(Json& value, int depth) {
    auto& items = value.value_.emplace<std::vector<Json>>();
    ++position_;
    skip_space();
    if (take(']')) return;
    while (true) {
      skip_space();
      items.emplace_back();
      parse_value(items.back(), depth + 1);
      skip_space();
      if (take(']')) return;
      if (!take(',')) fail(position_, "a list goes on with \",\" or ends with \"]\"");
    }
  }

  void parse_object(Json& value, int depth) {
    auto& members = value.value_.emplace<std::vector<Json::Member>>();
    ++position_;
    skip_space();
    if (take('}')) return;
    std::vector<size_t> starts;
    while (true) {
      skip_space();
      if (peek() != '"') fail(position_, "a key must be a string in double quotes");
      starts.push_back(position_);
      members.emplace_back(std::piecewise_construct, std::forward_as_tuple(parse_string()), std::forward_as_tuple());
      skip_space();
      if (!take(':')) fail(position_, "a key is followed by \":\"");
      skip_space();
      parse_value(members.back().second, depth + 1);
      skip_space();
      if (take('}')) break;
      if (!take(',')) fail(position_, "an object goes on with \",\" or ends with \"}\"");
    }
    check_keys(members, starts);
  }

  void check_keys(const std::vector<Json::Member>& members, const std::vector<size_t>& starts) const {
    std::vector<size_t> order(members.size());
    for (size_t i = 0; i < order.size(); ++i) order[i] = i;
    std::sort(order.begin(), order.end(), [&](size_t a, size_t b) {
      const int compared = members[a].first.compare(members[b].first);
      return compared != 0 ? compared < 0 : a < b;
    });
    for (size_t i = 1; i < order.size(); ++i) {
      const std::string& key = members[order[i]].first;
      if (key != members[order[i - 1]].first) continue;
      std::string quoted;
      append_quoted(quoted, key, 80);
      fail(starts[order[i]], "the key " + quoted + " is given twice");
    }
  }

  void digits(const char* where) {
    if (!digit()) fail(position_, std::string("a digit is missing ") + where);
    while (digit()) ++position_;
  }

  void parse_number(Json& value) {
    const size_t start = position_;
    const bool negative = take('-');
    if (!digit()) {
      if (negative) fail(start, "a digit is missing after \"-\"");
      fail(start, "a value must be an object, a list, a string, a number, true, false or null");
    }
    if (take('0')) {
      if (digit()) fail(start, "a number must not begin with 0 and another digit");
    } else {
      digits("in a number");
    }
    bool integer = true;
    if (take('.')) {
      integer = false;
      digits("after \".\"");
    }
    if (peek() == 'e' || peek() == 'E') {
      integer = false;
      ++position_;
      if (!take('+')) take('-');
      digits("in an exponent");
    }
    const char* first = text_.data() + start;
    const char* last = text_.data() + position_;
    int64_t whole = 0;
    if (integer && std::from_chars(first, last, whole).ec == std::errc()) {
      value.value_ = whole;
    } else {
      value.value_ = parse_real(start, first, last);
    }
  }

  double parse_real(size_t start, const char* first, const char* last) const {
    double real = 0;
    const std::from_chars_result result = read_real(first, last, real);
    if (result.ec == std::errc() && std::isfinite(real)) return real;
    if (result.ec == std::errc::result_out_of_range && is_tiny(std::string_view(first, last - first))) return 0.0;
    fail(start, "a number beyond the range of double");
  }

  // Whether a number that from_chars found out of range was too small rather than too large: where its first digit that
  // is not zero stands, counted from the decimal point, moved by the exponent.
  static bool is_tiny(std::string_view number) {
    const size_t mark = std::min(number.find_first_of("eE"), number.size());
    const size_t point = std::min(number.find('.'), mark);
    const size_t lead = number.find_first_of("123456789");
    int64_t exponent = 0;
    if (mark < number.size()) {
      const bool negative = number[mark + 1] == '-';
      const char* digits = number.data() + mark + (negative || number[mark + 1] == '+' ? 2 : 1);
      const std::from_chars_result result = std::from_chars(digits, number.data() + number.size(), exponent);
      if (result.ec != std::errc()) return negative;
      if (negative) exponent = -exponent;
    }
    return static_cast<int64_t>(point) - static_cast<int64_t>(lead) < -exponent;
  }

  unsigned parse_hex4() {
    unsigned unit = 0;
    for (int i = 0; i < 4; ++i, ++position_) {
      const char c = peek();
      unit *= 16;
      if (c >= '0' && c <= '9') {
        unit += static_cast<unsigned>(c - '0');
      } else if (c >= 'a' && c <= 'f') {
        unit += static_cast<unsigned>(c - 'a' + 10);
      } else if (c >= 'A' && c <= 'F') {
        unit += static_cast<unsigned>(c - 'A' + 10);
      } else {
        fail(position_, "\\u is followed by four hexadecimal digits");
      }
    }
    return unit;
  }

  static void append_utf8(std::string& out, unsigned point) {
    const auto put = [&](unsigned byte) { out += static_cast<char>(byte); };
    if (point < 0x80) {
      put(point);
    } else if (point < 0x800) {
      put(0xC0 | point >> 6);
      put(0x80 | (point & 0x3F));
    } else if (point < 0x10000) {
      put(0xE0 | point >> 12);
      put(0x80 | (point >> 6 & 0x3F));
      put(0x80 | (point & 0x3F));
    } else {
      put(0xF0 | point >> 18);
      put(0x80 | (point >> 12 & 0x3F));
      put(0x80 | (point >> 6 & 0x3F));
      put(0x80 | (point & 0x3F));
    }
  }

  void parse_escape(std::string& out) {
    const size_t start = position_ - 1;  // of the backslash
    if (at_end()) fail(start, "a string is not closed");
    const char c = text_[position_++];
    switch (c) {
      case '"':
      case '\\':
      case '/':
        out += c;
        return;
      case 'b':
        out += '\b';
        return;
      case 'f':
        out += '\f';
        return;
      case 'n':
        out += '\n';
        return;
      case 'r':
        out += '\r';
        return;
      case 't':
        out += '\t';
        return;
      case 'u':
        break;
      default:
        fail(start, "an escape must be one of \\\" \\\\ \\/ \\b \\f \\n \\r \\t \\u");
    }
    unsigned point = parse_hex4();
    if (point >= 0xDC00 && point <= 0xDFFF) fail(start, "the second half of a surrogate pair without the first");
    if (point >= 0xD800 && point <= 0xDBFF) {
      if (!take('\\') || !take('u')) fail(start, "the first half of a surrogate pair without the second");
      const unsigned low = parse_hex4();
      if (low < 0xDC00 || low > 0xDFFF) fail(start, "the first half of a surrogate pair without the second");
      point = 0x10000 + ((point - 0xD800) << 10) + (low - 0xDC00);
    }
    append_utf8(out, point);
  }

  // Copies one character of two to four bytes: no overlong forms, no surrogates, nothing above U+10FFFF.
  void parse_multibyte(std::string& out) {
    const auto byte = [&](size_t i) {
      return position_ + i < text_.size() ? static_cast<unsigned char>(text_[position_ + i]) : 0u;
    };
    const unsigned lead = byte(0);
    unsigned low = 0x80, high = 0xBF;  // of the second byte
    size_t length = 0;
    if (lead >= 0xC2 && lead <= 0xDF) {
      length = 2;
    } else if (lead >= 0xE0 && lead <= 0xEF) {
      length = 3;
      if (lead == 0xE0) low = 0xA0;
      if (lead == 0xED) high = 0x9F;
    } else if (lead >= 0xF0 && lead <= 0xF4) {
      length = 4;
      if (lead == 0xF0) low = 0x90;
      if (lead == 0xF4) high = 0x8F;
    }
    bool valid = length > 0 && byte(1) >= low && byte(1) <= high;
    for (size_t i = 2; i < length; ++i) valid = valid && (byte(i) & 0xC0) == 0x80;
    if (!valid) fail(position_, "the text is not UTF-8");
    out.append(text_.substr(position_, length));
    position_ += length;
  }

  std::string parse_string() {
    const size_t start = position_++;
    std::string out;
    while (true) {
      if (at_end()) fail(start, "a string is not closed");
      const unsigned char c = static_cast<unsigned char>(text_[position_]);
      if (c == '"') {
        ++position_;
        return out;
      }
      if (c < 0x20) fail(position_, "a control character in a string must be written as an escape");
      if (c == '\\') {
        ++position_;
        parse_escape(out);
      } else if (c < 0x80) {
        out += static_cast<char>(c);
        ++position_;
      } else {
        parse_multibyte(out);
      }
    }
  }

  std::string_view text_;
  size_t position_ = 0;
  size_t values_ = 0;
};

Json Json::parse(std::string_view text) { return JsonParser(text).document(); }

}  // namespace bitorch
