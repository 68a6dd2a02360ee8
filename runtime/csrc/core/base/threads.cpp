// The pool: parts of one job are claimed by whoever comes first, so that the caller never waits for a worker to wake
// up.
//
// A job is published by storing its ticket (generation << 16 | parts). slot[part] holds the last generation in which
// that part was claimed. Raising slot[part] to the ticket's generation succeeds only while that part of that job is
// unclaimed; the job is then not finished, so body and context are its own, however late the worker comes.
//
//   caller    publish | part 0 | part 1? taken  part 2? free: does it | waits until remaining is 0
//   worker 1  ......spins, sees the ticket | part 1 |
//   worker 2  ............asleep, wakes up late ................ | part 2? taken, nothing to do
//
// Many layers take less time than a sleeping thread needs to wake up, some microseconds. So workers spin for kSpin
// after a job, and for kSpinAwake while a whole program runs, so that a layer which one thread does alone does not send
// them to sleep; and no job waits for a worker that has not come. Nor is anybody woken up for a job that is done before
// they could help: a network of many tiny layers stays on its caller. Where more threads are asked for than there are
// CPUs, nobody spins: the thread waited for could need that CPU. What different threads write lies on cache lines of
// its own.
#include "core/base/threads.h"

#include <atomic>
#include <chrono>
#include <condition_variable>
#include <mutex>
#include <new>
#include <string>
#include <system_error>
#include <thread>

#if !defined(_WIN32)
#include <pthread.h>
#include <signal.h>
#endif

#include "core/base/checked.h"
#include "core/base/cpu_count.h"
#include "core/base/float_mode.h"

namespace bitorch {
namespace {

constexpr int kPartBits = 16;
constexpr int kLine = 64;                   // bytes that two cores pass to and fro as one
constexpr double kWakeNanoseconds = 20000;  // a sleeping thread comes after some 10 us, of which the caller pays a part
constexpr std::chrono::microseconds kSpin{50};
constexpr std::chrono::microseconds kSpinAwake{1000};  // while a KeepAwake lives

// All constant-initialised, without destructors: usable before main, at exit and in a forked child.
std::atomic<int> thread_count{0};  // 0: not determined yet
std::atomic<int> cpu_count{0};
std::atomic<int> keep_awake{0};
std::atomic<bool> pool_busy{false};
std::atomic<bool> fork_handled{false};

int usable_cpus_once() {
  int cpus = cpu_count.load(std::memory_order_relaxed);
  if (cpus == 0) {
    cpus = usable_cpus();
    cpu_count.store(cpus, std::memory_order_relaxed);
  }
  return cpus;
}

inline void pause_cpu() {
#if defined(__x86_64__)
  __builtin_ia32_pause();
#elif defined(__aarch64__)
  asm volatile("yield");
#endif
}

// Whether ready() came true within the time; the limit may change meanwhile.
template <class Ready, class Limit>
bool spin(Ready ready, Limit limit) {
  const auto start = std::chrono::steady_clock::now();
  do {
    for (int i = 0; i < 32; ++i) {
      if (ready()) return true;
      pause_cpu();
    }
  } while (std::chrono::steady_clock::now() - start < limit());
  return ready();
}

#if defined(_WIN32)
// There, threads are sent no signals, and nothing forks.
struct BlockSignals {
  ~BlockSignals() {}
};
void handle_fork() {}
#else
// Signals of the process are for the threads of the application; a worker keeps those that its own faults raise.
class BlockSignals {
 public:
  BlockSignals() {
    sigset_t blocked;
    sigfillset(&blocked);
    for (int fault : {SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGABRT, SIGTRAP, SIGPROF}) sigdelset(&blocked, fault);
    pthread_sigmask(SIG_SETMASK, &blocked, &before_);
  }
  ~BlockSignals() { pthread_sigmask(SIG_SETMASK, &before_, nullptr); }

 private:
  sigset_t before_;
};

void after_fork_in_child();
void handle_fork() { pthread_atfork(nullptr, nullptr, after_fork_in_child); }
#endif

class Pool {
 public:
  // Only the owner of pool_busy calls these two.
  void resize(int threads);
  void run(int parts, ParallelBody body, void* context, bool wakes);

