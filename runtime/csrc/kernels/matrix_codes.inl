// Products of matrices of codes. Whoever includes this, behind matrix.inl, has defined
//
//   Sums                       int32 lanes of a vector, of GCC's extensions, and Bytes as many times four bytes
//   kFlips                     whether codes of 8 bits on the right are brought into signed bytes, less 128
//   add_products<kWide>(sums, left, right)
//                              in each lane the sum of four products of bytes, modulo 2^32; all lanes of `left` hold
//                              the same four; kWide: they may have 8 bits

constexpr int kCodeLanes = static_cast<int>(sizeof(Sums) / 4);

static inline bool is_flipped(int32_t bits) { return kFlips && bits == 8; }

// Rows from `first` on, a multiple of 4, of kCodeLanes columns, of which `columns` are there, to every width-th vector.
static inline void pack_code_vector(const CodePanels* t, int64_t first, int64_t column, int64_t columns, uint8_t* out,
                                    int64_t width) {
  const uint8_t* in = t->matrix + column * t->column_step;
  const uint8_t flip = is_flipped(t->bits) ? 0x80 : 0;
  out += first / 4 * width * kCodeLanes * 4;
  for (int64_t k = first; k < t->depth; k += 4, out += width * kCodeLanes * 4) {
    const int64_t there = t->depth - k < 4 ? t->depth - k : 4;
    if (columns < kCodeLanes || there < 4) __builtin_memset(out, 0, kCodeLanes * 4);
    for (int64_t i = 0; i < there; ++i) {
      const uint8_t* from = in + (k + i) * t->depth_step;
      for (int64_t c = 0; c < columns; ++c) out[c * 4 + i] = static_cast<uint8_t>(from[c * t->column_step] ^ flip);
    }
  }
}

// Columns whose codes lie side by side: four at a time.
static inline void pack_code_lines(const CodePanels* t, int64_t column, uint8_t* out, int64_t width) {
  const uint8_t* in = t->matrix + column * t->column_step;
  const uint32_t flip = is_flipped(t->bits) ? 0x80808080u : 0;
  for (int64_t k = 0; k < t->depth; k += 4, out += width * kCodeLanes * 4) {
    for (int c = 0; c < kCodeLanes; ++c) {
      uint32_t word;
      __builtin_memcpy(&word, in + c * t->column_step + k, 4);
      word ^= flip;
      __builtin_memcpy(out + c * 4, &word, 4);
    }
  }
}

// Columns that lie side by side, whole vectors of them: four rows at a time.
static inline void pack_code_rows(const CodePanels* t, int64_t column, uint8_t* out, int64_t width) {
  const uint8_t* in = t->matrix + column;
  const uint32_t flip = is_flipped(t->bits) ? 0x80808080u : 0;
  for (int64_t k = 0; k + 4 <= t->depth; k += 4, out += width * kCodeLanes * 4) {
    const uint8_t* rows = in + k * t->depth_step;
    uint32_t words[kCodeLanes];
    for (int c = 0; c < kCodeLanes; ++c) {
      const uint32_t one = rows[c], two = rows[t->depth_step + c];
      const uint32_t three = rows[2 * t->depth_step + c], four = rows[3 * t->depth_step + c];
      words[c] = (one | two << 8 | three << 16 | four << 24) ^ flip;
    }
    __builtin_memcpy(out, words, sizeof(words));
  }
}

static int32_t sum_codes(const uint8_t* codes, int64_t n) {
  uint32_t sum = 0;
  for (int64_t i = 0; i < n; ++i) sum += codes[i];
  return static_cast<int32_t>(sum);
}

static inline void sum_columns(const CodePanels* t) {
  if (t->depth_step == 1) {
    for (int64_t c = 0; c < t->columns; ++c) t->sums[c] = sum_codes(t->matrix + c * t->column_step, t->depth);
    return;
  }
  for (int64_t c = 0; c < t->columns; ++c) t->sums[c] = 0;
  for (int64_t k = 0; k < t->depth; ++k) {
    const uint8_t* row = t->matrix + k * t->depth_step;
    for (int64_t c = 0; c < t->columns; ++c) t->sums[c] += row[c];
  }
}

static void pack_codes(const CodePanels* t) {
  const int64_t steps = divided_up(t->depth, 4) * 4;
  const int64_t vectors = divided_up(t->columns, kCodeLanes), panels = divided_up(vectors, kMostVectors);
  for (int64_t i = 0; i < panels; ++i) {
    const int64_t first = begin_of(i, vectors, kMostVectors), width = begin_of(i + 1, vectors, kMostVectors) - first;
    for (int64_t v = 0; v < width; ++v) {
      const int64_t column = (first + v) * kCodeLanes, left = t->columns - column;
      uint8_t* out = t->panels + first * kCodeLanes * steps + v * kCodeLanes * 4;
      if (left >= kCodeLanes && t->depth_step == 1 && t->depth % 4 == 0) {
        pack_code_lines(t, column, out, width);
      } else if (left >= kCodeLanes && t->column_step == 1) {
        pack_code_rows(t, column, out, width);
        pack_code_vector(t, t->depth / 4 * 4, column, kCodeLanes, out, width);
      } else {
        pack_code_vector(t, 0, column, left < kCodeLanes ? left : kCodeLanes, out, width);
      }
    }
  }
  sum_columns(t);
}

