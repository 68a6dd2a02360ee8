// The kernels depthwise8 and depthwise4: which layers they serve, their weights, their rows. Part of
// fused_depthwise.cpp.

using SumFunction = void (*)(const Column&, uint8_t* sums);

// ---- The sums' two kinds ----

// Each says whether it serves a layer, how many numbers per channel its weights are, writes those of a channel, and
// which function adds.

// What sums, what follows them, the weights of a row of outputs, channels taken apart and a call take, in operations as
// they are counted; how much more a stride does, whose reads have gaps; and 64 bytes of weights that the first-level
// cache does not hold. Fitted to layers of networks on Emerald Rapids.
struct Shares {
  double sum, finish, gather, part, call, stride, far;
};

struct Bytes {
  static constexpr bool kInts = false;
  static constexpr int64_t kSize = 64;  // of a vector's sums
  static constexpr int kRowsAtOnce = 8;

  static bool serves(const FusedSpec* s) {
    return s->weight_bits == 1 && s->code_step == 2 && s->lowest_code == -1 && sums_fit_lanes<1>(s) &&
           s->largest_sum <= 126;
  }
  static Numbers weights(const FusedSpec* s) { return {0, 0, s->kernel_h * s->kernel_w + 1}; }
  static void write(const FusedSpec* s, const uint8_t* m, const Numbers& n, int64_t pixel, int64_t c, uint8_t* to) {
    const int taps = s->kernel_h * s->kernel_w;
    uint8_t negative = 0;
    for (int k = 0; k < taps; ++k) {
      if (m[k] != 0) continue;
      byte_of(n, pixel, to, k)[c] = 255;
      ++negative;
    }
    byte_of(n, pixel, to, taps)[c] = negative;
  }
  // Per vector. Without registers for all signs each is loaded once more.
  static constexpr Shares kShares = {0.798, 1.19, 1.32, 1.2, 47.6, 1.08, 0.938};
  static double sum_operations(const FusedSpec* s) {
    const double taps = s->kernel_h * s->kernel_w;
    return 2 + (taps <= 9 ? 2 : 3.2) * taps;
  }
  static SumFunction sum(const FusedSpec* s) {
    return s->kernel_h == 3 ? sum_bytes<3> : s->kernel_h == 5 ? sum_bytes<5> : sum_bytes<7>;
  }
};

struct Quads {
  static constexpr bool kInts = true;
  static constexpr int64_t kSize = 256;
  static constexpr int kRowsAtOnce = 4;

  // Of the odd grid, 8 bits do not fit int8, but (c - 1) / 2 does.
  static bool halves(const FusedSpec* s) { return s->code_step == 2 && s->lowest_code == -255; }
  static bool serves(const FusedSpec* s) {
    const int32_t most = s->code_step * ((1 << s->weight_bits) - 1) + s->lowest_code;
    return s->stride_h <= 2 && s->dilation_h == 1 && (halves(s) || (s->lowest_code >= -128 && most <= 127));
  }

  // f(Sharing) of this layer. Halves have twice as many sums.
  template <class F>
  static void with_sharing(const FusedSpec* s, const F& f) {
    if (s->stride_h == 1) {
      if (s->kernel_h == 3) return f(Sharing<3, 1, 2>{});
      if (s->kernel_h == 5) return halves(s) ? f(Sharing<5, 1, 2>{}) : f(Sharing<5, 1, 4>{});
      return f(Sharing<7, 1, 2>{});
    }
    if (s->kernel_h == 3) return f(Sharing<3, 2, 1>{});
    if (s->kernel_h == 5) return f(Sharing<5, 2, 2>{});
    f(Sharing<7, 2, 1>{});
  }

  static Numbers weights(const FusedSpec* s) {
    Numbers n = {};
    with_sharing(s, [&](auto sharing) { n.dwords = s->kernel_w * decltype(sharing)::kUsed; });
    return n;
  }