 private:
  void start(int workers);
  void stop();
  void work(int index);
  bool wait_for_job(uint64_t seen);
  void publish(int parts, int wake);
  void run_parts(uint64_t ticket, int first);
  void wait_until_done();
  bool claim(int part, uint64_t generation);

  alignas(kLine) std::atomic<uint64_t> ticket_{0};
  ParallelBody body_ = nullptr;
  void* context_ = nullptr;
  alignas(kLine) std::atomic<int> remaining_{0};
  alignas(kLine) std::atomic<uint64_t> slot_[kMaxThreads] = {};

  alignas(kLine) std::atomic<int> sleepers_{0};
  std::atomic<bool> caller_sleeps_{false};
  std::atomic<bool> stopping_{false};
  std::atomic<bool> may_spin_{false};
  std::mutex mutex_;
  std::condition_variable job_, done_;

  int wanted_ = 1;   // threads asked for
  int workers_ = 0;  // threads there are, without the caller
  std::thread worker_[kMaxThreads - 1];
};

void Pool::resize(int threads) {
  if (threads == wanted_) return;
  if (threads < wanted_) stop();
  start(threads - 1);
  wanted_ = threads;
  may_spin_.store(threads <= usable_cpus_once(), std::memory_order_relaxed);
}

// Where the system refuses a thread, the pool does with those it has: the caller claims what nobody else does.
void Pool::start(int workers) {
  const BlockSignals block;
  try {
    for (; workers_ < workers; ++workers_) {
      const int index = workers_ + 1;
      worker_[workers_] = std::thread([this, index] { work(index); });
    }
  } catch (const std::system_error&) {
    return;
  } catch (const std::bad_alloc&) {
    return;
  }
}

void Pool::stop() {
  stopping_.store(true, std::memory_order_relaxed);
  publish(0, workers_);
  for (; workers_ > 0; --workers_) worker_[workers_ - 1].join();
  stopping_.store(false, std::memory_order_relaxed);
}

void Pool::work(int index) {
  const IeeeFloats floats;  // a new thread inherits the mode of the one that made it
  uint64_t seen = 0;
  for (;;) {
    const auto has_job = [&] { return ticket_.load(std::memory_order_acquire) != seen; };
    const auto limit = [] { return keep_awake.load(std::memory_order_relaxed) > 0 ? kSpinAwake : kSpin; };
    if (!may_spin_.load(std::memory_order_relaxed) || !spin(has_job, limit)) {
      std::unique_lock<std::mutex> lock(mutex_);
      sleepers_.fetch_add(1, std::memory_order_seq_cst);
      job_.wait(lock, [&] { return ticket_.load(std::memory_order_seq_cst) != seen; });
      sleepers_.fetch_sub(1, std::memory_order_relaxed);
    }
    seen = ticket_.load(std::memory_order_acquire);
    if (stopping_.load(std::memory_order_relaxed)) return;
    run_parts(seen, index);
  }
}

void Pool::publish(int parts, int wake) {
  const uint64_t generation = (ticket_.load(std::memory_order_relaxed) >> kPartBits) + 1;
  // seq_cst: either the sleeper sees the ticket or this thread sees the sleeper.
  ticket_.store(generation << kPartBits | static_cast<uint64_t>(parts), std::memory_order_seq_cst);
  const int sleepers = sleepers_.load(std::memory_order_seq_cst);
  if (sleepers == 0 || wake == 0) return;
  {
    const std::lock_guard<std::mutex> lock(mutex_);
  }
  for (int i = 0; i < wake && i < sleepers; ++i) job_.notify_one();
}

bool Pool::claim(int part, uint64_t generation) {
  uint64_t last = slot_[part].load(std::memory_order_relaxed);
  return last < generation && slot_[part].compare_exchange_strong(last, generation, std::memory_order_relaxed);
}

// Parts 1 .. parts-1 that are left, beginning with the worker's own: from layer to layer it keeps its share of the
// data.
void Pool::run_parts(uint64_t ticket, int first) {
  const uint64_t generation = ticket >> kPartBits;
  const int others = static_cast<int>(ticket & ((1 << kPartBits) - 1)) - 1;
  for (int i = 0; i < others; ++i) {
    const int part = 1 + (first - 1 + i) % others;
    if (!claim(part, generation)) continue;
    body_(context_, part);
    if (remaining_.fetch_sub(1, std::memory_order_seq_cst) == 1 && caller_sleeps_.load(std::memory_order_seq_cst)) {
      {
        const std::lock_guard<std::mutex> lock(mutex_);
      }
      done_.notify_one();
    }
  }
}

void Pool::wait_until_done() {
  const auto is_done = [this] { return remaining_.load(std::memory_order_seq_cst) == 0; };
  if (is_done()) return;
  if (may_spin_.load(std::memory_order_relaxed) && spin(is_done, [] { return kSpin; })) return;
  std::unique_lock<std::mutex> lock(mutex_);
  caller_sleeps_.store(true, std::memory_order_seq_cst);
  done_.wait(lock, is_done);
  caller_sleeps_.store(false, std::memory_order_relaxed);
}

void Pool::run(int parts, ParallelBody body, void* context, bool wakes) {
  body_ = body;
  context_ = context;
  remaining_.store(parts - 1, std::memory_order_relaxed);
  publish(parts, wakes ? parts - 1 : 0);
  body(context, 0);
  run_parts(ticket_.load(std::memory_order_relaxed), 1);
  wait_until_done();
}

// Never deleted: at exit workers may still be asleep in it, and a child cannot end threads that it does not have.
std::atomic<Pool*> pool{nullptr};

#if !defined(_WIN32)
// A forked child has none of the workers, and their mutex may be locked: it starts anew.
void after_fork_in_child() {
  pool.store(nullptr, std::memory_order_relaxed);
  keep_awake.store(0, std::memory_order_relaxed);
  pool_busy.store(false, std::memory_order_relaxed);
}
#endif

// Called by the owner of pool_busy; null when memory is short.
Pool* get_pool() {
  Pool* found = pool.load(std::memory_order_relaxed);
  if (found == nullptr) {
    found = new (std::nothrow) Pool;
    pool.store(found, std::memory_order_relaxed);
  }
  return found;
}

void run_alone(int parts, ParallelBody body, void* context) {
  for (int part = 0; part < parts; ++part) body(context, part);
}

}  // namespace

void set_num_threads(int n) {
  if (n < 1 || n > kMaxThreads) {
    throw Error("set_num_threads: " + std::to_string(n) + " threads; give a number from 1 to " +
                std::to_string(kMaxThreads));
  }
  thread_count.store(n, std::memory_order_relaxed);
}

int get_num_threads() {
  const int threads = thread_count.load(std::memory_order_relaxed);
  if (threads > 0) return threads;
  const int cpus = usable_cpus_once();
  return cpus < kMaxThreads ? cpus : kMaxThreads;
}

void parallel_run(int parts, ParallelBody body, void* context, double nanoseconds) {
  if (!fork_handled.load(std::memory_order_relaxed) && !fork_handled.exchange(true)) handle_fork();
  const int threads = get_num_threads();
  usable_cpus_once();  // the first call reads files and may run out of memory, which must not happen while the pool is
                       // taken
  if (parts <= 1 || threads == 1 || pool_busy.exchange(true, std::memory_order_acquire)) {
    return run_alone(parts, body, context);
  }
  Pool* const workers = get_pool();
  if (workers == nullptr) {
    run_alone(parts, body, context);
  } else {
    workers->resize(threads);
    workers->run(parts, body, context, nanoseconds >= kWakeNanoseconds);
  }
  pool_busy.store(false, std::memory_order_release);
}

KeepAwake::KeepAwake() { keep_awake.fetch_add(1, std::memory_order_relaxed); }
KeepAwake::~KeepAwake() { keep_awake.fetch_sub(1, std::memory_order_relaxed); }

}  // namespace bitorch
