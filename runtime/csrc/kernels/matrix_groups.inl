// Products of signed bytes with stored codes in slots of words, and a scale for each group along the depth. Part of
// matrix_*.cpp, behind matrix_codes.inl and matrix_slots.inl; whoever includes this has defined
//
//   kGroupRows                 rows at a time
//   kRowChains                 parts that a row alone has, where additions wait for each other: 1 or 2
//   kSlotMinus                 what is taken off slots of 8 bits, so that add_codes sees signed bytes: 0 or 128
//   kPartWords<S>              words whose products a part holds, at least one
//   add_codes<S, kWide>(part, m, a)
//                              adds in each lane four products of the bytes m and the signed a; m has S bits, without a
//                              sign, or signed bytes of 8; kWide: not all of them are below 128
//   widened<S>(part)           a part as sums modulo 2^32

template <int N>
struct ByteVector {
  typedef uint8_t type __attribute__((vector_size(N)));
};

// What codes become: all of `twice` is 255 where they count twice.
template <int N>
static inline typename ByteVector<N>::type bytes_of(const uint8_t* from, uint8_t twice, uint8_t offset) {
  typename ByteVector<N>::type codes;
  __builtin_memcpy(&codes, from, N);
  return codes + (codes & twice) + offset;
}

// The codes of a word of slots, in the order in which they leave it.
template <int S>
static inline void arrange_word(const uint8_t* from, uint8_t twice, uint8_t offset, int8_t* to) {
  if constexpr (S == 8) {
    for (int i = 0; i < 4; ++i) to[i] = static_cast<int8_t>(from[i] + (from[i] & twice) + offset);
  } else if constexpr (S == 4) {
    const auto codes = bytes_of<8>(from, twice, offset);
    const auto turned = __builtin_shufflevector(codes, codes, 0, 2, 4, 6, 1, 3, 5, 7);
    __builtin_memcpy(to, &turned, 8);
  } else if constexpr (S == 2) {
    const auto codes = bytes_of<16>(from, twice, offset);
    const auto turned = __builtin_shufflevector(codes, codes, 0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15);
    __builtin_memcpy(to, &turned, 16);
  } else {
    const auto low = bytes_of<16>(from, twice, offset), high = bytes_of<16>(from + 16, twice, offset);
    const auto first = __builtin_shufflevector(low, high, 0, 8, 16, 24, 1, 9, 17, 25, 2, 10, 18, 26, 3, 11, 19, 27);
    const auto last = __builtin_shufflevector(low, high, 4, 12, 20, 28, 5, 13, 21, 29, 6, 14, 22, 30, 7, 15, 23, 31);
    __builtin_memcpy(to, &first, 16);
    __builtin_memcpy(to + 16, &last, 16);
  }
}

template <int S>
static void arrange_row(const GroupRow* t) {
  constexpr int kCodes = 32 / S, kInByte = 8 / S;
  const uint8_t twice = t->factor == 2 ? 255 : 0, offset = static_cast<uint8_t>(t->offset);
  const int64_t size = t->size, groups = t->groups;
  const uint8_t* from = t->codes;
  int8_t* to = t->bytes;
  for (int64_t g = 0; g < groups; ++g, from += size) {
    int64_t k = 0;
    for (; k + kCodes <= size; k += kCodes, to += kCodes) arrange_word<S>(from + k, twice, offset, to);
    if (k < size) {
      for (int i = 0; i < kCodes; ++i) {
        const int a = k + i < size ? t->factor * from[k + i] + t->offset : 0;
        to[i % kInByte * 4 + i / kInByte] = static_cast<int8_t>(a);
      }
      to += kCodes;
    }
    t->sums[g] = t->factor * sum_codes(from, size) + t->offset * static_cast<int32_t>(size);
  }
}

static void arrange_groups(const GroupRow* t) {
  switch (t->slot_bits) {
    case 1:
      return arrange_row<1>(t);
    case 2:
      return arrange_row<2>(t);
    case 4:
      return arrange_row<4>(t);
    default:
      return arrange_row<8>(t);
  }
}

template <int S>
static inline Bytes bytes_of_slot(Words w, int i) {
  if constexpr (S == 8) return reinterpret_cast<Bytes>(w ^ (kSlotMinus * 0x01010101u));
  return reinterpret_cast<Bytes>((w >> (S * i)) & (((1u << S) - 1) * 0x01010101u));
}

