// Checks the pool under load, forks and changes of its size; prints what a fork and join costs.
//
//   check_threads                       every check; exit code 1 and a line on stderr for the first that fails
//   check_threads --time                fork/join times of 2 threads, in microseconds
//   check_threads --cgroup FILE MOUNT   the limit that cgroup_cpus() finds
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <thread>
#include <vector>

#include "core/base/checked.h"
#include "core/base/cpu_count.h"
#include "core/base/shared_ranges.h"
#include "core/base/threads.h"

namespace {

using Clock = std::chrono::steady_clock;

void require(bool condition, const char* what) {
  if (condition) return;
  std::fprintf(stderr, "check_threads: %s\n", what);
  std::exit(1);
}

double seconds_since(Clock::time_point start) { return std::chrono::duration<double>(Clock::now() - start).count(); }

// Each part exactly once, part 0 on the caller, and what bodies wrote is visible afterwards.
void run_once(int parts) {
  std::vector<int> runs(static_cast<size_t>(parts), 0);
  std::thread::id first;
  bitorch::parallel_for(parts, [&](int part) {
    runs[static_cast<size_t>(part)] += 1;
    if (part == 0) first = std::this_thread::get_id();
  });
  require(std::all_of(runs.begin(), runs.end(), [](int n) { return n == 1; }), "a part did not run exactly once");
  require(first == std::this_thread::get_id(), "part 0 did not run on the caller");
}

void check_sizes() {
  for (int threads : {1, 2, 3, 8, 2, 5, 1, 4}) {
    bitorch::set_num_threads(threads);
    require(bitorch::get_num_threads() == threads, "get_num_threads() differs from what was set");
    for (int parts = 1; parts <= 256; parts = parts * 2 + 1) run_once(parts);
    run_once(256);
  }
  for (int bad : {0, -1, 257}) {
    bool refused = false;
    try {
      bitorch::set_num_threads(bad);
    } catch (const bitorch::Error&) {
      refused = true;
    }
    require(refused, "a number of threads out of range was accepted");
  }
}

void check_second_thread_works() {
  bitorch::set_num_threads(2);
  // Part 0 waits for part 1: it can only end when another thread takes part 1.
  std::atomic<bool> other{false};
  bitorch::parallel_for(2, [&](int part) {
    if (part == 1) other = true;
    while (!other) std::this_thread::yield();
  });
}

void check_nested() {
  bitorch::set_num_threads(3);
  std::atomic<int> inner{0};
  bitorch::parallel_for(6, [&](int) { bitorch::parallel_for(5, [&](int) { ++inner; }); });
  require(inner == 30, "a nested call lost parts");
}

// Each item exactly once, whoever does it, in runs that are no shorter than the grain unless little was left.
void check_ranges(int workers, int64_t items, int64_t grain) {
  std::vector<std::atomic<int>> runs(static_cast<size_t>(items));
  std::atomic<int> wrong{0};
  const double nanoseconds = 2000.0 * static_cast<double>(items) / static_cast<double>(grain);
  bitorch::parallel_ranges(workers, items, nanoseconds, [&](int worker, int64_t first, int64_t last) {
    if (worker < 0 || worker >= workers || first < 0 || last > items || (first >= last && items > 0)) ++wrong;
    for (int64_t i = first; i < last; ++i) ++runs[static_cast<size_t>(i)];
  });
  require(wrong == 0, "a run of items is out of bounds");
  require(std::all_of(runs.begin(), runs.end(), [](const std::atomic<int>& n) { return n == 1; }),
          "an item was not done exactly once");
}

void check_shared_ranges() {
  bitorch::set_num_threads(3);
  for (int round = 0; round < 50; ++round) {
    for (int workers : {1, 2, 3, 7}) {
      for (int64_t items : {0, 1, 2, 5, 64, 1001}) {
        for (int64_t grain : {1, 3, 40, 5000}) check_ranges(workers, items, grain);
      }
    }
  }
  // More items than units can be counted in 32 bits.
  const int64_t many = (int64_t{1} << 33) + 5;
  bitorch::SharedRanges ranges(2, many, many / 8);
  int64_t first, last, sum = 0;
  while (ranges.take(1, &first, &last)) sum += last - first;
  require(sum == many, "of very many items some are lost");
}

// A worker that is late loses what it has not begun: the caller's first run ends only when all other items are done.
void check_late_worker() {
  bitorch::set_num_threads(2);
  constexpr int64_t kItems = 1000;
  std::atomic<int64_t> done{0};
  std::atomic<bool> first_run{true};
  bitorch::parallel_ranges(2, kItems, bitorch::kLong, [&](int worker, int64_t first, int64_t last) {
    const bool waits = worker == 0 && first_run.exchange(false);
    while (waits && done < kItems - (last - first)) std::this_thread::yield();
    done += last - first;
  });
  require(done == kItems, "items of a late worker were not done once");
}

// Threads that sleep are left alone where there is little to do, and the caller does it all.
void check_little_work() {
  bitorch::set_num_threads(2);
  check_second_thread_works();
  std::this_thread::sleep_for(std::chrono::milliseconds(50));  // the worker falls asleep
  const std::thread::id caller = std::this_thread::get_id();
  std::atomic<int> others{0};
  const auto body = [&](int) {
    std::this_thread::sleep_for(std::chrono::milliseconds(5));  // time enough to come
    if (std::this_thread::get_id() != caller) ++others;
  };
  bitorch::parallel_for(2, body, 1000.0);
  require(others == 0, "a sleeping thread was woken up for little");
  bitorch::parallel_for(2, body, 1e6);
  require(others == 1, "a sleeping thread was not woken up for much");
}

void check_callers(int rounds) {
  bitorch::set_num_threads(3);
  std::vector<std::thread> callers;
  for (int i = 0; i < 4; ++i) {
    callers.emplace_back([rounds, i] {
      for (int round = 0; round < rounds; ++round) {
        const bitorch::KeepAwake awake;
        run_once(2 + (round + i) % 7);
        if (round % 512 == 0) bitorch::set_num_threads(2 + (round / 512 + i) % 3);
        if (round % 777 == 0) std::this_thread::sleep_for(std::chrono::milliseconds(2));  // lets workers fall asleep
      }
    });
  }
  for (std::thread& caller : callers) caller.join();
}

// A child has no workers, and its parent's may have held locks: it must run all the same, and end.
[[maybe_unused]] void check_fork(int children) {
  bitorch::set_num_threads(3);
  std::atomic<bool> stop{false};
  std::thread busy([&] {
    while (!stop) run_once(5);
  });
  for (int i = 0; i < children; ++i) {
    const pid_t child = fork();
    require(child >= 0, "fork failed");
    if (child == 0) {
      alarm(20);  // a child that hangs is killed
      for (int round = 0; round < 20; ++round) run_once(4);
      check_second_thread_works();
      _exit(0);
    }
    int status = 0;
    require(waitpid(child, &status, 0) == child && WIFEXITED(status) && WEXITSTATUS(status) == 0,
            "a forked child failed");
  }
  stop = true;
  busy.join();
}

double median_us(std::vector<double> seconds) {
  std::nth_element(seconds.begin(), seconds.begin() + static_cast<std::ptrdiff_t>(seconds.size() / 2), seconds.end());
  return seconds[seconds.size() / 2] * 1e6;
}

// Both parts must be at work at the same time, so this is a whole fork and join, never the caller doing all of it.
double meet_us(int pause_us, int rounds) {
  std::vector<double> times;
  for (int round = 0; round < rounds; ++round) {
    const auto rest = Clock::now();
    while (seconds_since(rest) * 1e6 < pause_us) continue;
    std::atomic<int> arrived{0};
    const auto start = Clock::now();
    bitorch::parallel_for(2, [&](int) {
      arrived.fetch_add(1);
      while (arrived.load(std::memory_order_relaxed) < 2) continue;
    });
    times.push_back(seconds_since(start));
  }
  return median_us(times);
}

void print_times() {
  bitorch::set_num_threads(2);
  std::vector<double> empty;
  {
    const bitorch::KeepAwake awake;
    for (int round = 0; round < 20000; ++round) {
      const auto start = Clock::now();
      bitorch::parallel_for(2, [](int) {});
      empty.push_back(seconds_since(start));
    }
    std::printf("empty parts                       %7.2f us\n", median_us(empty));
    std::printf("both threads meet, awake          %7.2f us\n", meet_us(2, 20000));
    std::printf("the same 300 us after the last    %7.2f us\n", meet_us(300, 1000));
  }
  std::printf("the same without KeepAwake        %7.2f us\n", meet_us(300, 1000));
}

}  // namespace

int main(int argc, char** argv) {
  if (argc == 4 && std::strcmp(argv[1], "--cgroup") == 0) {
    std::printf("%d\n", bitorch::cgroup_cpus(argv[2], argv[3]));
    return 0;
  }
  if (argc == 2 && std::strcmp(argv[1], "--time") == 0) {
    print_times();
    return 0;
  }
  if (argc != 1) {
    std::fprintf(stderr, "usage: check_threads [--time | --cgroup FILE MOUNT]\n");
    return 2;
  }
  check_sizes();
  check_second_thread_works();
  check_nested();
  check_shared_ranges();
  check_late_worker();
  check_little_work();
  check_callers(3000);
// ThreadSanitizer supports no threads in the child of a process with threads, and AddressSanitizer's allocator may be
// locked.
#if !defined(__SANITIZE_THREAD__) && !defined(__SANITIZE_ADDRESS__)
  check_fork(20);
#endif
  std::puts("threads: all checks passed");
  return 0;
}
