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

typedef uint8_t Bytes16 __attribute__((vector_size(16)));
typedef uint16_t Shorts8 __attribute__((vector_size(16)));
typedef uint64_t Longs2 __attribute__((vector_size(16)));

#if defined(__clang__)
#define BITORCH_ZIP16(a, b, i)                                                                                        \
  __builtin_shufflevector(a, b, i, 16 + i, 1 + i, 17 + i, 2 + i, 18 + i, 3 + i, 19 + i, 4 + i, 20 + i, 5 + i, 21 + i, \
                          6 + i, 22 + i, 7 + i, 23 + i)
#define BITORCH_ZIP8(a, b, i) __builtin_shufflevector(a, b, i, 8 + i, 1 + i, 9 + i, 2 + i, 10 + i, 3 + i, 11 + i)
#else
#define BITORCH_ZIP16(a, b, i)                                                                                    \
  __builtin_shuffle(a, b,                                                                                         \
                    Bytes16{i, 16 + i, 1 + i, 17 + i, 2 + i, 18 + i, 3 + i, 19 + i, 4 + i, 20 + i, 5 + i, 21 + i, \
                            6 + i, 22 + i, 7 + i, 23 + i})
#define BITORCH_ZIP8(a, b, i) __builtin_shuffle(a, b, Shorts8{i, 8 + i, 1 + i, 9 + i, 2 + i, 10 + i, 3 + i, 11 + i})
#endif

// 4 pixels of 4 bytes become 12 bytes; two bytes behind them are written, too.
void store_without_fourths(Shorts8 pixels, uint8_t* out) {
  Longs2 x;
  std::memcpy(&x, &pixels, sizeof(x));
  x = (x & 0xffffff) | (x >> 8 & 0xffffff000000);  // the low bytes come first: kernels rely on it, too
  for (int i = 0; i < 2; ++i) {
    const uint64_t word = x[i];
    std::memcpy(out + 6 * i, &word, 8);
  }
}

// 16 columns of 3 rows of bytes; two bytes behind the 48 are written, too.
void interleave_16x3(const uint8_t* in, int64_t in_stride, uint8_t* out) {
  Bytes16 row[3];
  for (int y = 0; y < 3; ++y) std::memcpy(&row[y], in + y * in_stride, 16);
  const Bytes16 pairs[2] = {BITORCH_ZIP16(row[0], row[1], 0), BITORCH_ZIP16(row[0], row[1], 8)};
  const Bytes16 zero = {}, thirds[2] = {BITORCH_ZIP16(row[2], zero, 0), BITORCH_ZIP16(row[2], zero, 8)};
  for (int half = 0; half < 2; ++half, out += 24) {
    Shorts8 a, b;
    std::memcpy(&a, &pairs[half], sizeof(a));
    std::memcpy(&b, &thirds[half], sizeof(b));
    store_without_fourths(BITORCH_ZIP8(a, b, 0), out);
    store_without_fourths(BITORCH_ZIP8(a, b, 4), out + 12);
  }
}

#undef BITORCH_ZIP16
#undef BITORCH_ZIP8

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
  if (rows == 3 && out_stride == 3) {
    int64_t x = 0;
    for (; x + 16 < columns; x += 16) interleave_16x3(in + x, in_stride, out + 3 * x);
    return interleave<3>(in + x, in_stride, out + 3 * x, out_stride, columns - x);
  }
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
