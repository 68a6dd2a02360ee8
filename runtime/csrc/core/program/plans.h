// A network for every size of image that it takes: planned for a size when that first comes, the last few plans kept.
#pragma once
#include <cstdint>
#include <list>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <vector>

#include "core/base/aligned.h"
#include "core/base/array.h"
#include "core/base/tuning.h"
#include "core/program/open_sizes.h"
#include "core/program/program.h"

namespace bitorch {

class Plans {
 public:
  // Plans that are kept, the one that was used last first; fewer where they take more than the memory limit together,
  // but never less than one.
  static constexpr size_t kMost = 4;

  // As of Program. A description without open sizes (open_sizes.h) is one program, and nothing else is kept of it; of
  // others the arrays are kept as well, and the plan for the smallest sizes is made, which tells what is wrong. Plans
  // keep together what does not depend on the size, above all the weights as this CPU likes them.
  Plans(const std::string& json, const std::map<std::string, ArrayView>& arrays, const KernelTable& kernels,
        int64_t memory_limit = Program::kNoLimit, Tuning* tuning = nullptr);
  ~Plans();
  Plans(Plans&&) noexcept;
  Plans& operator=(Plans&&) noexcept;

  // Dimensions of -1 are open.
  const std::vector<Port>& inputs() const;
  const std::vector<Port>& outputs() const;
  // Of each dimension of an input what a call may choose, see OpenSizes; none where all sizes are fixed.
  std::vector<OpenSizes::Choice> choices(size_t input) const;

  bool is_open() const;
  // The plan for inputs of these shapes, of one image each. Where no size is open it is the only one, and shapes are
  // not looked at. It stays valid when others take its place. Error: sizes that do not fit, with those that would, or
  // that take more than the limit; std::bad_alloc. From several threads at once, too.
  std::shared_ptr<const Program> at(const std::vector<std::vector<int64_t>>& shapes) const;
  std::shared_ptr<const Program> smallest() const;

  int64_t kept_bytes() const;  // of all plans that are kept, and the arrays
  size_t count() const;        // of plans that are kept

 private:
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace bitorch
