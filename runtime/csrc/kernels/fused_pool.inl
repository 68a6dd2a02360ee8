// A max-pool of D before anything becomes of it, AVX-512. Included after fused_list.inl and
// fused_bits.inl.
//
// y rises or falls with D in each channel, so that the largest y of a window is that of its largest or least D: with
// 3x3 windows of stride 2 a quarter of the outputs is finished, and none of the others is written.
//
//   row of D    x: 0 1 2 3 4 5 6 ..      some columns at a time: the largest of each window's columns
//                  \___/ \___/           goes into the pooled rows that the row belongs to, two at most. What the
//                      \___/             last row of a window gives is finished at once
//
// Columns that the next windows need, too, are kept.

constexpr int kPooledRows = 2, kMostPoolColumns = 8;

static inline bool fused_pools(const FusedSpec* s) { return s->pool.kernel_h != 0; }
static inline bool pool_suits(const FusedSpec* s) {
  return s->pool.kernel_h <= kPooledRows * s->pool.stride_h && s->pool.kernel_w <= kMostPoolColumns;
}
// Pooled rows that are begun and not finished while a row goes into others.
static inline int pool_slots(const FusedSpec* s) { return s->pool.kernel_h - 1 > s->pool.stride_h ? kPooledRows : 1; }

// Scratch of a pool: sums of up to `step` columns and those that are kept, pooled rows, and what is finished.
static inline int64_t pool_sums_bytes(int step) { return int64_t{step + kMostPoolColumns} * kFusedChannels * 4; }
static inline int64_t pool_rows_bytes(const FusedSpec* s) {
  return int64_t{pool_slots(s)} * s->pool.width * kFusedChannels * 4;
}
static inline int64_t pool_scratch_bytes(const FusedSpec* s, int step) {
  return fused_pools(s) ? pool_sums_bytes(step) * (1 + kPooledRows) + pool_rows_bytes(s) : 0;
}

// D of 64 channels of a row's pixels, x counted in the image.
struct RowSums {
  const int32_t* sums;  // [64] of x = first
  int32_t first;
  const int32_t* windows;  // null, or as in HalvedSums, `step` apart
  int32_t step;
  const int32_t* border;  // of the row's class and the first of these channels; null: none
  const int32_t* column_class;
  int64_t padded;

  inline __attribute__((always_inline)) __m512i load(int x, int h) const {
    __m512i d = _mm512_load_si512(sums + (x - first) * kFusedChannels + 16 * h);
    if (windows != nullptr) d = _mm512_add_epi32(_mm512_add_epi32(d, d), _mm512_set1_epi32(windows[x * step]));
    if (border == nullptr) return d;
    return _mm512_add_epi32(
        d, _mm512_load_si512(border + (column_class == nullptr ? 0 : column_class[x] * padded) + 16 * h));
  }
};

static RowSums row_sums(const FusedSpec* s, int y, int first_channel, const int32_t* sums, const int32_t* windows,
                        int step) {
  const FusedEpilogue* const e = &s->epilogue;
  RowSums row = {sums, 0, fused_halved(s) ? windows : nullptr, step, nullptr, nullptr, fused_padded(s)};
  if (e->border == nullptr) return row;
  const int64_t row_class = e->row_classes > 1 ? e->row_class[y] : 0;
  row.border = e->border + row_class * e->column_classes * row.padded + first_channel;
  row.column_class = e->column_classes > 1 ? e->column_class : nullptr;
  return row;
}

// A pooled row that a row of sums goes into: as its first, or its last, or between.
struct PoolTarget {
  int32_t* rows;  // [pool width][64], what is there of it
  int32_t* to;    // the same, or from output `first_output` on what is finished
  int32_t first_output;
  int32_t y;
  bool first, last;
};

// The largest of some columns goes into the targets, at output i.
template <int V>
static inline __attribute__((always_inline)) void put_pooled(const __m512i* most, const __m512i* falls, int i,
                                                             const PoolTarget* targets, int count) {
  for (int t = 0; t < count; ++t) {
    const int32_t* const from = targets[t].rows + i * kFusedChannels;
    int32_t* const to = targets[t].to + (i - targets[t].first_output) * kFusedChannels;
    For<0, V>::each([&](auto h) __attribute__((always_inline)) {
      __m512i all = targets[t].first ? most[h] : _mm512_max_epi32(most[h], _mm512_load_si512(from + 16 * h));
      if (targets[t].last) all = _mm512_xor_si512(all, falls[h]);
      _mm512_store_si512(to + 16 * h, all);
    });
  }
}

