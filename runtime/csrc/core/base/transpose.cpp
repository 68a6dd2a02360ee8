#include "core/base/transpose.h"

#include <algorithm>
#include <cstring>

namespace bitorch {

namespace {

// Few rows (the colours of a picture) interleaved: one pass over the columns.
template <int kRows, class T>
void interleave(const T* in, int64_t in_stride, T* out, int64_t out_stride, int64_t columns) {
  for (int64_t x = 0; x < columns; ++x) {
    for (int y = 0; y < kRows; ++y) out[x * out_stride + y] = in[y * in_stride + x];
  }
}

// Few columns: the reverse.
template <int kColumns, class T>
void deinterleave(const T* in, int64_t in_stride, T* out, int64_t out_stride, int64_t rows) {
  for (int64_t y = 0; y < rows; ++y) {
    for (int x = 0; x < kColumns; ++x) out[x * out_stride + y] = in[y * in_stride + x];
  }
}

template <class T>
void transpose_block(const T* in, int64_t in_stride, T* out, int64_t out_stride, int64_t rows, int64_t columns) {
  for (int64_t x = 0; x < columns; ++x) {
    for (int64_t y = 0; y < rows; ++y) out[x * out_stride + y] = in[y * in_stride + x];
  }
}

// GCC and Clang turn this into the shuffles of whatever vectors the CPU has.
typedef uint32_t Words4 __attribute__((vector_size(16)));

Words4 load4(const Word* p) {
  Words4 v;
  std::memcpy(&v, p, sizeof(v));
  return v;
}

void store4(Word* p, Words4 v) { std::memcpy(p, &v, sizeof(v)); }

#if defined(__clang__)
#define BITORCH_SHUFFLE4(a, b, i, j, k, l) __builtin_shufflevector(a, b, i, j, k, l)
#else
#define BITORCH_SHUFFLE4(a, b, i, j, k, l) __builtin_shuffle(a, b, Words4{i, j, k, l})
#endif

void transpose_4x4(const Word* in, int64_t in_stride, Word* out, int64_t out_stride) {
  const Words4 a = load4(in), b = load4(in + in_stride), c = load4(in + 2 * in_stride), d = load4(in + 3 * in_stride);
  const Words4 ab_low = BITORCH_SHUFFLE4(a, b, 0, 4, 1, 5), ab_high = BITORCH_SHUFFLE4(a, b, 2, 6, 3, 7);
  const Words4 cd_low = BITORCH_SHUFFLE4(c, d, 0, 4, 1, 5), cd_high = BITORCH_SHUFFLE4(c, d, 2, 6, 3, 7);
  store4(out, BITORCH_SHUFFLE4(ab_low, cd_low, 0, 1, 4, 5));
  store4(out + out_stride, BITORCH_SHUFFLE4(ab_low, cd_low, 2, 3, 6, 7));
  store4(out + 2 * out_stride, BITORCH_SHUFFLE4(ab_high, cd_high, 0, 1, 4, 5));
  store4(out + 3 * out_stride, BITORCH_SHUFFLE4(ab_high, cd_high, 2, 3, 6, 7));
}

#undef BITORCH_SHUFFLE4

template <class T>
bool transpose_narrow(const T* in, int64_t in_stride, T* out, int64_t out_stride, int64_t rows, int64_t columns) {
  if (rows == 3) {
    interleave<3>(in, in_stride, out, out_stride, columns);
  } else if (columns == 3) {
    deinterleave<3>(in, in_stride, out, out_stride, rows);
  } else if (rows <= 2 || columns <= 2) {
    transpose_block(in, in_stride, out, out_stride, rows, columns);
  } else {
    return false;
  }
  return true;
}

}  // namespace

void transpose_bytes(const uint8_t* in, int64_t in_stride, uint8_t* out, int64_t out_stride, int64_t rows,
                     int64_t columns) {
  if (transpose_narrow(in, in_stride, out, out_stride, rows, columns)) return;
  constexpr int64_t kTile = 16;
  for (int64_t y = 0; y < rows; y += kTile) {
    for (int64_t x = 0; x < columns; x += kTile) {
      transpose_block(in + y * in_stride + x, in_stride, out + x * out_stride + y, out_stride,
                      std::min(kTile, rows - y), std::min(kTile, columns - x));
    }
  }
}

void transpose_words(const Word* in, int64_t in_stride, Word* out, int64_t out_stride, int64_t rows, int64_t columns) {
  if (transpose_narrow(in, in_stride, out, out_stride, rows, columns)) return;
  const int64_t whole_rows = rows / 4 * 4, whole_columns = columns / 4 * 4;
  for (int64_t y = 0; y < whole_rows; y += 4) {
    for (int64_t x = 0; x < whole_columns; x += 4) {
      transpose_4x4(in + y * in_stride + x, in_stride, out + x * out_stride + y, out_stride);
    }
  }
  transpose_block(in + whole_columns, in_stride, out + whole_columns * out_stride, out_stride, whole_rows,
                  columns - whole_columns);
  transpose_block(in + whole_rows * in_stride, in_stride, out + whole_rows, out_stride, rows - whole_rows, columns);
}

void transpose(const void* in, int64_t in_stride, void* out, int64_t out_stride, int64_t rows, int64_t columns,
               int64_t size) {
  if (size == 1) {
    transpose_bytes(static_cast<const uint8_t*>(in), in_stride, static_cast<uint8_t*>(out), out_stride, rows, columns);
  } else {
    transpose_words(static_cast<const Word*>(in), in_stride, static_cast<Word*>(out), out_stride, rows, columns);
  }
}

}  // namespace bitorch
