// Rows of float32 become rows of codes: what quantize, add and affine have in common.
#pragma once
#include <cstdint>
#include <memory>

#include "core/base/layout.h"
#include "core/base/preparation.h"
#include "core/conv/code_spec.h"
#include "core/conv/thresholds.h"
#include "core/kernels.h"

namespace bitorch {

class CodeWriter {
 public:
  CodeWriter() = default;  // no codes
  // No int32 thresholds.
  CodeWriter(const CodeSpec& spec, int64_t channels, Preparation& preparation);

  explicit operator bool() const { return bits_ > 0; }
  int64_t scratch_bytes() const { return kScratch; }
  double nanoseconds_per_value() const { return rule_ == nullptr || rule_->compares_few() ? 0.2 : 0.5; }

  // values: [pixels][channels] of one row, a pixel `step` floats behind the other; out: the first of those pixels in a
  // tensor of this layout.
  void write(const KernelTable& kernels, const Layout& layout, const float* values, int64_t step, int64_t pixels,
             uint8_t* out, uint8_t* scratch) const;

 private:
  void write_unit(const RowFunctions& rows, const Layout& layout, const float* values, int64_t pixels, uint8_t* out,
                  uint8_t* scratch) const;
  void compare_row(const KernelTable& kernels, const Layout& layout, const float* values, int64_t step, int64_t pixels,
                   uint8_t* out) const;
  void write_thresholds(const KernelTable& kernels, const Layout& layout, const float* values, int64_t step,
                        int64_t pixels, uint8_t* out) const;

  static constexpr int64_t kScratch = 4096;
  int bits_ = 0;
  std::shared_ptr<const CodeRule> rule_;  // null without thresholds; of plain_blocks
};

}  // namespace bitorch
