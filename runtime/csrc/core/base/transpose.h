// Channels first <-> channels last.
#pragma once
#include <cstdint>

namespace bitorch {

// Four bytes, float32 or int32.
typedef uint32_t __attribute__((may_alias)) Word;

// out[x * out_stride + y] = in[y * in_stride + x] for y < rows, x < columns; strides in elements of 1 or 4 bytes.
void transpose_bytes(const uint8_t* in, int64_t in_stride, uint8_t* out, int64_t out_stride, int64_t rows,
                     int64_t columns);
void transpose_words(const Word* in, int64_t in_stride, Word* out, int64_t out_stride, int64_t rows, int64_t columns);

// By the size of an element, `size` being 1 or 4; strides in elements.
void transpose(const void* in, int64_t in_stride, void* out, int64_t out_stride, int64_t rows, int64_t columns,
               int64_t size);

}  // namespace bitorch
