// How depthwise kernels walk through rows, AVX-512. Included inside a namespace of the kernel file's own.
//
// Every channel is by itself, and the pixels of a row adjoin. So a row of outputs is one run of bytes, whatever the
// number of channels, and a vector any 64 of them (in planes a byte is eight channels):
//
//   row          | pixel 0      | pixel 1      | pixel 2      | ...         96 bytes each
//   vectors      | 64 bytes | 64 bytes | 64 bytes | 64 bytes ..             phases 0, 64, 32, 0, ..: where in a pixel
//                                                                           they begin
//
// What belongs to channels (weights, thresholds: `numbers`) depends on the phase alone and is brought into the order of
// a vector's lanes once per phase; then all vectors of this phase in some rows follow. Runs of one pixel take the place
// of whole rows where not all channels are wanted, or phases are many, or a stride leaves gaps; for a stride of 2 and
// narrow pixels, even pixels are parted from odd ones before, so that the taps of neighbours adjoin again.

// Numbers per byte of a pixel: so many of 4, of 2 and of 1 bytes.
struct Numbers {
  int32_t dwords, words, bytes;
  int64_t vectors() const { return 4 * int64_t{dwords} + 2 * words + bytes; }
};

// In memory, one after the other: [pixel bytes, then those of the next pixel, as many as a vector can need].
static inline int64_t number_bytes(int64_t pixel, int size) { return (pixel + 63) * size / 64 * 64 + 64; }
static inline int64_t all_number_bytes(const Numbers& n, int64_t pixel) {
  return n.dwords * number_bytes(pixel, 4) + n.words * number_bytes(pixel, 2) + n.bytes * number_bytes(pixel, 1);
}
static inline uint8_t* dword_of(const Numbers&, int64_t pixel, uint8_t* to, int k) {
  return to + k * number_bytes(pixel, 4);
}
static inline uint8_t* word_of(const Numbers& n, int64_t pixel, uint8_t* to, int k) {
  return to + n.dwords * number_bytes(pixel, 4) + k * number_bytes(pixel, 2);
}
static inline uint8_t* byte_of(const Numbers& n, int64_t pixel, uint8_t* to, int k) {
  return to + n.dwords * number_bytes(pixel, 4) + n.words * number_bytes(pixel, 2) + k * number_bytes(pixel, 1);
}

static inline void repeat_number(uint8_t* number, int64_t pixel, int size) {
  for (int64_t b = pixel * size; b < number_bytes(pixel, size); ++b) number[b] = number[b - pixel * size];
}

// After the numbers of the first pixel were written.
static inline void repeat_numbers(const Numbers& n, int64_t pixel, uint8_t* to) {
  for (int k = 0; k < n.dwords; ++k) repeat_number(dword_of(n, pixel, to, k), pixel, 4);
  for (int k = 0; k < n.words; ++k) repeat_number(word_of(n, pixel, to, k), pixel, 2);
  for (int k = 0; k < n.bytes; ++k) repeat_number(byte_of(n, pixel, to, k), pixel, 1);
}

// Of the lanes of 16 bytes of 64 bytes, l0 .. l3, packs of dwords and of words make vectors of the lanes
//   dwords   quarter v of l0, l1, l2, l3, v = 0 .. 3     (the first four channels of each lane, ...)
//   words    half v of l0, l1, l2, l3
// Of four vectors whose quarters stand in this order, or in that of channels: the same in the other order.
static inline void turn_quarters(__m512i (&v)[4]) {
  const __m512i a = _mm512_shuffle_i32x4(v[0], v[1], 0x88), b = _mm512_shuffle_i32x4(v[0], v[1], 0xdd);
  const __m512i c = _mm512_shuffle_i32x4(v[2], v[3], 0x88), d = _mm512_shuffle_i32x4(v[2], v[3], 0xdd);
  v[0] = _mm512_shuffle_i32x4(a, c, 0x88);
  v[1] = _mm512_shuffle_i32x4(b, d, 0x88);
  v[2] = _mm512_shuffle_i32x4(a, c, 0xdd);
  v[3] = _mm512_shuffle_i32x4(b, d, 0xdd);
}

