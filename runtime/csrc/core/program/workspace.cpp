#include "core/program/workspace.h"

#include <new>

#include "core/base/checked.h"

namespace bitorch {

void Workspace::Free::operator()(uint8_t* memory) const { ::operator delete(memory, std::align_val_t{64}); }

uint8_t* Workspace::reserve(int64_t bytes) {
  if (bytes <= capacity_ && memory_ != nullptr) return memory_.get();
  memory_.reset();
  capacity_ = 0;
  const int64_t rounded = round_up(checked_add(bytes, 64, "a workspace") - 64, 64);
  memory_.reset(static_cast<uint8_t*>(::operator new(static_cast<size_t>(rounded), std::align_val_t{64})));
  capacity_ = rounded;
  return memory_.get();
}

WorkspaceList::Lease::Lease(WorkspaceList& list) : list_(list) {
  // Never waits: where another thread holds the lock, or held it when this process was forked, a workspace of its own
  // does.
  const std::unique_lock<std::mutex> lock(list_.mutex_, std::try_to_lock);
  if (lock.owns_lock() && !list_.free_.empty()) {
    workspace_ = std::move(list_.free_.back());
    list_.free_.pop_back();
  } else {
    workspace_ = std::make_unique<Workspace>();
  }
}

WorkspaceList::Lease::~Lease() {
  const std::unique_lock<std::mutex> lock(list_.mutex_, std::try_to_lock);
  // What finds no room is freed.
  if (lock.owns_lock() && list_.free_.size() < kKept) list_.free_.push_back(std::move(workspace_));
}

}  // namespace bitorch
