// Work of many like items, shared among workers while it is done: what one is late with another takes.
//
//   worker 0  [ taken | taken |     ......     ]   a range of its own, side by side, so that from layer to layer a
//   worker 1  [ taken |      ......    | stolen ]  worker finds in its cache what it wrote itself
//
// A worker takes three quarters of what is left of its own range, from the front, then three quarters of that, down to
// a grain: few, long runs of items that follow each other, as what a run needs beside its own items is made once for
// it. With nothing of its own left it takes half of another's, from the back. So a worker that wakes up late, or loses
// its CPU for a while, holds nobody up for longer than its run lasts. Which worker does an item does not change what
// becomes of it.
#pragma once
#include <algorithm>
#include <atomic>
#include <cstdint>

#include "core/base/threads.h"

namespace bitorch {

class SharedRanges {
 public:
  // workers <= kMaxThreads. No run is shorter than `grain` items unless its range is.
  SharedRanges(int workers, int64_t items, int64_t grain);
  SharedRanges(const SharedRanges&) = delete;
  SharedRanges& operator=(const SharedRanges&) = delete;

  // Items first .. last - 1, which nobody else gets; false when none are left.
  bool take(int worker, int64_t* first, int64_t* last);

 private:
  // begin << 32 | end, in units: all that is known of a range, so whoever swaps the value has the items.
  struct alignas(64) Range {
    std::atomic<uint64_t> ends;
  };
  bool take_from(Range& range, bool front, uint64_t* taken);

  int workers_;
  int64_t items_, unit_;  // items of a unit: 1, unless there are more than 2^31
  uint64_t grain_;
  Range ranges_[kMaxThreads];  // those of the workers there are
};

// How many threads share so much work: what one does of it must be worth handing it over, which takes a microsecond.
// Not all that is lost on small layers is a loss: what follows them finds its input in the caches of the threads that
// read it.
inline int workers_for(double nanoseconds, int threads) {
  constexpr double kWorkerNanoseconds = 2500;
  return std::max(1, static_cast<int>(std::min<double>(threads, nanoseconds / kWorkerNanoseconds)));
}

// Items that are worth a run of their own.
inline int64_t grain_of(int64_t items, double nanoseconds) {
  constexpr double kRunNanoseconds = 8000;
  const double share = nanoseconds > kRunNanoseconds ? kRunNanoseconds / nanoseconds : 1.0;
  return std::max<int64_t>(1, static_cast<int64_t>(static_cast<double>(items) * share));
}

// body(worker, take), once for each of so many workers: take(&first, &last) gives it run after run, until false. All
// items together take `nanoseconds`. A body must not throw.
template <class F>
void parallel_workers(int workers, int64_t items, double nanoseconds, const F& body) {
  SharedRanges ranges(workers, items, workers == 1 ? items : grain_of(items, nanoseconds));
  const auto work = [&](int worker) {
    body(worker, [&](int64_t* first, int64_t* last) { return ranges.take(worker, first, last); });
  };
  parallel_for(workers, work, nanoseconds);
}

// body(worker, first, last) for every run.
template <class F>
void parallel_ranges(int workers, int64_t items, double nanoseconds, const F& body) {
  if (workers == 1) return body(0, int64_t{0}, items);
  parallel_workers(workers, items, nanoseconds, [&](int worker, const auto& take) {
    for (int64_t first, last; take(&first, &last);) body(worker, first, last);
  });
}

}  // namespace bitorch
