#include "core/program/model.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <new>
#include <utility>

#include "core/base/checked.h"
#include "core/format/packed_file.h"

namespace bitorch {

namespace {

class OpenFile {
 public:
  explicit OpenFile(const std::string& path)
      : descriptor_(open(path.c_str(),
                         O_RDONLY | O_CLOEXEC | O_NONBLOCK)) {  // a pipe without a writer is refused, not waited for
    if (descriptor_ < 0) fail("cannot be opened");
  }
  ~OpenFile() { close(descriptor_); }
  OpenFile(const OpenFile&) = delete;
  OpenFile& operator=(const OpenFile&) = delete;

  size_t size() const {
    struct stat status;
    if (fstat(descriptor_, &status) != 0) fail("cannot be read");
    if (!S_ISREG(status.st_mode)) throw Error("is no ordinary file");
    return static_cast<size_t>(status.st_size);
  }

  // How many of `size` bytes there were.
  size_t read_all(uint8_t* out, size_t size) const {
    size_t done = 0;
    while (done < size) {
      const ssize_t count = read(descriptor_, out + done, size - done);
      if (count < 0 && errno == EINTR) continue;
      if (count < 0) fail("cannot be read");
      if (count == 0) break;  // it was cut off meanwhile
      done += static_cast<size_t>(count);
    }
    return done;
  }

 private:
  [[noreturn]] static void fail(const char* what) { throw Error(std::string(what) + ": " + std::strerror(errno)); }

  int descriptor_;
};

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

}  // namespace

Model Model::read(const void* data, size_t size, const KernelTable& kernels, int64_t memory_limit, Tuning* tuning) {
  PackedFile file = PackedFile::read(data, size);
  Program program(file.program, file.arrays, kernels, memory_limit, tuning);
  program.reserve(1);
  return {std::move(program),   file.format_version,         std::move(file.program),
          std::move(file.info), std::move(file.class_names), std::move(file.sha256)};
}

Model Model::load(const std::string& path, const KernelTable& kernels, int64_t memory_limit, Tuning* tuning) {
  try {
    const OpenFile file(path);
    const size_t size = file.size();
    const Pages bytes(size);
    return read(bytes.data(), file.read_all(bytes.data(), size), kernels, memory_limit, tuning);
  } catch (const Error& error) {
    throw Error(path + ": " + error.what());
  }
}

}  // namespace bitorch
