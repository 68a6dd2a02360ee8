#include "core/program/open_sizes.h"

#include <algorithm>
#include <limits>
#include <utility>

#include "core/base/array.h"
#include "core/base/checked.h"
#include "core/graph/operation_reader.h"

namespace bitorch {

namespace {

constexpr size_t kMostTerms = 32, kMostNames = 8;  // of a formula; in a term, and in a program
constexpr const char* kFormulaRule =
    "a size must be an integer, or {\"sum\": [[factor, names ...], ...]}: up to 32 products of an integer and up to 8 "
    "names";

bool is_name(const Json& value) {
  if (!value.is(Json::Type::kString) || value.string().empty() || value.string().size() > 40) return false;
  const std::string& text = value.string();
  return std::none_of(text.begin(), text.end(),
                      [](char c) { return static_cast<unsigned char>(c) < 0x20 || c == 0x7f; });
}

bool has_one_key(const Json& value, const char* key) {
  return value.is(Json::Type::kObject) && value.members().size() == 1 && value.members()[0].first == key;
}

}  // namespace

bool SizeFormula::is_formula(const Json& value) { return has_one_key(value, "sum"); }

SizeFormula SizeFormula::read(const Json& value) {
  SizeFormula formula;
  if (value.is(Json::Type::kInteger)) {
    formula.terms_.push_back({value.integer(), {}});
    return formula;
  }
  const Json* terms = is_formula(value) ? value.find("sum") : nullptr;
  if (terms == nullptr || !terms->is(Json::Type::kArray) || terms->items().size() > kMostTerms) {
    throw Error(value.text() + " — " + kFormulaRule);
  }
  for (const Json& term : terms->items()) {
    const bool is_list = term.is(Json::Type::kArray) && !term.items().empty() && term.items().size() <= kMostNames + 1;
    if (!is_list || !term.items()[0].is(Json::Type::kInteger) ||
        !std::all_of(term.items().begin() + 1, term.items().end(), is_name)) {
      throw Error(value.text() + " — " + kFormulaRule);
    }
    formula.terms_.push_back({term.items()[0].integer(), {}});
    for (size_t i = 1; i < term.items().size(); ++i) formula.terms_.back().names.push_back(term.items()[i].string());
  }
  return formula;
}

int64_t SizeFormula::at(const SizeSteps& steps) const {
  int64_t sum = 0;
  for (const Term& term : terms_) {
    int64_t product = term.factor;
    for (const std::string& name : term.names) product = checked_mul(product, steps.at(name), "a formula of sizes");
    sum = checked_add(sum, product, "a formula of sizes");
  }
  return sum;
}

bool SizeFormula::is_constant() const {
  return std::all_of(terms_.begin(), terms_.end(), [](const Term& term) { return term.names.empty(); });
}

const std::string* SizeFormula::affine_in(int64_t* factor, int64_t* offset) const {
  const std::string* name = nullptr;
  *factor = *offset = 0;
  for (const Term& term : terms_) {
    if (term.names.empty()) {
      *offset = checked_add(*offset, term.factor, "a formula of sizes");
    } else if (term.names.size() == 1 && name == nullptr) {
      name = &term.names[0];
      *factor = term.factor;
    } else {
      return nullptr;
    }
  }
  return *factor >= 1 && *offset >= 1 && *factor <= kMaxExtent && *offset <= kMaxExtent ? name : nullptr;
}

void SizeFormula::add_names(SizeSteps* steps) const {
  for (const Term& term : terms_) {
    for (const std::string& name : term.names) steps->emplace(name, 0);
  }
}

namespace {

// Runs of indices: {"runs": [[start, step, count], ...]}.
bool is_runs(const Json& value) { return has_one_key(value, "runs"); }

std::vector<int32_t> indices_of(const Json& value, const SizeSteps& steps, int64_t* bytes_left) {
  const char* rule = "indices must be the name of an array, or {\"runs\": [[start, step, count], ...]}";
  std::vector<int32_t> indices;
  const Json& runs = *value.find("runs");
  if (!runs.is(Json::Type::kArray)) throw Error(value.text() + " — " + rule);
  for (const Json& run : runs.items()) {
    if (!run.is(Json::Type::kArray) || run.items().size() != 3) throw Error(value.text() + " — " + rule);
    int64_t numbers[3];
    for (size_t i = 0; i < 3; ++i) numbers[i] = SizeFormula::read(run.items()[i]).at(steps);
    const auto [start, step, count] = numbers;
    const int64_t room = kMaxExtent - static_cast<int64_t>(indices.size());
    if (count < 0 || count > room) throw Error(value.text() + ": a run of " + std::to_string(count) + " indices");
    *bytes_left -= count * 4;
    if (*bytes_left < 0) {
      throw Error(
          "the indices of this size take more than the limit; raise the limit if you trust where the program "
          "comes from");
    }
    const int64_t last = checked_add(start, checked_mul(step, std::max<int64_t>(count - 1, 0), "a run"), "a run");
    const int64_t most = std::numeric_limits<int32_t>::max();
    if (std::min(start, last) < 0 || std::max(start, last) > most) {
      throw Error(value.text() + ": a run of indices from " + std::to_string(start) + " to " + std::to_string(last));
    }
    for (int64_t i = 0; i < count; ++i) indices.push_back(static_cast<int32_t>(start + i * step));
  }
  return indices;
}

// Names of all formulas.
void collect_names(const Json& value, SizeSteps* steps) {
  if (SizeFormula::is_formula(value)) {
    SizeFormula::read(value).add_names(steps);
  } else if (value.is(Json::Type::kArray)) {
    for (const Json& item : value.items()) collect_names(item, steps);
  } else if (value.is(Json::Type::kObject)) {
    for (const Json::Member& member : value.members()) collect_names(member.second, steps);
  }
}

// Writes a description for some sizes.
class Writer {
 public:
  Writer(const SizeSteps& steps, const std::vector<std::string>& names, int64_t max_bytes)
      : steps_(steps), names_(names), bytes_left_(max_bytes) {}