  static void write(const FusedSpec* s, const uint8_t* m, const Numbers& n, int64_t pixel, int64_t c, uint8_t* to) {
    with_sharing(s, [&](auto sharing) {
      using S = decltype(sharing);
      for (int k = 0; k < S::kKernel * S::kKernel; ++k) {
        const int ky = k / S::kKernel, kx = k % S::kKernel;
        const int code = halves(s) ? m[k] - 128 : s->code_step * m[k] + s->lowest_code;
        for (int r = 0; r < S::kRows; ++r) {
          const int row = r * S::kStride + ky, number = kx * S::kUsed + S::index(r, row / 4);
          dword_of(n, pixel, to, number)[4 * c + row % 4] = static_cast<uint8_t>(code);
        }
      }
    });
  }

  static constexpr Shares kShares = {1.28, 1.01, 0.141, 1.06, 47.6, 0.905, 3.77};
  static double sum_operations(const FusedSpec* s) {
    double operations = 4;
    with_sharing(s, [&](auto sharing) {
      using S = decltype(sharing);
      const bool slides = S::kKernel == 3 && s->stride_h == 1 && s->stride_w == 1 && s->in_channels % 64 == 0;
      const double columns = slides ? 1 : S::kKernel;
      const double products = (halves(s) ? 8.0 : 4.0) * S::kKernel * S::kUsed, moves = 8.0 * columns * S::kGroups;
      operations += (S::kKernel == 3 ? 1.0 : 1.25) * (products + moves) / S::kRows;
    });
    return operations;
  }

  static SumFunction sum(const FusedSpec* s) {
    SumFunction function = nullptr;
    with_sharing(s, [&](auto sharing) {
      // Halves take two rows at a time at most.
      constexpr bool narrow = decltype(sharing)::kRows <= 2;
      function = narrow && halves(s) ? quads<decltype(sharing), narrow> : quads<decltype(sharing), false>;
    });
    return function;
  }
};

// ---- Layers ----

static bool has_border(const FusedSpec* s) { return s->epilogue.row_classes != 0; }

// Thresholds of more bits than 4 would be counted.
template <class Kind>
static bool serves(const FusedSpec* s) {
  const int k = s->kernel_h;
  const FusedEpilogue& e = s->epilogue;
  if (e.wants_codes && e.bits > 4 && e.rule != kFusedLine) return false;
  return is_depthwise(s) && (k == 3 || k == 5 || k == 7) && !s->input_planes && Kind::serves(s);
}

// Codes or floats in the lanes of the sums, where they are all that leaves and no pixel has a border or a residual of
// its own.
template <class Kind>
static Finish finish_for(const FusedSpec* s) {
  const FusedEpilogue& e = s->epilogue;
  if (!e.wants_codes && !has_border(s) && !e.has_residual) return kFloats;
  const bool direct = e.wants_codes && !e.wants_float && !has_border(s) && (!e.planes || s->out_channels % 8 == 0);
  if (!direct) return kKeep;
  if (!e.codes_from_int) return Kind::kInts && e.rule == kFusedLine && !e.has_residual ? kLine : kKeep;
  // The thresholds of up to 4 bits are there, too, and 3 comparisons are less than a line.
  if (e.rule == kFusedLine && Kind::kInts && (e.bits > 3 || s->largest_sum > 126)) return kLine;
  if (e.bits > 4) return kKeep;
  if (s->largest_sum <= 126) return kByteLanes;
  return Kind::kInts && s->largest_sum <= kMostInLane<2> - 1 ? kWordLanes : kKeep;
}

// The numbers of the weights, then those of the finish.
template <class Kind>
static Numbers numbers_for(const FusedSpec* s) {
  Numbers n = Kind::weights(s);
  const int32_t levels = (1 << s->epilogue.bits) - 1;
  const Finish finish = finish_for<Kind>(s);
  if (finish == kByteLanes) n.bytes += levels;
  if (finish == kWordLanes) n.words += levels;
  if (finish == kLine) n.dwords += s->epilogue.codes_from_int ? kLineDwords : kLineOfYDwords;
  if (finish == kFloats) n.dwords += kYDwords;
  return n;
}

