// pad: pixels around an image, constant or taken from it, and constant channels.
#pragma once
#include <cstdint>
#include <vector>

#include "operations/definition.h"

namespace bitorch {

inline constexpr const char* kPadKeys[] = {"input", "output", "padding", "mode", "value", "channels"};

enum class PadMode { kConstant, kReflect, kReplicate, kCircular };

// Along one axis.
struct PadAxis {
  int64_t size = 1, before = 0, after = 0;

  int64_t padded() const { return size + before + after; }
  // Which of 0 .. size-1 is repeated at output o; -1: none, a constant stands there.
  int64_t source(int64_t o, PadMode mode) const {
    const int64_t i = o - before;
    if (i >= 0 && i < size) return i;
    switch (mode) {
      case PadMode::kReflect:
        return i < 0 ? -i : 2 * (size - 1) - i;
      case PadMode::kReplicate:
        return i < 0 ? 0 : size - 1;
      case PadMode::kCircular:
        return i < 0 ? i + size : i - size;
      default:
        return -1;
    }
  }
};

struct PadSpec {
  const Tensor* input = nullptr;   // float32 or codes
  const Tensor* output = nullptr;  // of the same values
  PadMode mode = PadMode::kConstant;
  std::vector<PadAxis> axes;                        // of rows, outermost first; the last one is that of columns
  int64_t channels_before = 0, channels_after = 0;  // kConstant only
  float number = 0.0f;                              // the constant of floats
  uint8_t code = 0;                                 // the constant of codes
};

PadSpec read_pad(const OperationReader& reader);
std::unique_ptr<Operation> make_pad(const PadSpec& spec, Preparation& preparation);

}  // namespace bitorch