static void gather_numbers(const Numbers& n, int64_t pixel, const uint8_t* from, int64_t phase, __m512i* to) {
  const __m512i even = _mm512_setr_epi64(0, 1, 4, 5, 8, 9, 12, 13), odd = _mm512_setr_epi64(2, 3, 6, 7, 10, 11, 14, 15);
  for (int k = 0; k < n.dwords; ++k, from += number_bytes(pixel, 4), to += 4) {
    __m512i v[4];
    for (int i = 0; i < 4; ++i) v[i] = _mm512_loadu_si512(from + 4 * phase + 64 * i);
    turn_quarters(v);
    for (int i = 0; i < 4; ++i) to[i] = v[i];
  }
  for (int k = 0; k < n.words; ++k, from += number_bytes(pixel, 2), to += 2) {
    const __m512i low = _mm512_loadu_si512(from + 2 * phase), high = _mm512_loadu_si512(from + 2 * phase + 64);
    to[0] = _mm512_permutex2var_epi64(low, even, high);
    to[1] = _mm512_permutex2var_epi64(low, odd, high);
  }
  for (int k = 0; k < n.bytes; ++k, from += number_bytes(pixel, 1)) *to++ = _mm512_loadu_si512(from + phase);
}

// Where windows are read from: the input, or what was parted of it.
struct Source {
  const uint8_t* in;  // tap (0, 0) of the first output
  int64_t row;        // from tap ky to tap ky + 1
  int64_t plane;
  int64_t tap[7];            // where tap kx is
  int64_t in_row, in_pixel;  // from one output row, pixel to the next
};

// Vectors of one phase: `rows` rows of `columns` vectors each, of which the first `bytes` bytes are wanted.
struct Column {
  const Source* source;
  const __m512i* numbers;
  const uint8_t* in;
  int64_t in_column;
  int64_t at, column;  // in a row of outputs: where the first vector begins, from one to the next
  int32_t rows, columns, bytes;
};

// Pixels 0 .. pixels - 1 of rows 0 .. rows - 1, their bytes first .. first + wanted - 1.
struct Walk {
  Source source;
  Numbers numbers;
  const uint8_t* prepared;  // the numbers
  __m512i* gathered;        // room for numbers.vectors()
  int64_t first_number;     // of those that sums are made with
  int64_t pixel, first, wanted;
  int64_t out_scale, out_pixel;  // of outputs: units for each byte of a pixel, from one pixel to the next
  int32_t rows, pixels;
  int32_t most_columns;  // at a time
};

static inline int64_t phases_of(int64_t pixel) { return pixel % 64 == 0 ? pixel / 64 : pixel / (pixel & -pixel); }
static inline bool in_one_run(int64_t pixel) { return pixel < 64 || phases_of(pixel) <= 16; }

template <class F>
static void for_columns(const Walk& w, Column c, int64_t columns, const F& f) {
  for (int64_t x = 0; x < columns; x += w.most_columns) {
    c.columns = static_cast<int32_t>(columns - x < w.most_columns ? columns - x : w.most_columns);
    f(c);
    c.in += c.columns * c.in_column;
    c.at += c.columns * c.column;
  }
}

template <class F>
static void walk_run(const Walk& w, Column c, const F& f) {
  const int64_t bytes = w.pixels * w.pixel, phases = phases_of(w.pixel), whole = bytes / 64;
  c.in_column = phases * 64;
  c.column = c.in_column * w.out_scale;
  for (int64_t i = 0; i < phases && i * 64 < bytes; ++i) {
    gather_numbers(w.numbers, w.pixel, w.prepared, i * 64 % w.pixel, w.gathered);
    c.in = w.source.in + i * 64;
    c.at = i * 64 * w.out_scale;
    c.bytes = 64;
    for_columns(w, c, whole <= i ? 0 : (whole - i + phases - 1) / phases, f);
    if (bytes % 64 == 0 || whole % phases != i) continue;
    c.in = w.source.in + whole * 64;
    c.at = whole * 64 * w.out_scale;
    c.bytes = static_cast<int32_t>(bytes % 64);
    for_columns(w, c, 1, f);
  }
}

