// Fused depthwise convolutions, 32 channels of some pixels at a time: which layers, weights, what becomes of D. Text of
// a kernel file, after its stages, depthwise_kinds.inl and
//   int32_t dw_word_lane(c), dw_int_lane(c)    where channel c of 32 lies among sums of 16 and of 32 bits
//   int64_t dw_weight_bytes(s, kind)           of 32 channels
//   void dw_put_weights(s, kind, m, c, to)     those of one channel; `to` is zeroed
//   DwSum dw_sum(s, kind)                      what adds
//   void dw_ints(kind, sums, tile)             32 sums in the order of channels, as int32
//   dw_byte_codes(sums, kind, thresholds, levels), dw_word_codes(the same), dw_line_codes(sums, kind, line, n)
//                                              32 codes for put_codes

struct DwShape {
  DwKind kind;
  DwFinish finish;
  int32_t blocks, levels;
  int64_t weights;             // of a block
  int64_t number_at, numbers;  // thresholds in lanes or a line, of a block
  int64_t stage_at, all;       // thresholds for the stages, [level][32], of a block; bytes of a block
  bool in_lanes, staged;       // which thresholds there are
};

static DwKind dw_kind(const FusedSpec* s) {
  const int highest = s->lowest_code + s->code_step * ((1 << s->weight_bits) - 1);
  if (s->weight_bits == 1 && s->code_step == 2 && s->lowest_code == -1 && s->largest_sum <= 126) return kDwBytes;
  return s->lowest_code >= -128 && highest <= 127 && s->largest_sum <= 32766 ? kDwWords : kDwInts;
}

static DwFinish dw_finish(const FusedSpec* s, DwKind kind) {
  const FusedEpilogue* e = &s->epilogue;
  if (!e->wants_codes || !e->codes_from_int || e->wants_float || e->row_classes != 0) return kDwTile;
  if (e->bits <= kDwSearchBits && s->largest_sum <= 126) return kDwByteCodes;
  if (e->rule == kFusedLine && kind != kDwBytes && (e->bits > 3 || s->largest_sum > 32766)) return kDwLine;
  return e->bits <= kDwSearchBits && s->largest_sum <= 32766 ? kDwWordCodes : kDwTile;
}

static DwShape dw_shape(const FusedSpec* s) {
  DwShape f;
  const FusedEpilogue* e = &s->epilogue;
  f.kind = dw_kind(s);
  f.finish = dw_finish(s, f.kind);
  f.blocks = (s->out_channels + kBlock - 1) / kBlock;
  f.levels = e->wants_codes ? (1 << e->bits) - 1 : 0;
  f.weights = dw_weight_bytes(s, f.kind);
  f.number_at = f.weights;
  f.numbers = f.finish == kDwLine   ? 2 * kBlock * 4
              : f.finish == kDwTile ? 0
                                    : f.levels * kBlock * (f.finish == kDwByteCodes ? 1 : 2);
  f.stage_at = f.number_at + f.numbers;
  f.in_lanes = f.finish == kDwByteCodes || f.finish == kDwWordCodes;
  f.staged = f.finish == kDwTile && e->wants_codes && e->rule == kFusedThresholds;
  f.all = (f.stage_at + (f.staged ? int64_t{f.levels} * kBlock * 4 : 0) + 63) / 64 * 64;
  return f;
}

static bool dw_serves(const FusedSpec* s) {
  const FusedEpilogue* e = &s->epilogue;
  return s->groups > 1 && s->groups == s->in_channels && s->groups == s->out_channels && s->kernel_h == s->kernel_w &&
         (s->kernel_h == 3 || s->kernel_h == 5 || s->kernel_h == 7) && !s->input_planes && s->pool.kernel_h == 0 &&
         (!e->wants_codes || e->bits <= kDwSearchBits || e->rule == kFusedLine);
}

static int64_t dw_prepared_bytes(const FusedSpec* s) {
  const DwShape f = dw_shape(s);
  return f.blocks * f.all;
}
static int64_t dw_scratch_bytes(const FusedSpec*) { return int64_t{kDwRows} * kDwPixels * kBlock * 4; }

// ---- What is prepared ----

static int32_t dw_saturated(int32_t x, int32_t most) { return x > most ? most : x < -most - 1 ? -most - 1 : x; }

