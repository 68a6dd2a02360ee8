// Products of floats with codes in slots of words. Part of matrix_*.cpp, behind matrix.inl; whoever includes this has
// defined
//
//   Words              kLanes words
//   kTableBits         slots of so many bits at most are looked up; 0: none
//   from_table(t, w)   of each lane the number that stands at its lowest kTableBits bits, in all of t or in the lane's
//                      four

static inline Words load_words(const uint32_t* from) {
  Words w;
  __builtin_memcpy(&w, from, sizeof(w));
  return w;
}

// What each value of a slot stands for, and again from there on.
template <int S, bool odd>
static inline Vector table_of_slots() {
  Vector table = {};
  if constexpr (S <= kTableBits) {
    for (int i = 0; i < kLanes; ++i) {
      const int u = i & ((1 << S) - 1), q = u < 1 << (S - 1) ? u : u - (1 << S);
      table[i] = static_cast<float>(odd ? 2 * q + 1 : q);
    }
  }
  return table;
}

// The codes of slot j of each word.
template <int S, bool odd>
static inline Vector codes_of_slot(Words w, int j, Vector table) {
  if constexpr (S <= kTableBits) return from_table(table, w >> (S * j));
  const Lanes highest = reinterpret_cast<Lanes>(w << (32 - S * (j + 1)));
  // Of an odd one the bit below the slot is shifted in, and set.
  return __builtin_convertvector(odd ? (highest >> (31 - S)) | 1 : highest >> (32 - S), Vector);
}

template <int S, bool odd, int P>
static void multiply_slot_rows(const SlotProduct* t) {
  // Chains of multiply-adds that do not wait for each other: one row alone has two for each vector.
  constexpr int V = kSlotColumns / kLanes, kSlots = 32 / S, kChains = P == 1 ? 2 : 1;
  const Vector table = table_of_slots<S, odd>();
  const uint32_t* words = t->right.words;
  const float* scales = t->right.scales;
  const float* x = t->left;
  Vector total[P][V] = {};
  for (int64_t g = 0; g < t->right.groups; ++g, scales += kSlotColumns) {
    Vector sum[kChains][P][V] = {};
    for (int64_t i = 0; i < t->right.group_words; ++i, words += kSlotColumns, x += kSlots) {
      Words w[V];
#pragma GCC unroll 4
      for (int v = 0; v < V; ++v) w[v] = load_words(words + v * kLanes);
#pragma GCC unroll 32
      for (int j = 0; j < kSlots; ++j) {
#pragma GCC unroll 4
        for (int v = 0; v < V; ++v) {
          const Vector codes = codes_of_slot<S, odd>(w[v], j, table);
#pragma GCC unroll 4
          for (int p = 0; p < P; ++p) {
            Vector& to = sum[j % kChains][p][v];
            to = multiply_add(all(x[p * t->row_step + j]), codes, to);
          }
        }
      }
    }
#pragma GCC unroll 4
    for (int p = 0; p < P; ++p) {
#pragma GCC unroll 4
      for (int v = 0; v < V; ++v) {
        const Vector of_group = kChains == 2 ? sum[0][p][v] + sum[kChains - 1][p][v] : sum[0][p][v];
        total[p][v] = multiply_add(of_group, load(scales + v * kLanes), total[p][v]);
      }
    }
  }
  for (int p = 0; p < P; ++p) {
    for (int v = 0; v < V; ++v) store(t->out + p * t->out_step + v * kLanes, total[p][v]);
  }
}

using SlotFunction = void (*)(const SlotProduct*);

template <int S, bool odd>
static inline SlotFunction slot_function(int64_t rows) {
  static_assert(kMostSlotRows == 4, "there are no others");
  static constexpr SlotFunction kRows[kMostSlotRows] = {multiply_slot_rows<S, odd, 1>, multiply_slot_rows<S, odd, 2>,
                                                        multiply_slot_rows<S, odd, 3>, multiply_slot_rows<S, odd, 4>};
  return kRows[rows - 1];
}

// f(S, odd) of what is there, as types.
template <int S>
struct SlotBits {};
template <bool odd>
struct OddSlots {};

template <class F>
static inline void with_slots(const CodeSlots& slots, const F& f) {
  const auto of_bits = [&](auto bits) {
    return slots.odd != 0 ? f(bits, OddSlots<true>()) : f(bits, OddSlots<false>());
  };
  switch (slots.slot_bits) {
    case 1:
      return of_bits(SlotBits<1>());
    case 2:
      return of_bits(SlotBits<2>());
    case 4:
      return of_bits(SlotBits<4>());
    default:
      return of_bits(SlotBits<8>());
  }
}

template <int S, bool odd>
static void multiply_of(const SlotProduct* t, SlotBits<S>, OddSlots<odd>) {
  slot_function<S, odd>(t->rows)(t);
}

static void multiply_slots(const SlotProduct* t) {
  with_slots(t->right, [&](auto bits, auto odd) { multiply_of(t, bits, odd); });
}

// Of one block: where each of its vectors goes, and how far it is to the next row of the panel.
template <int S, bool odd>
static void unpack_block(const CodeSlots& slots, float* const* to, const int64_t* step) {
  constexpr int V = kSlotColumns / kLanes, kSlots = 32 / S;
  const Vector table = table_of_slots<S, odd>();
  const uint32_t* words = slots.words;
  int64_t k = 0;
  for (int64_t g = 0; g < slots.groups; ++g) {
    for (int64_t i = 0; i < slots.group_words; ++i, words += kSlotColumns, k += kSlots) {
#pragma GCC unroll 4
      for (int v = 0; v < V; ++v) {
        const Words w = load_words(words + v * kLanes);
        const Vector scale = load(slots.scales + g * kSlotColumns + v * kLanes);
#pragma GCC unroll 32
        for (int j = 0; j < kSlots; ++j) {
          store(to[v] + (k + j) * step[v], codes_of_slot<S, odd>(w, j, table) * scale);
        }
      }
    }
  }
}

template <int S, bool odd>
static void unpack_of(const SlotPanels* t, SlotBits<S>, OddSlots<odd>) {
  constexpr int V = kSlotColumns / kLanes;
  CodeSlots slots = t->first;
  const int64_t depth = slots.groups * slots.group_words * (32 / S);
  const int64_t vectors = t->blocks * V, panels = divided_up(vectors, kMostVectors);
  int64_t panel = 0;
  for (int64_t b = 0; b < t->blocks; ++b) {
    float* to[V];
    int64_t step[V];
    for (int v = 0; v < V; ++v) {
      const int64_t at = b * V + v;
      if (panel + 1 < panels && at >= begin_of(panel + 1, vectors, kMostVectors)) ++panel;
      const int64_t first = begin_of(panel, vectors, kMostVectors);
      step[v] = (begin_of(panel + 1, vectors, kMostVectors) - first) * kLanes;
      to[v] = t->panels + first * kLanes * depth + (at - first) * kLanes;
    }
    unpack_block<S, odd>(slots, to, step);
    slots.words += slots.groups * slots.group_words * kSlotColumns;
    slots.scales += slots.groups * kSlotColumns;
  }
}

static void unpack_slots(const SlotPanels* t) {
  with_slots(t->first, [&](auto bits, auto odd) { unpack_of(t, bits, odd); });
}
