// Memory straight from the system.
#pragma once
#include <sys/mman.h>

#include <cstddef>
#include <cstdint>
#include <new>

namespace bitorch {

// Memory that goes back to the system at once: malloc would keep some of a block as large as a file for later.
class Pages {
 public:
  explicit Pages(size_t size)
      : size_(size + 1), memory_(mmap(nullptr, size_, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0)) {
    if (memory_ == MAP_FAILED) throw std::bad_alloc();
  }
  ~Pages() { munmap(memory_, size_); }
  Pages(const Pages&) = delete;
  Pages& operator=(const Pages&) = delete;
  uint8_t* data() const { return static_cast<uint8_t*>(memory_); }

 private:
  size_t size_;
  void* memory_;
};

}  // namespace bitorch