template <class F>
static void walk_pixels(const Walk& w, Column c, const F& f) {
  c.in_column = w.source.in_pixel;
  c.column = w.out_pixel;
  for (int64_t b = 0; b < w.wanted; b += 64) {
    gather_numbers(w.numbers, w.pixel, w.prepared, w.first + b, w.gathered);
    c.in = w.source.in + w.first + b;
    c.at = (w.first + b) * w.out_scale;
    c.bytes = static_cast<int32_t>(w.wanted - b < 64 ? w.wanted - b : 64);
    for_columns(w, c, w.pixels, f);
  }
}

// f(const Column&) for every vector of the walk, each once.
template <class F>
static void walk(const Walk& w, const F& f) {
  Column c = {};
  c.source = &w.source;
  c.numbers = w.gathered + w.first_number;
  c.rows = w.rows;
  const bool adjoin = w.source.in_pixel == w.pixel && w.out_pixel == w.pixel * w.out_scale;
  const bool run = w.wanted == w.pixel && adjoin && in_one_run(w.pixel);
  if (run) return walk_run(w, c, f);
  walk_pixels(w, c, f);
}

// ---- Even and odd pixels ----

// Parted rows: [row][plane][even, odd][pixels of one parity].
struct Parted {
  int64_t half, plane, row;
};

static inline int64_t columns_read(const FusedSpec* s) {
  return int64_t{s->width - 1} * s->stride_w + (s->kernel_w - 1) * s->dilation_w + 1;
}
static inline int64_t rows_read(const FusedSpec* s, int64_t rows) {
  return (rows - 1) * s->stride_h + (s->kernel_h - 1) * s->dilation_h + 1;
}

static Parted parted_rows(const FusedSpec* s, int64_t pixel, int planes) {
  Parted p;
  p.half = ((columns_read(s) + 1) / 2 * pixel + 127) / 64 * 64;  // a vector beyond the last pixel may be written
  p.plane = 2 * p.half;
  p.row = p.plane * planes;
  return p;
}

static inline __mmask64 first_bytes(int64_t n) {
  return n >= 64 ? ~__mmask64{0} : n <= 0 ? 0 : (__mmask64{1} << n) - 1;
}

// A row of pixels, up to 64 bytes each: as many as a vector holds at a time, or one by one.
static void part_pixels(uint8_t* even, uint8_t* odd, const uint8_t* from, int64_t pixels, int64_t bytes,
                        __m512i order) {
#ifdef __AVX512VBMI__
  const int64_t step = 64 / bytes * bytes;
  const __m512i odd_order = _mm512_add_epi8(order, _mm512_set1_epi8(static_cast<char>(bytes)));
  for (int64_t left = pixels * bytes; left > 0; left -= 2 * step, from += 2 * step, even += step, odd += step) {
    __m512i low, high;
    if (left >= 128) {
      low = _mm512_loadu_si512(from);
      high = _mm512_loadu_si512(from + 64);
    } else {
      low = _mm512_maskz_loadu_epi8(first_bytes(left), from);
      high = _mm512_maskz_loadu_epi8(first_bytes(left - 64), from + 64);
    }
    _mm512_storeu_si512(even, _mm512_permutex2var_epi8(low, order, high));
    _mm512_storeu_si512(odd, _mm512_permutex2var_epi8(low, odd_order, high));
  }
#else
  static_cast<void>(order);
  for (int64_t x = 0; x < pixels; x += 2, even += bytes, odd += bytes, from += 2 * bytes) {
    _mm512_storeu_si512(even, _mm512_loadu_si512(from));
    if (x + 1 < pixels) _mm512_storeu_si512(odd, _mm512_loadu_si512(from + bytes));
  }
#endif
}

