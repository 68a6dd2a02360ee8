// Work on the rows of a tensor: shared among threads, and codes read and written as bytes whatever their layout.
#pragma once
#include <algorithm>
#include <cstdint>

#include "core/base/layout.h"
#include "core/base/shared_ranges.h"
#include "core/kernels.h"

namespace bitorch {

// How many threads share `nanoseconds` of work on rows.
inline int parts_for(int64_t rows, double nanoseconds, int threads) {
  return static_cast<int>(std::min<int64_t>(std::max<int64_t>(1, rows), workers_for(nanoseconds, threads)));
}

// body(part, first, last): rows first .. last-1 of `rows`, which take `nanoseconds` together; several times for each
// part, one after the other. It must not throw.
template <class F>
void for_rows(int64_t rows, double nanoseconds, int threads, const F& body) {
  parallel_ranges(parts_for(rows, nanoseconds, threads), rows, nanoseconds, body);
}

// The codes of `pixels` pixels of one row, [pixels][channels]: in place where they are bytes, else unpacked to
// `scratch`.
const uint8_t* read_codes(const RowFunctions& rows, const Layout& layout, const uint8_t* pixel, int64_t pixels,
                          uint8_t* scratch);
// The reverse: writes bytes [pixels][channels] to `pixel`. Nothing to do where they are there already.
void write_codes(const RowFunctions& rows, const Layout& layout, uint8_t* pixel, int64_t pixels, const uint8_t* codes);

}  // namespace bitorch