// Outputs i .. end_output - 1. What falls is kept as ~D until the last row is in.
template <int V, bool halved, bool falling>
static __attribute__((noinline)) void pool_row(const FusedSpec* s, const RowSums* row, int first_channel, int i,
                                               int end_output, const PoolTarget* targets, int count) {
  const FusedPool p = s->pool;
  __m512i falls[V];
  For<0, V>::each([&](auto h) __attribute__((always_inline)) {
    falls[h] = falling ? _mm512_load_si512(p.falls + first_channel + 16 * h) : _mm512_setzero_si512();
  });
  RowSums d = *row;
  if (!halved) d.windows = nullptr;
  const auto load = [&](int x, __m512i* to) __attribute__((always_inline)) {
    For<0, V>::each([&](auto h) __attribute__((always_inline)) {
      to[h] = falling ? _mm512_xor_si512(d.load(x, h), falls[h]) : d.load(x, h);
    });
  };
  const auto raise = [&](__m512i* most, const __m512i* x) __attribute__((always_inline)) {
    For<0, V>::each([&](auto h) __attribute__((always_inline)) { most[h] = _mm512_max_epi32(most[h], x[h]); });
  };
  const bool shares = p.kernel_w == 3 && p.stride_w == 2;  // the last column with the next window
  for (int start = i * p.stride_w - p.pad_left; i < end_output; start += p.stride_w, ++i) {
    const int end = start + p.kernel_w < s->width ? start + p.kernel_w : s->width;
    __m512i most[V], more[V];
    int x = start > 0 ? start : 0;
    load(x, most);
    if (shares && start >= 0 && end == start + 3) {
      // From here on two columns a window.
      For<0, V>::each([&](auto h) __attribute__((always_inline)) { more[h] = most[h]; });
      for (; i < end_output && start + 3 <= s->width; start += 2, ++i) {
        __m512i middle[V];
        load(start + 1, middle);
        raise(middle, more);
        load(start + 2, more);
        raise(middle, more);
        put_pooled<V>(middle, falls, i, targets, count);
      }
      start -= 2, --i;
      continue;
    }
    for (++x; x < end; ++x) {
      load(x, more);
      raise(most, more);
    }
    put_pooled<V>(most, falls, i, targets, count);
  }
}

template <int V>
static void pool_row_of(const FusedSpec* s, const RowSums* row, int first_channel, int i, int end,
                        const PoolTarget* targets, int count) {
  const bool halved = row->windows != nullptr;
  if (s->pool.falls == nullptr) {
    return halved ? pool_row<V, true, false>(s, row, first_channel, i, end, targets, count)
                  : pool_row<V, false, false>(s, row, first_channel, i, end, targets, count);
  }
  halved ? pool_row<V, true, true>(s, row, first_channel, i, end, targets, count)
         : pool_row<V, false, true>(s, row, first_channel, i, end, targets, count);
}

// A pool at work: scratch of pool_scratch_bytes().
struct PoolRun {
  const FusedSpec* s;
  const FusedBand* b;
  const FusedLineRule* line;
  FusedList* list;
  int32_t step;  // columns at a time
  int32_t *sums, *rows, *done;

  PoolRun(const FusedSpec* spec, const FusedBand* band, const FusedLineRule* rule, FusedList* pixels, int columns,
          uint8_t* scratch)
      : s(spec), b(band), line(rule), list(pixels), step(columns) {
    sums = reinterpret_cast<int32_t*>(scratch);
    done = reinterpret_cast<int32_t*>(scratch + pool_sums_bytes(step));
    rows = reinterpret_cast<int32_t*>(scratch + pool_sums_bytes(step) * (1 + kPooledRows));
  }

  int targets_of(int y, PoolTarget* targets) const;
  void finish(const PoolTarget& target, int count, int first_channel) const;
  template <class Row>
  void run_row(int y, int first_channel, Row* row, PoolTarget* targets, int count) const;
};

