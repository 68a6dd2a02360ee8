#include "core/program/model.h"

#include <cerrno>
#include <cstring>
#include <utility>

#if defined(_WIN32)
#include <filesystem>
#include <fstream>
#else
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>
#endif

#include "core/base/checked.h"
#include "core/base/pages.h"
#include "core/format/packed_file.h"

namespace bitorch {

namespace {

[[noreturn]] void fail(const char* what) { throw Error(std::string(what) + ": " + std::strerror(errno)); }

#if defined(_WIN32)
class OpenFile {
 public:
  // The path in UTF-8, as Python gives it.
  explicit OpenFile(const std::string& path) : path_(std::filesystem::u8path(path)), stream_(path_, std::ios::binary) {
    if (!stream_) fail("cannot be opened");
  }

  size_t size() const {
    if (!std::filesystem::is_regular_file(path_)) throw Error("is no ordinary file");
    return static_cast<size_t>(std::filesystem::file_size(path_));
  }

  // How many of `size` bytes there were.
  size_t read_all(uint8_t* out, size_t size) {
    stream_.read(reinterpret_cast<char*>(out), static_cast<std::streamsize>(size));
    return static_cast<size_t>(stream_.gcount());
  }

 private:
  std::filesystem::path path_;
  std::ifstream stream_;
};
#else
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
  size_t read_all(uint8_t* out, size_t size) {
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
  int descriptor_;
};
#endif

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
    OpenFile file(path);
    const size_t size = file.size();
    const Pages bytes(size);
    return read(bytes.data(), file.read_all(bytes.data(), size), kernels, memory_limit, tuning);
  } catch (const Error& error) {
    throw Error(path + ": " + error.what());
  }
}

}  // namespace bitorch
