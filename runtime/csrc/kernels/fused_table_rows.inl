// Looking up nine taps, or eighteen, of 64 output channels, AVX-512 with VBMI: what walks along rows of tables.
//
// The index vectors of a group's 3 x 3 taps stay in registers. A column of three tables is loaded once and looked up
// nine times, for the three outputs whose windows hold it; each step finishes one output:
//
//   column        x-2      x-1      x                 f: right taps, g: middle taps, h: left taps of one column
//   output x-2    h        g        f   finished
//   output x-1             h        g   = `next`
//   output x                        h   = `later`
//
// Sums of look-ups are kept in bytes while they fit 255, which depends on the weights alone: no subset of a group's
// codes is larger than its number of weight bits times n_a. prepare() chooses the first of these that is right for all
// 64 channels:
enum TableFlush : uint8_t {
  kPair,        // the 18 look-ups of two groups fit a byte
  kWhole,       // the 9 of one group
  kTwoColumns,  // those of any two neighbouring columns
  kColumns,     // those of each column
  kHalves,      // two look-ups; up to 4 bits
};
// and then move to 16 bits: `whole` sums pairs of bytes as they lie, low + 256 high modulo 2^16, `high` the upper ones,
// so that the lower ones are whole - 256 high. Lane 2 i of a byte vector is channel i, lane 2 i + 1 channel 32 + i.
//
// 18 look-ups and 17 additions of bytes, 3 operations on words: 38 operations of 512 bits for 768 products of a bit,
// of which Intel cores start two a cycle, one of them a look-up: 19 cycles, 19.7 measured; Zen 4 the same two; Zen 5
// four, two.

#ifdef BITORCH_NO_ASM
#define BITORCH_ADD_BYTES(sum, x) (sum) = _mm512_add_epi8(sum, x)
#define BITORCH_TOGETHER_3(a, b, c)
#define BITORCH_PIN(x)
#else
// In place: else compilers copy a sum before they add to it.
#define BITORCH_ADD_BYTES(sum, x) __asm__("vpaddb %1,%0,%0" : "+v"(sum) : "v"(x))
// Look-ups before additions: alternating the two is a quarter slower on Zen 4.
#define BITORCH_TOGETHER_3(a, b, c) __asm__("" : "+v"(a), "+v"(b), "+v"(c))
#define BITORCH_PIN(x) __asm__("" : "+v"(x))
#endif

// A strip of columns, so narrow that its tables lie in the first-level cache; what is unfinished at its end is carried
// on to the next strip.
struct TableRows {
  const uint8_t* index;   // [taps of the group, or of two][64]
  const uint8_t* tables;  // [group][rows + 2][columns][64]
  int64_t table_row, table_group;
  uint8_t* sums;  // of the output that the first column finishes: [rows][pixels][whole, high][32] uint16
  int64_t sums_row;
  uint8_t* carried;  // [rows][4][64]
  int32_t rows, columns;
  bool begins;  // the first strip: two columns finish nothing
};

constexpr int kCarriedBytes = 256;

struct TableColumn {
  __m512i f, g, h;
};

static inline __attribute__((always_inline)) TableColumn look_up(const __m512i* index, const uint8_t* table) {
  __m512i entries = _mm512_load_si512(table);
  BITORCH_PIN(entries);
  return {_mm512_permutexvar_epi8(index[2], entries), _mm512_permutexvar_epi8(index[1], entries),
          _mm512_permutexvar_epi8(index[0], entries)};
}

static inline __attribute__((always_inline)) void add_column(TableColumn* sum, TableColumn x) {
  BITORCH_TOGETHER_3(x.f, x.g, x.h);
  BITORCH_ADD_BYTES(sum->f, x.f);
  BITORCH_ADD_BYTES(sum->g, x.g);
  BITORCH_ADD_BYTES(sum->h, x.h);
}

// The first `count` taps of a column of one group.
template <int count>
static inline __attribute__((always_inline)) TableColumn table_column(const __m512i* index, const uint8_t* table,
                                                                      int64_t row) {
  TableColumn sum = look_up(index, table);
  BITORCH_TOGETHER_3(sum.f, sum.g, sum.h);
  For<1, count>::each(
      [&](auto i) __attribute__((always_inline)) { add_column(&sum, look_up(index + 3 * i, table + i * row)); });
  return sum;
}

// 16-bit sums of bytes.
struct TableWords {
  __m512i whole, high;

  inline __attribute__((always_inline)) void add(__m512i bytes) {
    whole = _mm512_add_epi16(whole, bytes);
    high = _mm512_add_epi16(high, _mm512_srli_epi16(bytes, 8));
  }
  // to[64 channels] += 2^shift * sums
  template <int shift>
  inline __attribute__((always_inline)) void add_to(uint8_t* to) {
    For<0, shift>::each([&](auto) __attribute__((always_inline)) {
      whole = _mm512_add_epi16(whole, whole);
      high = _mm512_add_epi16(high, high);
    });
    _mm512_store_si512(to, _mm512_add_epi16(whole, _mm512_load_si512(to)));
    _mm512_store_si512(to + 64, _mm512_add_epi16(high, _mm512_load_si512(to + 64)));
  }
};
static inline __attribute__((always_inline)) TableWords words_of(__m512i bytes) {
  return {bytes, _mm512_srli_epi16(bytes, 8)};
}

