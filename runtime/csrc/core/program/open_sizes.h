// Programs that leave sizes of their inputs open: integers of the description that follow from them are formulas, which
// are computed before the program is read at all. What reads and plans programs knows fixed sizes only.
#pragma once
#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "core/base/budget.h"
#include "core/format/json.h"

namespace bitorch {

// What each name of a size stands for: how many steps above the smallest, from 0 on.
using SizeSteps = std::map<std::string, int64_t>;

// {"sum": [[32, "height"], [64]]} is 32·height + 64: a sum of products of an integer and names.
class SizeFormula {
 public:
  static bool is_formula(const Json& value);
  // Of an integer, or of a formula. Error: it is neither.
  static SizeFormula read(const Json& value);

  int64_t at(const SizeSteps& steps) const;  // Error where it does not fit in 64 bits
  bool is_constant() const;
  // The name where it is factor·name + offset, factor and offset above 0; else null.
  const std::string* affine_in(int64_t* factor, int64_t* offset) const;
  void add_names(SizeSteps* steps) const;  // of 0 each

 private:
  struct Term {
    int64_t factor;
    std::vector<std::string> names;
  };
  std::vector<Term> terms_;
};

// A description for some sizes, and the arrays of indices that it names besides those of the program.
struct SizedDescription {
  std::string json;
  std::map<std::string, std::vector<int32_t>> arrays;
};

class OpenSizes {
 public:
  // No program.
  OpenSizes() = default;
  // Error: a formula that is none, or one with a name that the inputs do not say.
  explicit OpenSizes(Json program);

  bool any() const { return !smallest_.empty(); }
  const Json& program() const { return program_; }
  const SizeSteps& smallest() const { return smallest_; }
  // shapes[i]: of one image of the array for the i-th input. Error, with the sizes that would do, where they do not
  // fit.
  SizeSteps steps_of(const std::vector<std::vector<int64_t>>& shapes) const;
  // The dimensions of one image of an array: -1 where they are open. Of the n-th "input" or "output".
  std::vector<int64_t> shape_of(const char* op, size_t n) const;
  // What a call may choose: the smallest and the step of each dimension of an input; the step is 0 where it is fixed,
  // or follows from the others.
  struct Choice {
    int64_t least, step;
  };
  std::vector<Choice> choices(size_t input) const;

  // names: of arrays that are there already. At most max_bytes of indices.
  SizedDescription at(const SizeSteps& steps, const std::vector<std::string>& names, int64_t max_bytes) const;

 private:
  struct End {
    std::string name;  // of the tensor
    std::vector<SizeFormula> shape;
  };
  struct Binding {
    size_t input, dimension;
    int64_t factor, offset;
  };
  void read_ends();
  void bind();

  Json program_;
  std::vector<End> inputs_, outputs_;
  std::map<std::string, Binding> bindings_;
  SizeSteps smallest_;
};

}  // namespace bitorch