static int32_t saturated(int32_t x, int32_t most) { return x > most ? most : x < -most - 1 ? -most - 1 : x; }

template <class Kind>
static void write_finish(const FusedSpec* s, const FusedLineRule& line, const Numbers& n, uint8_t* to) {
  const FusedEpilogue& e = s->epilogue;
  const Numbers weights = Kind::weights(s);
  const int64_t pixel = s->in_channels, padded = padded_channels(s);
  const Finish finish = finish_for<Kind>(s);
  if (finish == kKeep) return;
  for (int64_t c = 0; c < pixel; ++c) {
    if (finish == kLine || finish == kFloats) {
      write_line(s, line, n, weights.dwords, c, to);
      continue;
    }
    for (int j = 0; j < (1 << e.bits) - 1; ++j) {
      const int32_t d = static_cast<const int32_t*>(e.thresholds)[j * padded + c];
      if (finish == kByteLanes) {
        byte_of(n, pixel, to, weights.bytes + j)[c] = static_cast<uint8_t>(saturated(d, kMostInLane<1>));
      } else {
        const int16_t word = static_cast<int16_t>(saturated(d, kMostInLane<2>));
        __builtin_memcpy(word_of(n, pixel, to, weights.words + j) + 2 * c, &word, 2);
      }
    }
  }
}

template <class Kind>
static bool prepare(const FusedSpec* s, const uint8_t* m, void* prepared) {
  const Numbers n = numbers_for<Kind>(s);
  uint8_t* const to = static_cast<uint8_t*>(prepared) + prepared_line_bytes(s);
  const int64_t pixel = s->in_channels, taps = int64_t{s->kernel_h} * s->kernel_w;
  if (!prepare_line(s, prepared)) return false;
  for (int64_t c = 0; c < pixel; ++c) Kind::write(s, m + c * taps, n, pixel, c, to);
  write_finish<Kind>(s, prepared_line(s, prepared), n, to);
  repeat_numbers(n, pixel, to);
  return true;
}

template <class Kind>
static int64_t prepared_bytes(const FusedSpec* s) {
  return prepared_line_bytes(s) + all_number_bytes(numbers_for<Kind>(s), s->in_channels);
}

// ---- Rows ----

constexpr int64_t kSumBytes = 16 << 10;  // of vectors at a time
constexpr int64_t kKeptBytes = 2 << 10;  // channels of a run of pixels whose D is kept
constexpr int kPixels = 64;              // that floats are made of at a time

static bool parts(const FusedSpec* s) { return s->stride_w == 2 && s->in_channels < 64; }

// Scratch: numbers, sums, parted rows, kept D.
template <class Kind>
struct Room {
  int64_t sums, parted, kept, bytes;
  int64_t kept_row, kept_pixels;

  explicit Room(const FusedSpec* s) {
    constexpr int rows = Kind::kRowsAtOnce;
    sums = numbers_for<Kind>(s).vectors() * 64;
    parted = sums + kSumBytes;
    kept = parted + (parts(s) ? parted_rows(s, s->in_channels, 1).row * rows_read(s, rows) : 0);
    const int64_t pixels = kKeptBytes / s->in_channels;
    kept_pixels = pixels < 1 ? 1 : pixels < kPixels ? pixels : kPixels;
    kept_row = (kept_pixels * s->in_channels * (Kind::kInts ? 4 : 1) + 127) / 64 * 64;
    bytes = kept + (finish_for<Kind>(s) == kKeep ? kept_row * rows : 0);
  }
};

template <class Kind>
static int64_t scratch_bytes(const FusedSpec* s) {
  return Room<Kind>(s).bytes;
}