// Which bytes of 128 are those of even pixels.
static inline __m512i order_of_even(int64_t bytes) {
  alignas(64) uint8_t order[64] = {};
  int64_t pixel = 0;
  for (int64_t t = 0; t + bytes <= 64; t += bytes, pixel += 2 * bytes) {
    for (int64_t b = 0; b < bytes; ++b) order[t + b] = static_cast<uint8_t>(pixel + b);
  }
  return _mm512_load_si512(order);
}

// What `rows` rows of outputs from y on read.
static void part_rows(const FusedSpec* s, const FusedBand* t, const Parted& p, int planes, int64_t y, int64_t rows,
                      uint8_t* to) {
  const uint8_t* from = t->input + y * s->stride_h * t->row_bytes;
  const __m512i order = order_of_even(t->pixel_bytes);
  for (int64_t r = 0; r < rows_read(s, rows); ++r, from += t->row_bytes, to += p.row) {
    for (int i = 0; i < planes; ++i) {
      uint8_t* const even = to + i * p.plane;
      part_pixels(even, even + p.half, from + i * t->plane_bytes, columns_read(s), t->pixel_bytes, order);
    }
  }
}

// Rows of outputs from y on, read from the input, or from `parted` where it is not null.
static Source source_of(const FusedSpec* s, const FusedBand* t, const Parted& p, int64_t y, const uint8_t* parted) {
  Source source;
  const int64_t row = parted != nullptr ? p.row : t->row_bytes;
  source.in = parted != nullptr ? parted : t->input + y * s->stride_h * t->row_bytes;
  source.row = row * s->dilation_h;
  source.plane = parted != nullptr ? p.plane : t->plane_bytes;
  source.in_row = row * s->stride_h;
  source.in_pixel = t->pixel_bytes * (parted != nullptr ? 1 : s->stride_w);
  for (int kx = 0; kx < s->kernel_w; ++kx) {
    const int64_t x = int64_t{kx} * s->dilation_w;
    source.tap[kx] = parted != nullptr ? x % 2 * p.half + x / 2 * t->pixel_bytes : x * t->pixel_bytes;
  }
  return source;
}

static inline bool is_depthwise(const FusedSpec* s) {
  return s->groups > 1 && s->groups == s->in_channels && s->groups == s->out_channels && s->kernel_h == s->kernel_w;
}

// ---- Costs ----

// Of a vector operation, several at a time: nanoseconds. Intel's measured on Emerald Rapids, the others from how many
// they begin in a cycle.
static double operation_nanoseconds(Machine machine) {
  switch (machine) {
    case Machine::kZen4:
      return 0.14;
    case Machine::kZen5:
      return 0.07;
    case Machine::kIceLake:
    case Machine::kSapphireRapids:
      return 0.21;
    case Machine::kGeneric:
      break;
  }
  return 0.15;
}

// Vectors of an image's outputs.
static double output_vectors(const FusedSpec* s, int64_t pixel, bool adjoin) {
  const int64_t run = int64_t{s->width} * pixel;
  const bool in_run = adjoin && in_one_run(pixel);
  return static_cast<double>(s->height) *
         static_cast<double>(in_run ? (run + 63) / 64 : s->width * ((pixel + 63) / 64));
}

// Operations that bring numbers into the order of lanes, `rows` rows of outputs at a time.
static double gather_operations(const FusedSpec* s, const Numbers& n, int64_t pixel, int64_t rows) {
  const double times = static_cast<double>((s->height + rows - 1) / rows * phases_of(pixel));
  return times * (40.0 + 3.0 * static_cast<double>(n.vectors()));
}

static double parting_operations(const FusedSpec* s, int64_t pixel, int planes) {
  const double rows = static_cast<double>(rows_read(s, s->height));
  return rows * planes * (10.0 + 18.0 * static_cast<double>(columns_read(s) * pixel) / 64.0);
}

constexpr double kCallNanoseconds = 200;