// Adds products of some words: sums[p][v] of row p and vector v.
template <int S, bool kWide, int P, int V>
static inline void add_words(const uint32_t* words, const int8_t* x, int64_t row_step, int64_t count,
                             Sums (&sums)[P][V]) {
  constexpr int kChains = P == 1 && S < 8 ? kRowChains : 1;
  Sums part[kChains][P][V] = {};
  for (int64_t i = 0; i < count; ++i, words += kSlotColumns, x += 32 / S) {
    Words w[V];
#pragma GCC unroll 4
    for (int v = 0; v < V; ++v) w[v] = load_words(words + v * kLanes);
#pragma GCC unroll 8
    for (int j = 0; j < 8 / S; ++j) {
      Bytes m[V];
#pragma GCC unroll 4
      for (int v = 0; v < V; ++v) m[v] = bytes_of_slot<S>(w[v], j);
#pragma GCC unroll 8
      for (int p = 0; p < P; ++p) {
        const Bytes a = four_codes(reinterpret_cast<const uint8_t*>(x) + p * row_step + 4 * j);
#pragma GCC unroll 4
        for (int v = 0; v < V; ++v) {
          Sums& to = part[j % kChains][p][v];
          to = add_codes<S, kWide>(to, m[v], a);
        }
      }
    }
  }
#pragma GCC unroll 2
  for (int c = 0; c < kChains; ++c) {
#pragma GCC unroll 8
    for (int p = 0; p < P; ++p) {
#pragma GCC unroll 4
      for (int v = 0; v < V; ++v) {
        const Words more = reinterpret_cast<Words>(widened<S>(part[c][p][v]));
        sums[p][v] = reinterpret_cast<Sums>(reinterpret_cast<Words>(sums[p][v]) + more);
      }
    }
  }
}

// Adds group g of row p to its total.
template <int S, int V>
static inline void add_group(const GroupProduct* t, int64_t row, int64_t g, const Sums (&sums)[V], Vector (&total)[V]) {
  const uint32_t minus = S == 8 ? kSlotMinus * static_cast<uint32_t>(t->step) : 0;
  const uint32_t of_row =
      static_cast<uint32_t>(t->of_rows[row * t->right.groups + g]) * (static_cast<uint32_t>(t->lowest) + minus);
#pragma GCC unroll 4
  for (int v = 0; v < V; ++v) {
    Words d = (reinterpret_cast<Words>(sums[v]) << (t->step - 1)) + of_row;
    const int64_t column = g * kSlotColumns + v * kLanes;
    if (t->of_columns != nullptr) d += load_words(reinterpret_cast<const uint32_t*>(t->of_columns) + column);
    const Vector of_group = __builtin_convertvector(reinterpret_cast<Sums>(d), Vector);
    total[v] += of_group * load(t->right.scales + column);
  }
}

template <int S, bool kWide, int P>
static void multiply_group_rows(const GroupProduct* t, int64_t row) {
  static_assert(kLanes == kCodeLanes, "sums become floats lane by lane");
  constexpr int V = kSlotColumns / kLanes;
  const uint32_t* words = t->right.words;
  const int8_t* x = t->left + row * t->row_step;
  Vector total[P][V];
  for (int p = 0; p < P; ++p) {
    for (int v = 0; v < V; ++v) total[p][v] = all(-0.0f);  // -0 + y is y, whatever y is
  }
  for (int64_t g = 0; g < t->right.groups; ++g) {
    Sums sums[P][V] = {};
    for (int64_t left = t->right.group_words; left > 0; left -= kPartWords<S>) {
      const int64_t count = left < kPartWords<S> ? left : kPartWords<S>;
      add_words<S, kWide>(words, x, t->row_step, count, sums);
      words += count * kSlotColumns;
      x += count * (32 / S);
    }
#pragma GCC unroll 8
    for (int p = 0; p < P; ++p) add_group<S>(t, row + p, g, sums[p], total[p]);
  }
  for (int p = 0; p < P; ++p) {
    for (int v = 0; v < V; ++v) store(t->out + (row + p) * t->out_step + v * kLanes, total[p][v]);
  }
}

template <int S, bool kWide, int P = kGroupRows>
static inline void multiply_some_rows(const GroupProduct* t, int64_t row, int64_t rows) {
  if (rows == P) return multiply_group_rows<S, kWide, P>(t, row);
  if constexpr (P > 1) multiply_some_rows<S, kWide, P - 1>(t, row, rows);
}

template <int S, bool kWide>
static void multiply_all_rows(const GroupProduct* t) {
  const int64_t tiles = divided_up(t->rows, kGroupRows);
  for (int64_t i = 0; i < tiles; ++i) {
    const int64_t row = begin_of(i, t->rows, kGroupRows);
    multiply_some_rows<S, kWide>(t, row, begin_of(i + 1, t->rows, kGroupRows) - row);
  }
}

static void multiply_groups(const GroupProduct* t) {
  switch (t->right.slot_bits) {
    case 1:
      return multiply_all_rows<1, false>(t);
    case 2:
      return multiply_all_rows<2, false>(t);
    case 4:
      return multiply_all_rows<4, false>(t);
    default:
      return t->wide ? multiply_all_rows<8, true>(t) : multiply_all_rows<8, false>(t);
  }
}