// Pixels x .. x + count - 1 of row y of the band, from D that was kept.
template <class Kind>
static void finish_kept(const FusedSpec* s, const FusedBand* t, int64_t y, int64_t x, int32_t count,
                        const uint8_t* kept) {
  const FusedEpilogue& e = s->epilogue;
  const int64_t padded = padded_channels(s);
  uint8_t* codes[kPixels];
  float* out[kPixels];
  const float* residual[kPixels];
  const int32_t* border[kPixels];
  for (int32_t p = 0; p < count; ++p) {
    if (e.wants_codes) codes[p] = t->codes + y * t->codes_row + (x + p) * t->codes_pixel;
    const auto floats = [&](auto* base, int64_t row, int64_t pixel) { return base + (y * row + (x + p) * pixel) / 4; };
    if (e.wants_float) out[p] = floats(t->out, t->out_row, t->out_pixel);
    if (e.has_residual) residual[p] = floats(t->residual, t->residual_row, t->residual_pixel);
  }
  const int32_t* const rows = has_border(s) ? e.border + e.row_class[t->y0 + y] * e.column_classes * padded : nullptr;
  for (int32_t c = t->first_channel; c < t->first_channel + t->channels; c += 64) {
    for (int32_t p = 0; p < count && rows != nullptr; ++p) border[p] = rows + e.column_class[x + p] * padded + c;
    const int32_t left = t->first_channel + t->channels - c;
    const FusedPixels pixels = {&e, count, c, left < 64 ? left : 64, codes, out, residual, t->codes_plane};
    const KeptSums<Kind::kInts> sums = {kept + (Kind::kInts ? 4 : 1) * c, s->in_channels,
                                        rows == nullptr ? nullptr : border};
    if (e.rule == kFusedLine) {
      finish_int_codes<kLineCodes>(&pixels, static_cast<int>(padded), sums);
    } else {
      finish_int_codes<kThresholdCodes>(&pixels, static_cast<int>(padded), sums);
    }
    finish_y(&pixels, static_cast<int>(padded), sums);
  }
}

template <class Kind>
class Rows {
 public:
  Rows(const FusedSpec* s, const FusedBand* t)
      : s_(s), t_(t), room_(s), finish_(finish_for<Kind>(s)), sum_(Kind::sum(s)) {
    const Numbers n = numbers_for<Kind>(s), weights = Kind::weights(s);
    parted_ = parts(s) ? parted_rows(s, s->in_channels, 1) : Parted{};
    walk_ = {};
    walk_.numbers = n;
    walk_.prepared = static_cast<const uint8_t*>(t->prepared) + prepared_line_bytes(s);
    walk_.gathered = reinterpret_cast<__m512i*>(t->scratch);
    walk_.first_number = Kind::kInts ? 0 : 4 * n.dwords;
    walk_.pixel = s->in_channels;
    walk_.out_scale = 1;
    walk_.first = t->first_channel;
    walk_.wanted = t->channels;
    sums_ = {};
    sums_.from = t->scratch + room_.sums;
    // Numbers of one size follow one another: what was added to the weights' is the last of its size.
    sums_.numbers =
        walk_.gathered + (finish_ == kLine || finish_ == kFloats ? 4 * weights.dwords
                                                                 : 4 * n.dwords + 2 * weights.words + weights.bytes);
    sums_.plane = t->codes_plane;
    sums_.planes = s->epilogue.planes != 0;
    sums_.bits = s->epilogue.bits;
    sums_.least = s->epilogue.relu ? 0.0f : -__builtin_inff();
    sums_.norms = s->epilogue.norm_multiply != nullptr;
    finish_columns_ = finish_ == kLine     ? line_columns_of(line_form(s, prepared_line(s, t->prepared).kind))
                      : finish_ == kFloats ? float_columns<Kind::kInts>
                                           : finish_of<Kind::kInts>(finish_, s->epilogue.bits);
  }

  void run() {
    for (int32_t y = 0; y < t_->rows; y += Kind::kRowsAtOnce) {
      const int32_t left = t_->rows - y;
      run_rows(y, left < Kind::kRowsAtOnce ? left : Kind::kRowsAtOnce);
    }
  }

