// Who computes a training step: the threads of the pool in core/base/threads.h, or of another library that is running
// anyway. Two pools that spin on the same CPUs wait for each other.
#pragma once
#include <atomic>
#include <cstdint>

#include "core/base/float_mode.h"

namespace bitorch {

// Calls body(context) on up to `threads` threads at once, the caller's among them, and returns when all are done:
// GOMP_parallel of libgomp, whose last argument is 0.
using Executor = void (*)(void (*body)(void*), void* context, unsigned threads, unsigned flags);

// For all calls from now on; null for the own pool.
void set_executor(Executor executor);

// The next item is for whoever is free. A body must not throw.
void run_items(int64_t items, int threads, void (*body)(void* context, int slot, int64_t item), void* context);

// body(slot, item) for item = 0 .. items-1, in any order, at once on slots 0 .. threads-1.
template <class F>
void for_items(int64_t items, int threads, const F& body) {
  run_items(
      items, threads, [](void* context, int slot, int64_t item) { (*static_cast<const F*>(context))(slot, item); },
      const_cast<void*>(static_cast<const void*>(&body)));
}

}  // namespace bitorch
