// What loading a program may take: bytes of memory, and work. A file of some thousand bytes can ask for any amount of
// both, by sizes that no array backs and by arrays that thousands of operations share.
#pragma once
#include <cstdint>
#include <limits>

namespace bitorch {

class Budget {
 public:
  static constexpr int64_t kNoLimit = std::numeric_limits<int64_t>::max();

  // What one operation takes besides arrays: itself, its strings, its tensors and their place in the plan.
  static constexpr int64_t kOperationBytes = 4096;

  // How much work is allowed, in steps of about a nanosecond: this many, one for each byte of the limit, and so many
  // for each byte of the arrays, which is more than preparing an array once takes. About two seconds for small files
  // and the usual limit.
  static constexpr int64_t kLeastSteps = int64_t{1} << 29;
  static constexpr int64_t kStepsPerArrayByte = 128;

  explicit Budget(int64_t bytes = kNoLimit, int64_t array_bytes = 0);

  // To be called before the memory is allocated or the work begun. Error where it is more than is left; `what` says
  // what for.
  void charge(int64_t bytes, const char* what);
  void work(int64_t steps);
  // Of what was charged and is free again.
  void give_back(int64_t bytes) { charged_ -= bytes; }

  int64_t charged() const { return charged_; }
  int64_t left() const { return limit_ - charged_; }

 private:
  int64_t limit_, steps_left_;
  int64_t charged_ = 0;
};

}  // namespace bitorch