 private:
  void run_rows(int64_t y, int32_t rows) {
    uint8_t* const parted = parts(s_) ? t_->scratch + room_.parted : nullptr;
    if (parted != nullptr) part_rows(s_, t_, parted_, 1, y, rows, parted);
    walk_.source = source_of(s_, t_, parted_, y, parted);
    walk_.rows = rows;
    walk_.most_columns = static_cast<int32_t>(kSumBytes / Kind::kSize / rows);
    if (finish_ != kKeep) {
      sums_.row = finish_ == kFloats ? t_->out_row : t_->codes_row;
      sums_.to = (finish_ == kFloats ? reinterpret_cast<uint8_t*>(t_->out) : t_->codes) + y * sums_.row;
      walk_.out_pixel = finish_ == kFloats ? t_->out_pixel / 4 : sums_.planes ? t_->codes_pixel * 8 : t_->codes_pixel;
      return run_pixels(s_->width);
    }
    uint8_t* const kept = t_->scratch + room_.kept;
    walk_.out_pixel = walk_.pixel;
    sums_.to = kept;
    sums_.row = room_.kept_row;
    for (int64_t x = 0; x < s_->width; x += room_.kept_pixels) {
      const int32_t left = static_cast<int32_t>(s_->width - x), most = static_cast<int32_t>(room_.kept_pixels);
      const int32_t count = left < most ? left : most;
      run_pixels(count);
      walk_.source.in += count * walk_.source.in_pixel;
      for (int32_t r = 0; r < rows; ++r) finish_kept<Kind>(s_, t_, y + r, x, count, kept + r * room_.kept_row);
    }
  }

  void run_pixels(int32_t pixels) {
    walk_.pixels = pixels;
    walk(walk_, [&](const Column& c) {
      sum_(c, t_->scratch + room_.sums);
      finish_columns_(c, sums_);
    });
  }

  const FusedSpec* s_;
  const FusedBand* t_;
  Room<Kind> room_;
  Finish finish_;
  SumFunction sum_;
  FinishFunction finish_columns_;
  Parted parted_;
  Walk walk_;
  Sums sums_;
};

template <class Kind>
static void run(const FusedSpec* s, const FusedBand* t) {
  Rows<Kind>(s, t).run();
}

// Operations per vector of 64 outputs, after its sums.
template <class Kind>
static double finish_operations(const FusedSpec* s) {
  const FusedEpilogue& e = s->epilogue;
  const double compares = 1 << e.bits;
  switch (finish_for<Kind>(s)) {
    case kByteLanes:
      return 4 + 3 * compares;
    case kWordLanes:
      return 12 + 4 * compares;
    case kLine:
      return e.codes_from_int ? 20 : 32;
    case kFloats:
      return Kind::kInts ? 36 : 46;
    case kKeep:
      break;
  }
  double operations = Kind::kInts ? 40 : 20;
  if (e.has_float) operations += 50 + (e.has_residual ? 16 : 0);
  if (e.wants_codes) operations += e.rule == kFusedLine ? 30 : 10 + 8 * compares;
  return operations;
}

constexpr double kNearNumbers = 1 << 15;  // bytes

template <class Kind>
static double cost(const FusedSpec* s, Machine machine) {
  if (!serves<Kind>(s)) return -1;
  const int64_t pixel = s->in_channels;
  const Shares r = Kind::kShares;
  const double vector = Kind::sum_operations(s) * r.sum + finish_operations<Kind>(s) * r.finish;
  double operations =
      (s->stride_w == 1 ? 1.0 : r.stride) * vector * output_vectors(s, pixel, s->stride_w == 1 || parts(s));
  operations += r.gather * gather_operations(s, numbers_for<Kind>(s), pixel, Kind::kRowsAtOnce);
  if (parts(s)) operations += r.part * parting_operations(s, pixel, 1);
  const double numbers = 4.0 * s->kernel_h * s->kernel_w * s->in_channels;
  if (numbers > kNearNumbers) operations += r.far * numbers / 64 * s->height;
  return (r.call + operations) * operation_nanoseconds(machine);
}

template <class Kind>
static constexpr FusedKernel kernel(const char* name) {
  return {name, cost<Kind>, prepared_bytes<Kind>, prepare<Kind>, scratch_bytes<Kind>, run<Kind>};
}
