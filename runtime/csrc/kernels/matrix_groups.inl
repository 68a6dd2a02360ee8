// Products of signed bytes with stored codes in slots of words, and a scale for each group along the depth. Part of
// matrix_*.cpp, behind matrix_codes.inl and matrix_slots.inl; whoever includes this has defined
//
//   kGroupRows                 rows at a time
//   kSlotMinus                 what is taken off slots of 8 bits, so that add_codes sees signed bytes: 0 or 128
//   kPartWords<S>              words whose products a part holds, at least one
//   add_codes<S, kWide>(part, m, a)
//                              adds in each lane four products of the bytes m and the signed a; m has S bits, without a
//                              sign, or signed bytes of 8; kWide: not all of them are below 128
//   widened<S>(part)           a part as sums modulo 2^32

template <int S>
static inline Bytes bytes_of_slot(Words w, int i) {
  if constexpr (S == 8) return reinterpret_cast<Bytes>(w ^ (kSlotMinus * 0x01010101u));
  return reinterpret_cast<Bytes>((w >> (S * i)) & (((1u << S) - 1) * 0x01010101u));
}

// Adds products of some words: sums[p][v] of row p and vector v.
template <int S, bool kWide, int P, int V>
static inline void add_words(const uint32_t* words, const int8_t* x, int64_t row_step, int64_t count,
                             Sums (&sums)[P][V]) {
  Sums part[P][V] = {};
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
        for (int v = 0; v < V; ++v) part[p][v] = add_codes<S, kWide>(part[p][v], m[v], a);
      }
    }
  }
#pragma GCC unroll 8
  for (int p = 0; p < P; ++p) {
#pragma GCC unroll 4
    for (int v = 0; v < V; ++v) {
      sums[p][v] =
          reinterpret_cast<Sums>(reinterpret_cast<Words>(sums[p][v]) + reinterpret_cast<Words>(widened<S>(part[p][v])));
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
