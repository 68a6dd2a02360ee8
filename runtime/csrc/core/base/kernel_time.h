// A kernel and what it takes.
#pragma once

namespace bitorch {

struct KernelTime {
  const char* kernel;
  double nanoseconds;  // of one image on one thread
  bool measured;       // on this machine; else reckoned
};

}  // namespace bitorch
