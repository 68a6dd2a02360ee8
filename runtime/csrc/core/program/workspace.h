// The memory of one run: an arena of tensors and the scratch of operations. Runs take one from a free list and give it
// back.
#pragma once
#include <cstdint>
#include <memory>
#include <mutex>
#include <vector>

namespace bitorch {

// Grows, never shrinks; 64-byte aligned; not zeroed.
class Workspace {
 public:
  // At least `bytes` bytes; what was there is lost where it has to grow. std::bad_alloc leaves it empty.
  uint8_t* reserve(int64_t bytes);

  // What `bytes` was worked out for, so that the same run again need not ask every operation.
  int64_t batch = -1;
  int threads = 0;
  int64_t bytes = 0;

 private:
  struct Free {
    void operator()(uint8_t* memory) const;
  };
  std::unique_ptr<uint8_t, Free> memory_;
  int64_t capacity_ = 0;
};

class WorkspaceList {
 public:
  WorkspaceList() { free_.reserve(kKept); }

  // Holds a workspace until it is destroyed.
  class Lease {
   public:
    explicit Lease(WorkspaceList& list);
    ~Lease();
    Lease(const Lease&) = delete;
    Lease& operator=(const Lease&) = delete;
    Workspace& operator*() const { return *workspace_; }
    Workspace* operator->() const { return workspace_.get(); }

   private:
    WorkspaceList& list_;
    std::unique_ptr<Workspace> workspace_;
  };

 private:
  static constexpr size_t kKept = 64;  // one for each thread that calls a program at once, in any sensible program

  std::mutex mutex_;
  std::vector<std::unique_ptr<Workspace>> free_;
};

}  // namespace bitorch