// Thresholds or the line of channel c of a block, `channel` of all.
static void dw_put_numbers(const FusedSpec* s, const DwShape* f, int channel, int c, uint8_t* block) {
  const FusedEpilogue* e = &s->epilogue;
  const int64_t padded = (s->out_channels + kFusedChannels - 1) / kFusedChannels * kFusedChannels;
  uint8_t* const to = block + f->number_at;
  if (f->finish == kDwLine) {
    __builtin_memcpy(to + 4 * dw_int_lane(c), e->line_multiply + channel, 4);
    __builtin_memcpy(to + 4 * (kBlock + dw_int_lane(c)), e->line_offset + channel, 4);
  }
  for (int j = 0; (f->in_lanes || f->staged) && j < f->levels; ++j) {
    int32_t t;
    __builtin_memcpy(&t, static_cast<const int32_t*>(e->thresholds) + j * padded + channel, 4);
    const int16_t word = static_cast<int16_t>(dw_saturated(t, 32767));
    if (f->finish == kDwByteCodes) to[j * kBlock + c] = static_cast<uint8_t>(dw_saturated(t, 127));
    if (f->finish == kDwWordCodes) __builtin_memcpy(to + 2 * (j * kBlock + dw_word_lane(c)), &word, 2);
    if (f->staged) __builtin_memcpy(block + f->stage_at + 4 * (j * kBlock + c), &t, 4);
  }
}

static bool dw_prepare(const FusedSpec* s, const uint8_t* m, void* prepared) {
  const DwShape f = dw_shape(s);
  const int64_t taps = int64_t{s->kernel_h} * s->kernel_w;
  for (int channel = 0; channel < s->out_channels; ++channel) {
    uint8_t* const block = static_cast<uint8_t*>(prepared) + channel / kBlock * f.all;
    dw_put_weights(s, f.kind, m + channel * taps, channel % kBlock, block);
  }
  // Lanes behind the last channel have thresholds, too, which are out of reach.
  for (int channel = 0; channel < f.blocks * kBlock; ++channel) {
    dw_put_numbers(s, &f, channel, channel % kBlock, static_cast<uint8_t*>(prepared) + channel / kBlock * f.all);
  }
  return true;
}

// ---- What becomes of D ----

// Pixels of a row.
struct DwRow {
  const FusedSpec* spec;
  const DwShape* shape;
  const uint8_t* block;  // what is prepared of the channels
  int32_t channel, channels, pixels;
  uint8_t* codes[kDwPixels];  // of channel 0, as the following
  float* out[kDwPixels];
  const float* residual[kDwPixels];
  const int32_t* border[kDwPixels];
  int64_t codes_plane;
};

static CodeStage dw_code_stage(const DwRow* t, uint8_t** codes) {
  const FusedEpilogue* e = &t->spec->epilogue;
  CodeStage stage = {};
  for (int p = 0; p < t->pixels; ++p) codes[p] = t->codes[p] + (e->planes ? t->channel / 8 : t->channel);
  stage.out = codes;
  stage.out_plane_bytes = t->codes_plane;
  stage.pixels = t->pixels;
  stage.channels = t->channels;
  stage.bits = e->bits;
  stage.planes = e->planes;
  return stage;
}

// Codes of D or y by the stages; unit: a line of x * n for all channels.
static void dw_staged_codes(const DwRow* t, const Correction* correction, const int32_t* tile) {
  const FusedEpilogue* e = &t->spec->epilogue;
  alignas(32) float unit[kBlock], zero[kBlock] = {};
  for (float& n : unit) n = static_cast<float>(t->shape->levels);
  uint8_t* codes[kDwPixels];
  CodeStage stage = dw_code_stage(t, codes);
  stage.correction = *correction;
  stage.rule = e->rule == kFusedLine ? kAffine : kCompare;
  stage.multiply = e->line_multiply == nullptr ? unit : e->line_multiply + t->channel;
  stage.offset = e->line_offset == nullptr ? zero : e->line_offset + t->channel;
  stage.thresholds = t->block + t->shape->stage_at;
  e->codes_from_int ? int_to_codes(&stage, tile) : float_to_codes(&stage, tile);
}

static void dw_finish_tile(const DwRow* t, const uint8_t* sums) {
  const FusedEpilogue* e = &t->spec->epilogue;
  alignas(64) int32_t tile[kDwPixels * kBlock];
  for (int p = 0; p < t->pixels; ++p) {
    dw_ints(t->shape->kind, sums + p * kBlock * dw_lane_bytes(t->shape->kind), tile + p * kBlock);
  }
  const int32_t* border[kDwPixels];
  for (int p = 0; p < t->pixels && e->border != nullptr; ++p) border[p] = t->border[p] + t->channel;
  const Correction correction = {nullptr, e->border == nullptr ? nullptr : border, 0};
  if (e->wants_codes && e->codes_from_int) dw_staged_codes(t, &correction, tile);
  if (!e->has_float || (!e->wants_float && e->codes_from_int)) return;
  const float* residual[kDwPixels];
  float* out[kDwPixels];
  for (int p = 0; p < t->pixels; ++p) {
    if (e->has_residual) residual[p] = t->residual[p] + t->channel;
    if (e->wants_float) out[p] = t->out[p] + t->channel;
  }
  const bool norm = e->norm_multiply != nullptr;
  const FloatStage stage = {correction,
                            e->multiply + t->channel,
                            e->offset + t->channel,
                            norm ? e->norm_multiply + t->channel : nullptr,
                            norm ? e->norm_offset + t->channel : nullptr,
                            e->has_residual ? residual : nullptr,
                            t->pixels,
                            t->channels,
                            e->relu,
                            e->wants_float ? out : nullptr};
  int_to_float(&stage, tile);
  if (e->wants_codes && !e->codes_from_int) dw_staged_codes(t, &correction, tile);
}

