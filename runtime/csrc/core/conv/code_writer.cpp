#include "core/conv/code_writer.h"

#include <algorithm>
#include <cstring>

#include "core/base/rows.h"

namespace bitorch {

CodeWriter::CodeWriter(const CodeSpec& spec, int64_t channels, Preparation& preparation) : bits_(spec.bits) {
  if (spec.float_thresholds == nullptr) return;
  const auto key = {Preparation::address(spec.float_thresholds), Preparation::address(spec.descending),
                    int64_t{spec.bits}, channels};
  rule_ = preparation.share<CodeRule>(key, [&] {
    return CodeRule(preparation.budget(), spec.float_thresholds, spec.descending, spec.bits, plain_blocks(channels));
  });
}

// Channels in bytes are quantized where they stay; planes go through bytes, kScratch values at a time.
void CodeWriter::write_unit(const RowFunctions& rows, const Layout& layout, const float* values, int64_t pixels,
                            uint8_t* out, uint8_t* scratch) const {
  const int64_t channels = layout.channels;
  if (layout.kind == Kind::kBytes) {
    rows.quantize_unit(out, values, pixels * channels, bits_);
    return;
  }
  const int64_t step = channels >= kScratch ? 1 : std::min(pixels, kScratch / channels);
  const int64_t run = std::min(channels, kScratch);  // kScratch is a multiple of 8: a run of channels starts at a byte
  for (int64_t x = 0; x < pixels; x += step) {
    const int64_t count = std::min(step, pixels - x);
    for (int64_t c = 0; c < channels; c += run) {
      const int64_t width = std::min(run, channels - c);
      rows.quantize_unit(scratch, values + x * channels + c, count * width, bits_);
      uint8_t* pixel = out + x * layout.pixel_bytes + c / 8;
      if (width == channels) {
        write_codes(rows, layout, pixel, count, scratch);
      } else {
        rows.bytes_to_planes(pixel, layout.plane_bytes, scratch, width, bits_);
      }
    }
  }
}

void CodeWriter::write(const KernelTable& kernels, const Layout& layout, const float* values, int64_t step,
                       int64_t pixels, uint8_t* out, uint8_t* scratch) const {
  if (rule_ != nullptr && rule_->compares_few() && kernels.rows.compare_row != nullptr) {
    return compare_row(kernels, layout, values, step, pixels, out);
  }
  if (rule_ != nullptr) return write_thresholds(kernels, layout, values, step, pixels, out);
  if (step == layout.channels) return write_unit(kernels.rows, layout, values, pixels, out, scratch);
  for (int64_t x = 0; x < pixels; ++x) {
    write_unit(kernels.rows, layout, values + x * step, 1, out + x * layout.pixel_bytes, scratch);
  }
}

void CodeWriter::compare_row(const KernelTable& kernels, const Layout& layout, const float* values, int64_t step,
                             int64_t pixels, uint8_t* out) const {
  CodeStage first = {};
  rule_->fill(0, &first);
  CompareRow row;
  row.x = values;
  row.step = step;
  row.thresholds = static_cast<const float*>(first.thresholds);
  row.negate = first.negate;
  row.out = out;
  row.out_pixel_bytes = layout.pixel_bytes;
  row.out_plane_bytes = layout.plane_bytes;
  row.pixels = pixels;
  row.channels = layout.channels;
  row.bits = bits_;
  row.planes = layout.kind == Kind::kPlanes;
  kernels.rows.compare_row(&row);
}

void CodeWriter::write_thresholds(const KernelTable& kernels, const Layout& layout, const float* values, int64_t step,
                                  int64_t pixels, uint8_t* out) const {
  constexpr int kPixels = kMaxTilePixels;
  alignas(64) float tile[kPixels][kBlock] = {};
  uint8_t* pointers[kPixels];
  const bool planes = layout.kind == Kind::kPlanes;
  CodeStage stage = {};
  stage.out = pointers;
  stage.out_plane_bytes = layout.plane_bytes;
  stage.planes = planes;
  for (int64_t first = 0; first < layout.channels; first += kBlock) {
    const int64_t channels = std::min<int64_t>(kBlock, layout.channels - first);
    rule_->fill(first / kBlock, &stage);
    stage.channels = static_cast<int32_t>(channels);
    const float* in = values + first;
    uint8_t* pixel = out + (planes ? first / 8 : first);
    for (int64_t x = 0; x < pixels; x += kPixels) {
      stage.pixels = static_cast<int32_t>(std::min<int64_t>(kPixels, pixels - x));
      for (int p = 0; p < stage.pixels; ++p, in += step, pixel += layout.pixel_bytes) {
        if (channels == kBlock) {
          std::memcpy(tile[p], in, sizeof(tile[p]));  // in registers
        } else {
          std::memcpy(tile[p], in, static_cast<size_t>(channels) * sizeof(float));
        }
        pointers[p] = pixel;
      }
      kernels.float_to_codes(&stage, tile);
    }
  }
}

}  // namespace bitorch
