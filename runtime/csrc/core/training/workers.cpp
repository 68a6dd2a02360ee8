#include "core/training/workers.h"

#include "core/base/threads.h"

namespace bitorch {
namespace {

std::atomic<Executor> other_executor{nullptr};

struct Job {
  void (*body)(void*, int, int64_t);
  void* context;
  int64_t items;
  int slots;
  std::atomic<int64_t> next_item{0};
  std::atomic<int> next_slot{0};
};

// Slots are handed out, as the other library numbers its threads as it likes, and may start fewer or more.
void work(void* context) {
  Job& job = *static_cast<Job*>(context);
  const int slot = job.next_slot.fetch_add(1, std::memory_order_relaxed);
  if (slot >= job.slots) return;
  const IeeeFloats floats;
  for (;;) {
    const int64_t item = job.next_item.fetch_add(1, std::memory_order_relaxed);
    if (item >= job.items) return;
    job.body(job.context, slot, item);
  }
}

}  // namespace

void set_executor(Executor executor) { other_executor.store(executor, std::memory_order_relaxed); }

void run_items(int64_t items, int threads, void (*body)(void* context, int slot, int64_t item), void* context) {
  Job job{body, context, items, threads};
  const Executor executor = other_executor.load(std::memory_order_relaxed);
  if (threads <= 1 || items <= 1) {
    work(&job);
  } else if (executor != nullptr) {
    executor(work, &job, static_cast<unsigned>(threads), 0);
  } else {
    parallel_run(threads, [](void* c, int) { work(c); }, &job);
  }
}

}  // namespace bitorch