static __attribute__((noinline)) void dw_finish_row(const DwRow* t, const uint8_t* sums) {
  const DwShape* f = t->shape;
  if (f->finish == kDwTile) return dw_finish_tile(t, sums);
  uint8_t* codes[kDwPixels];
  const CodeStage stage = dw_code_stage(t, codes);
  const uint8_t* const numbers = t->block + f->number_at;
  const int size = kBlock * dw_lane_bytes(f->kind);
  for (int p = 0; p < t->pixels; ++p, sums += size) {
    if (f->finish == kDwByteCodes) {
      put_codes(&stage, p, dw_byte_codes(sums, f->kind, numbers, f->levels));
    } else if (f->finish == kDwWordCodes) {
      put_codes(&stage, p, dw_word_codes(sums, f->kind, numbers, f->levels));
    } else {
      put_codes(&stage, p, dw_line_codes(sums, f->kind, reinterpret_cast<const float*>(numbers), f->levels));
    }
  }
}

// ---- Running ----

// Where pixels x .. x + t->pixels - 1 of row y of the band come from and go to.
static void dw_locate(const FusedBand* b, int64_t y, int64_t x, DwRow* t) {
  const FusedEpilogue* e = &t->spec->epilogue;
  const int64_t padded = (t->spec->out_channels + kFusedChannels - 1) / kFusedChannels * kFusedChannels;
  for (int p = 0; p < t->pixels; ++p, ++x) {
    if (e->wants_codes) t->codes[p] = b->codes + y * b->codes_row + x * b->codes_pixel;
    if (e->wants_float) t->out[p] = b->out + (y * b->out_row + x * b->out_pixel) / 4;
    if (e->has_residual) t->residual[p] = b->residual + (y * b->residual_row + x * b->residual_pixel) / 4;
    if (e->border == nullptr) continue;
    t->border[p] = e->border + (e->row_class[b->y0 + y] * int64_t{e->column_classes} + e->column_class[x]) * padded;
  }
}

static DwWindow dw_window(const FusedSpec* s, const FusedBand* b) {
  DwWindow window;
  window.row = s->dilation_h * b->row_bytes;
  for (int kx = 0; kx < s->kernel_w; ++kx) window.tap[kx] = int64_t{kx} * s->dilation_w * b->pixel_bytes;
  window.in_row = s->stride_h * b->row_bytes;
  window.in_pixel = s->stride_w * b->pixel_bytes;
  return window;
}

static void dw_run(const FusedSpec* s, const FusedBand* b) {
  const DwShape f = dw_shape(s);
  const DwWindow window = dw_window(s, b);
  const DwSum sum = dw_sum(s, f.kind);
  DwRow rows[kDwRows];
  for (DwRow& row : rows) {
    row.spec = s;
    row.shape = &f;
    row.codes_plane = b->codes_plane;
  }
  const int64_t row_sums = int64_t{kDwPixels} * kBlock * dw_lane_bytes(f.kind);
  const int last = b->first_channel + b->channels;
  for (int y = 0; y < b->rows; y += kDwRows) {
    const int live = b->rows - y < kDwRows ? b->rows - y : kDwRows;
    for (int x = 0; x < s->width; x += kDwPixels) {
      const int pixels = s->width - x < kDwPixels ? s->width - x : kDwPixels;
      for (int r = 0; r < live; ++r) {
        rows[r].pixels = pixels;
        dw_locate(b, y + r, x, rows + r);
      }
      const uint8_t* const in = b->input + y * window.in_row + x * window.in_pixel;
      for (int c = b->first_channel; c < last; c += kBlock) {
        const uint8_t* const block = static_cast<const uint8_t*>(b->prepared) + c / kBlock * f.all;
        sum(in + c, &window, block, pixels, live, b->scratch);
        for (int r = 0; r < live; ++r) {
          rows[r].block = block;
          rows[r].channel = c;
          rows[r].channels = last - c < kBlock ? last - c : kBlock;
          dw_finish_row(rows + r, b->scratch + r * row_sums);
        }
      }
    }
  }
}