static inline Bytes four_codes(const uint8_t* from) {
  uint32_t word;
  __builtin_memcpy(&word, from, 4);
  typedef uint32_t Words __attribute__((vector_size(sizeof(Sums))));
  const Words words = Words{} + word;
  Bytes bytes;
  __builtin_memcpy(&bytes, &words, sizeof(bytes));
  return bytes;
}

template <int P, int V, bool kWide>
static void multiply_code_tile(const CodeProduct* t, int64_t row, const uint8_t* panel, int64_t column) {
  const uint8_t* x[P];
  Sums sum[P][V];
#pragma GCC unroll 8
  for (int p = 0; p < P; ++p) {
    x[p] = t->left + (row + p) * t->row_step;
#pragma GCC unroll 8
    for (int v = 0; v < V; ++v) sum[p][v] = Sums{};
  }
  for (int64_t k = 0; k < t->depth; k += 4, panel += V * kCodeLanes * 4) {
    Bytes w[V];
#pragma GCC unroll 8
    for (int v = 0; v < V; ++v) __builtin_memcpy(&w[v], panel + v * kCodeLanes * 4, sizeof(Bytes));
#pragma GCC unroll 8
    for (int p = 0; p < P; ++p) {
      const Bytes a = four_codes(x[p] + k);
#pragma GCC unroll 8
      for (int v = 0; v < V; ++v) sum[p][v] = add_products<kWide>(sum[p][v], a, w[v]);
    }
  }
  typedef uint32_t Words __attribute__((vector_size(sizeof(Sums))));
  const uint32_t factor = static_cast<uint32_t>(t->factor);
#pragma GCC unroll 8
  for (int p = 0; p < P; ++p) {
    uint32_t of_row = static_cast<uint32_t>(t->of_rows[row + p]);
    if (is_flipped(t->right_bits)) of_row += factor * 128u * static_cast<uint32_t>(sum_codes(x[p], t->depth));
    int32_t* to = t->out + (row + p) * t->out_step + column;
#pragma GCC unroll 8
    for (int v = 0; v < V; ++v) {
      const int64_t left = t->columns - column - v * kCodeLanes;
      const unsigned long bytes = static_cast<unsigned long>(left < kCodeLanes ? left : kCodeLanes) * 4;
      Words of_columns = {};
      if (left >= kCodeLanes) {
        __builtin_memcpy(&of_columns, t->of_columns + column + v * kCodeLanes, sizeof(of_columns));
      } else {
        __builtin_memcpy(&of_columns, t->of_columns + column + v * kCodeLanes, bytes);
      }
      const Words d = reinterpret_cast<Words>(sum[p][v]) * factor + of_row + of_columns;
      if (left >= kCodeLanes) {
        __builtin_memcpy(to + v * kCodeLanes, &d, sizeof(d));
      } else {
        __builtin_memcpy(to + v * kCodeLanes, &d, bytes);
      }
    }
  }
}

using CodeTile = void (*)(const CodeProduct*, int64_t row, const uint8_t* panel, int64_t column);

template <int V, bool kWide>
static inline CodeTile code_tile_of(int64_t rows) {
  static constexpr CodeTile kTiles[8] = {multiply_code_tile<1, V, kWide>,
                                         multiply_code_tile<2, V, kWide>,
                                         multiply_code_tile<3, V, kWide>,
                                         multiply_code_tile<4, V, kWide>,
                                         multiply_code_tile < kMostRows < 5 ? 1 : 5,
                                         V,
                                         kWide >,
                                         multiply_code_tile < kMostRows < 6 ? 1 : 6,
                                         V,
                                         kWide >,
                                         multiply_code_tile < kMostRows < 7 ? 1 : 7,
                                         V,
                                         kWide >
                                         , multiply_code_tile < kMostRows < 8 ? 1 : 8, V, kWide > };
  return kTiles[rows - 1];
}

template <bool kWide>
static inline CodeTile code_tile(int64_t width, int64_t rows) {
  return width == 1   ? code_tile_of<1, kWide>(rows)
         : width == 2 ? code_tile_of<2, kWide>(rows)
                      : code_tile_of<kMostVectors, kWide>(rows);
}

static void multiply_codes(const CodeProduct* t) {
  const int64_t vectors = divided_up(t->columns, kCodeLanes), panels = divided_up(vectors, kMostVectors);
  const int64_t tiles = divided_up(t->rows, kMostRows), steps = divided_up(t->depth, 4) * 4;
  for (int64_t i = 0; i < panels; ++i) {
    const int64_t first = begin_of(i, vectors, kMostVectors), width = begin_of(i + 1, vectors, kMostVectors) - first;
    for (int64_t j = 0; j < tiles; ++j) {
      const int64_t row = begin_of(j, t->rows, kMostRows), rows = begin_of(j + 1, t->rows, kMostRows) - row;
      const CodeTile tile = t->left_bits == 8 ? code_tile<true>(width, rows) : code_tile<false>(width, rows);
      tile(t, row, t->panels + first * kCodeLanes * steps, first * kCodeLanes);
    }
  }
}

static void scale_sums(float* out, const int32_t* in, float scale, int64_t n) {
  for (int64_t i = 0; i < n; ++i) out[i] = static_cast<float>(in[i]) * scale;
}
