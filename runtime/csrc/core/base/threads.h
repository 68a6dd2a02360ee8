// The pool: created at first use, the caller is worker 0, workers spin briefly between jobs and then sleep.
#pragma once
#include <cstdint>

namespace bitorch {

constexpr int kMaxThreads = 256;

// How many threads a program uses; 1 <= n <= 256, else Error. Default: the CPUs that this process may use
// (affinity and cgroup quota).
void set_num_threads(int n);
int get_num_threads();

// How long work takes on one thread, where nobody knows.
constexpr double kLong = 1e9;

// Runs body(context, part) for part = 0 .. parts-1 and returns when all are done; parts <= 256. Part 0 runs on the
// caller. When another thread is using the pool, or inside a body, the caller runs all parts itself. A body must not
// throw. nanoseconds: what the parts take one after the other; threads that sleep are not woken up for little.
using ParallelBody = void (*)(void* context, int part);
void parallel_run(int parts, ParallelBody body, void* context, double nanoseconds = kLong);

// Keeps the workers awake from one parallel_run to the next: one wake-up for a whole program. May be nested and used by
// several threads at once.
struct KeepAwake {
  KeepAwake();
  ~KeepAwake();
  KeepAwake(const KeepAwake&) = delete;
  KeepAwake& operator=(const KeepAwake&) = delete;
};

template <class F>
void parallel_for(int parts, const F& body, double nanoseconds = kLong) {
  if (parts == 1) return body(0);
  const ParallelBody run = [](void* c, int part) { (*static_cast<const F*>(c))(part); };
  parallel_run(parts, run, const_cast<void*>(static_cast<const void*>(&body)), nanoseconds);
}

}  // namespace bitorch
