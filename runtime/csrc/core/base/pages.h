// Memory straight from the system.
#pragma once
#include <cstddef>
#include <cstdint>
#include <new>

#if defined(_WIN32)
#if !defined(NOMINMAX)
#define NOMINMAX  // or its macros would hide std::min and std::max
#endif
#include <windows.h>
#else
#include <sys/mman.h>
#endif

namespace bitorch {

// Memory that goes back to the system at once: malloc would keep some of a block as large as a file for later.
class Pages {
 public:
  explicit Pages(size_t size) : size_(size + 1), memory_(take(size_)) {
    if (memory_ == nullptr) throw std::bad_alloc();
  }
  ~Pages() { give_back(memory_, size_); }
  Pages(const Pages&) = delete;
  Pages& operator=(const Pages&) = delete;
  uint8_t* data() const { return static_cast<uint8_t*>(memory_); }

 private:
#if defined(_WIN32)
  static void* take(size_t size) { return VirtualAlloc(nullptr, size, MEM_RESERVE | MEM_COMMIT, PAGE_READWRITE); }
  static void give_back(void* memory, size_t) { VirtualFree(memory, 0, MEM_RELEASE); }
#else
  static void* take(size_t size) {
    void* memory = mmap(nullptr, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    return memory == MAP_FAILED ? nullptr : memory;
  }
  static void give_back(void* memory, size_t size) { munmap(memory, size); }
#endif

  size_t size_;
  void* memory_;
};

}  // namespace bitorch