// The pooled rows of the band that row y goes into.
int PoolRun::targets_of(int y, PoolTarget* targets) const {
  const FusedPool& p = s->pool;
  const int newest = (y + p.pad_top) / p.stride_h;  // the last one that begins here or above
  int count = 0;
  for (int i = newest - kPooledRows + 1; i <= newest; ++i) {
    const int from = i * p.stride_h - p.pad_top, to = from + p.kernel_h < s->height ? from + p.kernel_h : s->height;
    if (i < b->y0 || i >= b->y0 + b->rows || y >= to) continue;
    int32_t* const slot = rows + int64_t{i % pool_slots(s)} * p.width * kFusedChannels;
    targets[count++] = {slot, slot, 0, i, y == (from > 0 ? from : 0), y == to - 1};
  }
  return count;
}

// `count` outputs, from their D.
void PoolRun::finish(const PoolTarget& target, int count, int first_channel) const {
  for (int x = 0; x < count; x += kListPixels) {
    list->count = 0;
    const int some = count - x < kListPixels ? count - x : kListPixels;
    list_pixels(s, b, target.y - b->y0, target.first_output + x, some, x, list);
    const FusedPixels t = listed_pixels(s, b, list, first_channel);
    finish_with_bits(&t, fused_padded(s), line, PlainSums{target.to, list->row});
  }
}

// Row y, in which row->multiply(x, count, to) makes sums of some columns and row->sums() says what else D is.
template <class Row>
void PoolRun::run_row(int y, int first_channel, Row* row, PoolTarget* targets, int count) const {
  const FusedPool& p = s->pool;
  const int left = b->first_channel + b->channels - first_channel;
  row->begin(y, first_channel);
  RowSums d = row_sums(s, y, first_channel, sums, row->windows(), row->window_step());
  for (int i = 0, have = 0; i < p.width;) {
    const int start = i * p.stride_w - p.pad_left, first = start > 0 ? start : 0;
    const int kept = have - first;
    if (kept > 0) __builtin_memmove(sums, sums + int64_t{first - d.first} * kFusedChannels, kept * kFusedChannels * 4);
    if (kept < 0) have = first;  // between windows
    d.first = kept > 0 ? first : have;
    const int more = s->width - have < step ? s->width - have : step;
    row->multiply(have, more, sums + int64_t{have - d.first} * kFusedChannels);
    have += more;
    // Windows whose last column is there; in the end those that padding fills up, too.
    int end = p.width;
    if (have < s->width) {
      const int reach = have + p.pad_left - p.kernel_w;
      const int whole = reach < 0 ? 0 : reach / p.stride_w + 1;
      end = whole < i ? i : whole < p.width ? whole : p.width;
    }
    for (int t = 0; t < count; ++t) {
      if (!targets[t].last) continue;
      targets[t].to = done + t * pool_sums_bytes(step) / 4;
      targets[t].first_output = i;
    }
    if (left <= 32) {
      pool_row_of<2>(s, &d, first_channel, i, end, targets, count);
    } else {
      pool_row_of<4>(s, &d, first_channel, i, end, targets, count);
    }
    for (int t = 0; t < count; ++t) {
      if (targets[t].last) finish(targets[t], end - i, first_channel);
    }
    i = end;
  }
}

// As finish_list(), with codes of few bits by bisection.
static void finish_first(const FusedSpec* s, const FusedBand* b, const FusedLineRule* line, FusedList* list,
                         const int32_t* sums, const int32_t* windows, int step, int first_channel) {
  if (s->epilogue.border != nullptr) return finish_list(s, b, line, list, sums, windows, step, first_channel);
  const FusedPixels t = listed_pixels(s, b, list, first_channel);
  const int padded = fused_padded(s);
  if (windows != nullptr) return finish_with_bits(&t, padded, line, HalvedSums{sums, list->row, windows, step});
  finish_with_bits(&t, padded, line, PlainSums{sums, list->row});
}

// The rows of a band; a Row is as run_row() says, and gets rows as they follow each other, for each 64 channels anew.
template <class Row>
static void run_pooled(const PoolRun& run, Row* row) {
  const FusedSpec* const s = run.s;
  const FusedBand* const b = run.b;
  const FusedPool& p = s->pool;
  const int first = b->y0 * p.stride_h - p.pad_top;
  const int last = (b->y0 + b->rows - 1) * p.stride_h - p.pad_top + p.kernel_h;
  for (int c = b->first_channel; c < b->first_channel + b->channels; c += kFusedChannels) {
    for (int y = first > 0 ? first : 0; y < (last < s->height ? last : s->height); ++y) {
      PoolTarget targets[kPooledRows];
      const int count = run.targets_of(y, targets);
      if (count > 0) run.run_row(y, c, row, targets, count);
    }
  }
}