  void write(const Json& value) {
    std::string& out = result_.json;
    if (SizeFormula::is_formula(value)) {
      out += std::to_string(SizeFormula::read(value).at(steps_));
    } else if (is_runs(value)) {
      std::vector<int32_t> indices = indices_of(value, steps_, &bytes_left_);
      const std::string name = fresh();
      result_.arrays.emplace(name, std::move(indices));
      out += Json::quoted(name);
    } else if (value.is(Json::Type::kArray)) {
      out += '[';
      for (size_t i = 0; i < value.items().size(); ++i) {
        if (i > 0) out += ',';
        write(value.items()[i]);
      }
      out += ']';
    } else if (value.is(Json::Type::kObject)) {
      out += '{';
      for (size_t i = 0; i < value.members().size(); ++i) {
        if (i > 0) out += ',';
        out += Json::quoted(value.members()[i].first) + ':';
        write(value.members()[i].second);
      }
      out += '}';
    } else {
      out += value.text(std::numeric_limits<size_t>::max());
    }
  }

  SizedDescription take() { return std::move(result_); }

 private:
  std::string fresh() {
    std::string name;
    do {
      name = "indices " + std::to_string(count_++);
    } while (std::binary_search(names_.begin(), names_.end(), name));
    return name;
  }

  const SizeSteps& steps_;
  const std::vector<std::string>& names_;
  int64_t bytes_left_;
  int64_t count_ = 0;
  SizedDescription result_;
};

const Json* key_of(const Json& operation, const char* key, Json::Type type) {
  const Json* value = operation.find(key);
  return value != nullptr && value->is(type) ? value : nullptr;
}

std::vector<SizeFormula> formulas_of(const Json& list) {
  std::vector<SizeFormula> formulas;
  for (const Json& size : list.items()) formulas.push_back(SizeFormula::read(size));
  return formulas;
}

}  // namespace

OpenSizes::OpenSizes(Json program) : program_(std::move(program)) {
  if (!program_.is(Json::Type::kArray)) return;  // whoever reads it says so
  for (size_t i = 0; i < program_.items().size(); ++i) {
    try {
      collect_names(program_.items()[i], &smallest_);
    } catch (const Error& error) {
      throw Error("operation " + std::to_string(i) + ": " + error.what());
    }
  }
  if (!any()) return;
  if (smallest_.size() > kMostNames) {
    throw Error("a program with " + std::to_string(smallest_.size()) + " open sizes: at most " +
                std::to_string(kMostNames) + " are allowed");
  }
  read_ends();
  bind();
}

void OpenSizes::read_ends() {
  for (size_t i = 0; i < program_.items().size(); ++i) {
    const Json& operation = program_.items()[i];
    if (!operation.is(Json::Type::kObject)) continue;
    const Json* op = key_of(operation, "op", Json::Type::kString);
    const bool is_input = op != nullptr && op->string() == "input";
    if (op == nullptr || (!is_input && op->string() != "output")) continue;
    const Json* name = key_of(operation, is_input ? "output" : "input", Json::Type::kString);
    const Json* outside = key_of(operation, "array_shape", Json::Type::kArray);
    const Json* shape = key_of(operation, "shape", Json::Type::kArray);
    if (name == nullptr || (outside == nullptr && (!is_input || shape == nullptr))) {
      throw Error("operation " + std::to_string(i) + " (" + op->string() + "): must have " +
                  (is_input ? "a \"shape\"" : "an \"array_shape\"") + ", because the program leaves sizes open");
    }
    std::vector<SizeFormula> sizes = formulas_of(outside != nullptr ? *outside : *shape);
    const Json* order = key_of(operation, "order", Json::Type::kString);
    const bool channels_last = outside == nullptr && order != nullptr && order->string() == "nhwc";
    if (channels_last && sizes.size() > 1) std::rotate(sizes.begin(), sizes.begin() + 1, sizes.end());
    (is_input ? inputs_ : outputs_).push_back({name->string(), std::move(sizes)});
  }
}

void OpenSizes::bind() {
  for (size_t input = 0; input < inputs_.size(); ++input) {
    for (size_t dimension = 0; dimension < inputs_[input].shape.size(); ++dimension) {
      int64_t factor, offset;
      const std::string* name = inputs_[input].shape[dimension].affine_in(&factor, &offset);
      if (name != nullptr) bindings_.emplace(*name, Binding{input, dimension, factor, offset});
    }
  }
  for (const auto& [name, zero] : smallest_) {
    if (bindings_.count(name) != 0) continue;
    throw Error("the size " + Json::quoted(name) +
                ": no input has a dimension that is a multiple of it, at least 1, and "
                "something above 0");
  }
}

namespace {

std::string shape_of_batch(const std::vector<int64_t>& shape) {
  std::string text = "[batch";
  for (const int64_t size : shape) text += ", " + (size < 0 ? "any" : std::to_string(size));
  return text + "]";
}

// Which sizes do, and the nearest of them.
std::string sizes_that_do(int64_t size, int64_t least, int64_t step) {
  if (size < least) return "must be at least " + std::to_string(least);
  const int64_t below = size - (size - least) % step;
  return "must be " + std::to_string(least) + ", " + std::to_string(least + step) + ", " +
         std::to_string(least + 2 * step) + " …; the nearest are " + std::to_string(below) + " and " +
         std::to_string(below + step);
}

}  // namespace

SizeSteps OpenSizes::steps_of(const std::vector<std::vector<int64_t>>& shapes) const {
  if (shapes.size() != inputs_.size()) {
    throw Error("the program takes " + std::to_string(inputs_.size()) + " inputs, but got " +
                std::to_string(shapes.size()));
  }
  for (size_t i = 0; i < inputs_.size(); ++i) {
    const std::vector<int64_t> wanted = shape_of("input", i);
    bool fits = shapes[i].size() == wanted.size();
    for (size_t d = 0; fits && d < wanted.size(); ++d) fits = wanted[d] < 0 || wanted[d] == shapes[i][d];
    if (fits) continue;
    throw Error("input " + Json::quoted(inputs_[i].name) + ": the array is [batch" +
                (shapes[i].empty() ? "" : ", " + shape_text(shapes[i]).substr(1, shape_text(shapes[i]).size() - 2)) +
                "], but must be " + shape_of_batch(wanted));
  }
  SizeSteps steps;
  for (const auto& [name, binding] : bindings_) {
    const int64_t size = shapes[binding.input][binding.dimension];
    if (size < binding.offset || (size - binding.offset) % binding.factor != 0 || size > kMaxExtent) {
      throw Error("input " + Json::quoted(inputs_[binding.input].name) + ": the " + name + " is " +
                  std::to_string(size) + " — " +
                  (size > kMaxExtent ? "at most " + std::to_string(kMaxExtent) + " is allowed"
                                     : sizes_that_do(size, binding.offset, binding.factor)));
    }
    steps[name] = (size - binding.offset) / binding.factor;
  }
  for (size_t i = 0; i < inputs_.size(); ++i) {
    for (size_t d = 0; d < inputs_[i].shape.size(); ++d) {
      const int64_t wanted = inputs_[i].shape[d].at(steps);
      if (wanted == shapes[i][d]) continue;
      throw Error("input " + Json::quoted(inputs_[i].name) + ": dimension " + std::to_string(d + 1) + " is " +
                  std::to_string(shapes[i][d]) + " — must be " + std::to_string(wanted) +
                  " beside the other dimensions of the inputs");
    }
  }
  return steps;
}

std::vector<int64_t> OpenSizes::shape_of(const char* op, size_t n) const {
  const End& end = (std::string(op) == "input" ? inputs_ : outputs_).at(n);
  std::vector<int64_t> shape;
  for (const SizeFormula& size : end.shape) shape.push_back(size.is_constant() ? size.at({}) : -1);
  return shape;
}

std::vector<OpenSizes::Choice> OpenSizes::choices(size_t input) const {
  std::vector<Choice> choices;
  for (const SizeFormula& size : inputs_.at(input).shape) choices.push_back({size.at(smallest_), 0});
  for (const auto& [name, binding] : bindings_) {
    if (binding.input == input) choices[binding.dimension].step = binding.factor;
  }
  return choices;
}

SizedDescription OpenSizes::at(const SizeSteps& steps, const std::vector<std::string>& names, int64_t max_bytes) const {
  Writer writer(steps, names, max_bytes);
  writer.write(program_);
  return writer.take();
}

}  // namespace bitorch
