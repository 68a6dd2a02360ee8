#include "core/base/budget.h"

#include <string>

#include "core/base/checked.h"

namespace bitorch {

namespace {

constexpr const char* kAdvice = "raise the limit if you trust where the program comes from";

int64_t steps_of(int64_t limit, int64_t array_bytes) {
  constexpr int64_t kMost = int64_t{1} << 52;  // of both, so that nothing overflows
  if (limit > kMost || array_bytes > kMost) return Budget::kNoLimit;
  return Budget::kLeastSteps + limit + Budget::kStepsPerArrayByte * array_bytes;
}

}  // namespace

Budget::Budget(int64_t bytes, int64_t array_bytes) : limit_(bytes), steps_left_(steps_of(bytes, array_bytes)) {}

void Budget::charge(int64_t bytes, const char* what) {
  if (bytes > left()) {
    throw Error(std::string("needs ") + std::to_string(bytes) + " bytes for " + what + ", and of the limit of " +
                std::to_string(limit_) + " only " + std::to_string(left()) + " are left; " + kAdvice);
  }
  charged_ += bytes;
}

void Budget::work(int64_t steps) {
  if (steps > steps_left_) {
    throw Error(
        std::string(
            "with it, preparing the operations takes longer than any network in use does, as when thousands of them "
            "share an array; ") +
        kAdvice);
  }
  steps_left_ -= steps;
}

}  // namespace bitorch