static inline __attribute__((always_inline)) void load_two(const uint8_t* from, __m512i* a, __m512i* b) {
  *a = _mm512_load_si512(from);
  *b = _mm512_load_si512(from + 64);
}
static inline __attribute__((always_inline)) void store_two(uint8_t* to, __m512i a, __m512i b) {
  _mm512_store_si512(to, a);
  _mm512_store_si512(to + 64, b);
}

// What is not finished yet, and what a column does to it.
template <TableFlush flush>
struct Unfinished {  // kPair and kWhole: everything in bytes
  static constexpr int kIndices = flush == kPair ? 18 : 9;
  __m512i next, later;

  inline __attribute__((always_inline)) void clear() { next = later = _mm512_setzero_si512(); }
  inline __attribute__((always_inline)) void load(const uint8_t* from) { load_two(from, &next, &later); }
  inline __attribute__((always_inline)) void store(uint8_t* to) const { store_two(to, next, later); }
  inline __attribute__((always_inline)) TableWords column(const __m512i* index, const uint8_t* table,
                                                          const TableRows* t) {
    TableColumn c = table_column<3>(index, table, t->table_row);
    if constexpr (flush == kPair) {
      For<0, 3>::each([&](auto i) __attribute__((always_inline)) {
        add_column(&c, look_up(index + 9 + 3 * i, table + t->table_group + i * t->table_row));
      });
    }
    BITORCH_ADD_BYTES(c.f, next);
    next = _mm512_add_epi8(later, c.g);
    later = c.h;
    return words_of(c.f);
  }
};

template <>
struct Unfinished<kTwoColumns> {
  static constexpr int kIndices = 9;
  __m512i next, later;

  inline __attribute__((always_inline)) void clear() { next = later = _mm512_setzero_si512(); }
  inline __attribute__((always_inline)) void load(const uint8_t* from) { load_two(from, &next, &later); }
  inline __attribute__((always_inline)) void store(uint8_t* to) const { store_two(to, next, later); }
  inline __attribute__((always_inline)) TableWords column(const __m512i* index, const uint8_t* table,
                                                          const TableRows* t) {
    const TableColumn c = table_column<3>(index, table, t->table_row);
    TableWords sum = words_of(c.f);
    sum.add(next);
    next = _mm512_add_epi8(later, c.g);
    later = c.h;
    return sum;
  }
};

template <>
struct Unfinished<kColumns> {
  static constexpr int kIndices = 9;
  TableWords next, later;

  inline __attribute__((always_inline)) void clear() { next = later = words_of(_mm512_setzero_si512()); }
  inline __attribute__((always_inline)) void load(const uint8_t* from) {
    load_two(from, &next.whole, &next.high);
    load_two(from + 128, &later.whole, &later.high);
  }
  inline __attribute__((always_inline)) void store(uint8_t* to) const {
    store_two(to, next.whole, next.high);
    store_two(to + 128, later.whole, later.high);
  }
  inline __attribute__((always_inline)) TableWords column(const __m512i* index, const uint8_t* table,
                                                          const TableRows* t) {
    const TableColumn c = table_column<3>(index, table, t->table_row);
    TableWords sum = next;
    sum.add(c.f);
    next = later;
    next.add(c.g);
    later = words_of(c.h);
    return sum;
  }
};

template <>
struct Unfinished<kHalves> {
  static constexpr int kIndices = 9;
  TableWords next, later;

  inline __attribute__((always_inline)) void clear() { next = later = words_of(_mm512_setzero_si512()); }
  inline __attribute__((always_inline)) void load(const uint8_t* from) {
    load_two(from, &next.whole, &next.high);
    load_two(from + 128, &later.whole, &later.high);
  }
  inline __attribute__((always_inline)) void store(uint8_t* to) const {
    store_two(to, next.whole, next.high);
    store_two(to + 128, later.whole, later.high);
  }
  inline __attribute__((always_inline)) TableWords column(const __m512i* index, const uint8_t* table,
                                                          const TableRows* t) {
    const TableColumn two = table_column<2>(index, table, t->table_row);
    const TableColumn third = table_column<1>(index + 6, table + 2 * t->table_row, 0);
    TableWords sum = next;
    sum.add(two.f);
    sum.add(third.f);
    next = later;
    next.add(two.g);
    next.add(third.g);
    later = words_of(two.h);
    later.add(third.h);
    return sum;
  }
};

template <TableFlush flush, int shift>
static __attribute__((noinline)) void look_up_rows(const TableRows* t) {
  constexpr int kIndices = Unfinished<flush>::kIndices;
  __m512i index[kIndices];
  For<0, kIndices>::each([&](auto i) __attribute__((always_inline)) {
    index[i] = _mm512_load_si512(t->index + 64 * i);
    BITORCH_PIN(index[i]);
  });
  for (int y = 0; y < t->rows; ++y) {
    const uint8_t* table = t->tables + y * t->table_row;
    uint8_t* sums = t->sums + y * t->sums_row;
    int left = t->columns;
    Unfinished<flush> u;
    if (t->begins) {
      u.clear();
      u.column(index, table, t);
      u.column(index, table + kTableBytes, t);
      table += 2 * kTableBytes;
      left -= 2;
    } else {
      u.load(t->carried + y * kCarriedBytes);
    }
    for (; left > 0; --left, table += kTableBytes, sums += 2 * kTableBytes) {
      u.column(index, table, t).template add_to<shift>(sums);
    }
    u.store(t->carried + y * kCarriedBytes);
  }
}
