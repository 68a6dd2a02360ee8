#include "core/program/model.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <utility>

#include "core/base/checked.h"
#include "core/base/pages.h"
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

}  // namespace

Model Model::read(const void* data, size_t size, const KernelTable& kernels, int64_t memory_limit, Tuning* tuning) {
  PackedFile file = PackedFile::read(data, size);
  Plans plans(file.program, file.arrays, kernels, memory_limit, tuning);
  plans.smallest()->reserve(1);
  return {std::move(plans),     file.format_version,         std::move(file.program),
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
