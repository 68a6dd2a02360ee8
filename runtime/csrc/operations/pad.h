// pad: pixels around an image, constant or taken from it, and constant channels.
#pragma once
#include "operations/definition.h"

namespace bitorch {

inline constexpr const char* kPadKeys[] = {"input", "output", "padding", "mode", "value", "channels"};

enum class PadMode { kConstant, kReflect, kReplicate, kCircular };

struct PadSpec {
  const Tensor* input = nullptr;   // float32 or codes
  const Tensor* output = nullptr;  // of the same values
  PadMode mode = PadMode::kConstant;
  int64_t top = 0, left = 0, bottom = 0, right = 0;  // in pixels
  int64_t channels_before = 0, channels_after = 0;   // kConstant only
  float number = 0.0f;                               // the constant of floats
  uint8_t code = 0;                                  // the constant of codes
};

PadSpec read_pad(const OperationReader& reader);
std::unique_ptr<Operation> make_pad(const PadSpec& spec, Preparation& preparation);

}  // namespace bitorch
