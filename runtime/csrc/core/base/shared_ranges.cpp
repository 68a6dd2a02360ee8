#include "core/base/shared_ranges.h"

#include <algorithm>

#include "core/base/checked.h"

namespace bitorch {

namespace {

uint64_t pack(uint64_t begin, uint64_t end) { return begin << 32 | end; }
uint64_t begin_of(uint64_t ends) { return ends >> 32; }
uint64_t end_of(uint64_t ends) { return ends & 0xffffffffu; }

}  // namespace

SharedRanges::SharedRanges(int workers, int64_t items, int64_t grain)
    : workers_(workers), items_(items), unit_((items >> 31) + 1) {
  const auto units = static_cast<uint64_t>(ceil_div(items, unit_));
  grain_ = static_cast<uint64_t>(std::max<int64_t>(1, ceil_div(grain, unit_)));
  const auto count = static_cast<uint64_t>(workers);
  for (uint64_t i = 0; i < count; ++i) {
    ranges_[i].ends.store(pack(units * i / count, units * (i + 1) / count), std::memory_order_relaxed);
  }
}

// Three quarters of a worker's own range, half of another's; all of it, where less than a grain would be left.
bool SharedRanges::take_from(Range& range, bool front, uint64_t* taken) {
  uint64_t ends = range.ends.load(std::memory_order_relaxed);
  for (;;) {
    const uint64_t begin = begin_of(ends), end = end_of(ends), left = end - begin;
    if (left == 0) return false;
    uint64_t count = std::max(front ? left - left / 4 : (left + 1) / 2, grain_);
    if (left < count + grain_) count = left;
    const uint64_t rest = front ? pack(begin + count, end) : pack(begin, end - count);
    if (!range.ends.compare_exchange_weak(ends, rest, std::memory_order_relaxed)) continue;
    *taken = front ? pack(begin, begin + count) : pack(end - count, end);
    return true;
  }
}

bool SharedRanges::take(int worker, int64_t* first, int64_t* last) {
  uint64_t taken;
  bool found = take_from(ranges_[worker], true, &taken);
  for (int i = 1; !found && i < workers_; ++i) found = take_from(ranges_[(worker + i) % workers_], false, &taken);
  if (!found) return false;
  *first = static_cast<int64_t>(begin_of(taken)) * unit_;
  *last = std::min(items_, static_cast<int64_t>(end_of(taken)) * unit_);
  return true;
}

}  // namespace bitorch
