// Running a convolution: parts of the output, bands of pixels within a part, tiles within a band.
//
//                    blocks of output channels (kBlock = 32 each)
//                 b0     b1     b2     b3
//   pixels of   +------+------+------+------+
//   the batch,  | part 0      | part 1      |     a part: what one thread begins with, see shared_ranges.h; parts
//   row by row  |             |             |     divide pixels, blocks, or both
//               +------+------+------+------+
//               | part 2      | part 3      |
//               +------+------+------+------+
//
//   within a part:   for each band of about kBand pixels     addresses, window sums and staged rows are made once
//                      for each block of the part            its weights are read once per band
//                        for each tile of the band           one call of a kernel, then of the stages that follow
//
// A band serves all blocks before the next one begins, so what depends on the pixel alone is not worked out per block,
// and a block serves all tiles of the band, so its weights come from the cache. The accumulators of a tile go to the
// next stage through tile_, at most 64 pixels x 128 channels x 4 bytes = 32 KiB, and leave as codes: int32 sums of a
// whole layer are never written to memory unless they are asked for.
#include <algorithm>
#include <cstring>

#include "core/base/checked.h"
#include "core/base/shared_ranges.h"
#include "core/conv/conv_state.h"

namespace bitorch {

namespace {

// Output pixels that are prepared at a time: their addresses, window sums and staged input stay in the first-level
// cache. (A Band is 6.5 KiB.)
constexpr int64_t kBand = 128;
// An image of floats that a second-level cache does not hold.
constexpr int64_t kLargeImage = 1 << 20;
// Parts begin at multiples of this many pixels, which is what kernels hold in registers.
constexpr int64_t kGrain = 8, kTableGrain = 4;
constexpr int64_t kTileBytes = kMaxTilePixels * kMaxTableBlock * 4;

struct Band {
  int64_t count;
  const uint8_t* input[kBand];  // address of the window, of the current block's first channel
  int64_t out_int[kBand], out_float[kBand], out_codes[kBand], residual[kBand];  // byte offsets of channel 0
  const int32_t* border[kBand];                                                 // rows of the current block
  int32_t add[kBand];
};

// Rows of the input that a part has staged: `count` rows of image n from padded row `first`, at row `position` of the
// buffer.
struct Staged {
  int64_t n = -1, first = 0, count = 0, position = 0;
};

// One part at work.
class Part {
 public:
  Part(const ConvState& state, const Conv::Buffers& buffers, uint8_t* scratch)
      : s_(state), g_(state.geometry), buffers_(buffers) {
    tile_ = reinterpret_cast<int32_t*>(scratch);
    scratch += kTileBytes;
    band_ = reinterpret_cast<Band*>(scratch);
    scratch += round_up(sizeof(Band), 64);
    sum_tags_ = reinterpret_cast<int64_t*>(scratch);
    scratch += round_up(s_.sum_rows * 8, 64);
    sums_ = scratch;
    scratch += s_.sum_bytes();
    stage_ = scratch;
    for (int64_t r = 0; r < s_.sum_rows; ++r) sum_tags_[r] = -1;
  }

  // Output pixels first .. last - 1 of the whole batch, blocks b0 .. b1 - 1.
  void run(int64_t first, int64_t last, int64_t b0, int64_t b1, int64_t tile) {
    const int64_t width = std::max(tile, kBand / tile * tile);
    for (int64_t p = first; p < last; p += width) {
      locate(p, std::min(width, last - p));
      int64_t group = -1, offset = 0;
      for (int64_t b = b0; b < b1; b += s_.blocks_per_call) {
        const ConvBlock& block = s_.weights->blocks[b];
        if (s_.sum_scale != 0 && block.group != group) window_sums(p, block.group);
        group = block.group;
        if (block.input_offset != offset) {
          for (int64_t i = 0; i < band_->count; ++i) band_->input[i] += block.input_offset - offset;
          offset = block.input_offset;
        }
        for (int64_t i = 0; i < band_->count; i += tile) {
          run_tile(b, std::min(b + s_.blocks_per_call, b1), i, static_cast<int32_t>(std::min(tile, band_->count - i)));
        }
      }
    }
  }

 private:
  struct Position {
    int64_t n, y, x;
  };
  Position position(int64_t p) const {
    const int64_t image = s_.out_pixels(), width = s_.out_width;
    return {p / image, p % image / width, p % width};
  }

  // Addresses of the pixels p .. p + count - 1.
  void locate(int64_t p, int64_t count) {
    Band& band = *band_;
    band.count = count;
    if (s_.staged()) stage_band(p, count);
    for (int64_t i = 0; i < count;) {
      const Position at = position(p + i);
      const int64_t run = std::min(count - i, s_.out_width - at.x);
      locate_row(at, i, run);
      i += run;
    }
  }

  // Pixels i .. i + count - 1 of the band, which lie side by side from `at` on.
  void locate_row(const Position& at, int64_t i, int64_t count) {
    Band& band = *band_;
    const uint8_t* input = buffers_.input;
    if (s_.staged()) {
      const int64_t column = at.x * g_.stride_w + s_.input.halo.left - g_.pad_left;
      input = stage_ + staged_row(at) * s_.format.row_bytes + column * s_.format.pixel_bytes;
    } else {
      input += s_.input.offset(at.n, at.y * g_.stride_h - g_.pad_top, at.x * g_.stride_w - g_.pad_left);
    }
    const int64_t step = g_.stride_w * s_.format.pixel_bytes;
    for (int64_t k = 0; k < count; ++k) band.input[i + k] = input + k * step;
    if (s_.wants_int) locate_in(s_.out_int, at, count, band.out_int + i);
    if (s_.wants_float) locate_in(s_.out_float, at, count, band.out_float + i);
    if (s_.wants_codes) locate_in(s_.out_codes, at, count, band.out_codes + i);
    if (s_.has_residual) locate_in(s_.residual, at, count, band.residual + i);
    if (s_.border == nullptr) return;
    const int64_t row = s_.border->row_class[at.y] * s_.border->column_classes;
    for (int64_t k = 0; k < count; ++k) {
      const int64_t klass = row + s_.border->column_class[at.x + k];
      band.border[i + k] = s_.border->sums.data() + klass * s_.weights->blocks.size() * kBlock;
    }
  }

  static void locate_in(const Layout& layout, const Position& at, int64_t count, int64_t* offsets) {
    const int64_t first = layout.offset(at.n, at.y, at.x);
    for (int64_t k = 0; k < count; ++k) offsets[k] = first + k * layout.pixel_bytes;
  }

  // add[i] = sum_scale * sum of the codes in the window of pixel p + i, over the channels of one group.
  void window_sums(int64_t p, int64_t group) {
    Band& band = *band_;
    const int64_t width = s_.out_width;
    for (int64_t i = 0; i < band.count;) {
      const Position at = position(p + i);
      const int64_t count = std::min(band.count - i, width - at.x);
      int32_t* add = band.add + i;
      const int32_t* row = column_sums(at, (count - 1) * g_.stride_w + (g_.kernel_w - 1) * g_.dilation_w + 1, group);
      std::memset(add, 0, static_cast<size_t>(count) * 4);
      for (int64_t kx = 0; kx < g_.kernel_w; ++kx)
        s_.kernels->rows.add_ints(add, row + kx * g_.dilation_w, g_.stride_w, count);
      // Modulo 2^32: D itself fits, its terms need not.
      const auto scale = static_cast<uint32_t>(s_.sum_scale);
      for (int64_t x = 0; x < count; ++x) add[x] = static_cast<int32_t>(static_cast<uint32_t>(add[x]) * scale);
      i += count;
    }
  }

  // Sums over the channels and the kernel's rows of `columns` columns, from the first one that `at` reads.
  const int32_t* column_sums(const Position& at, int64_t columns, int64_t group) {
    const int64_t y = at.y * g_.stride_h, x = at.x * g_.stride_w;
    if (g_.kernel_h == 1) return pixel_sums(at.n, y, group) + x;
    int32_t* sums = reinterpret_cast<int32_t*>(sums_ + s_.sum_rows * s_.sum_row_bytes);
    std::memcpy(sums, pixel_sums(at.n, y, group) + x, static_cast<size_t>(columns) * 4);
    for (int64_t ky = 1; ky < g_.kernel_h; ++ky) {
      s_.kernels->rows.add_ints(sums, pixel_sums(at.n, y + ky * g_.dilation_h, group) + x, 1, columns);
    }
    return sums;
  }

  // Sums over the channels of each pixel of padded row y (row 0 is pad_top above the image), kept in a ring.
  //
  //   slot of row y: y % sum_rows         sum_rows = rows that a window spans, so no two of a window share a slot
  //   | y=3 | y=4 | y=2 |  3 slots        tag: which image, row and group a slot holds
  //
  // Output rows below each other share input rows: a row of pixels is summed once for all kernel rows that read it, and
  // a window sum is then about kernel_h + kernel_w additions.
  const int32_t* pixel_sums(int64_t n, int64_t y, int64_t group) {
    const int64_t padded = g_.height + g_.pad_top + g_.pad_bottom;
    const int64_t tag = (n * padded + y) * g_.groups + group;
    const int64_t slot = (n * padded + y) % s_.sum_rows;
    int32_t* sums = reinterpret_cast<int32_t*>(sums_ + slot * s_.sum_row_bytes);
    if (sum_tags_[slot] == tag) return sums;
    const int64_t channels = g_.in_channels / g_.groups;
    const bool planes = s_.input.kind == Kind::kPlanes;
    PixelSums request;
    request.row = buffers_.input + s_.input.offset(n, y - g_.pad_top, -g_.pad_left) +
                  (planes ? group * channels / 8 : group * channels);
    request.pixel_bytes = s_.input.pixel_bytes;
    request.plane_bytes = s_.input.plane_bytes;
    request.sums = sums;
    request.pixels = static_cast<int32_t>(g_.width + g_.pad_left + g_.pad_right);
    request.bytes = static_cast<int32_t>(planes ? ceil_div(channels, 8) : channels);
    request.bits = s_.activation_bits;
    request.planes = planes;
    s_.kernels->pixel_sums(&request);
    sum_tags_[slot] = tag;
    return sums;
  }

  // Padded rows that output rows y0 .. y1 read: first, and how many.
  int64_t first_row(int64_t y0) const { return y0 * g_.stride_h; }
  int64_t past_row(int64_t y1) const { return y1 * g_.stride_h + (g_.kernel_h - 1) * g_.dilation_h + 1; }

  void stage_band(int64_t p, int64_t count) {
    const Position a = position(p), z = position(p + count - 1);
    if (a.n == z.n) {
      stage_slide(a.n, first_row(a.y), past_row(z.y));
      band_first_n_ = a.n;
      return;
    }
    // Several small images: each one's rows after the other's.
    band_first_n_ = a.n;
    staged_ = Staged();
    int64_t position = 0;
    for (int64_t n = a.n; n <= z.n; ++n) {
      const int64_t r0 = first_row(n == a.n ? a.y : 0), r1 = past_row(n == z.n ? z.y : s_.out_height - 1);
      stage_rows(n, r0, r1, position);
      if (n == a.n) first_base_ = {n, r0, r1 - r0, 0};
      if (n == a.n + 1) second_base_ = position;
      staged_ = {n, r0, r1 - r0, position};
      position += r1 - r0;
    }
  }

  // Buffer row of the window of output position `at`.
  int64_t staged_row(const Position& at) const {
    const int64_t row = first_row(at.y);
    if (at.n == staged_.n) return staged_.position + row - staged_.first;
    if (at.n == band_first_n_) return row - first_base_.first;
    return second_base_ + (at.n - band_first_n_ - 1) * past_row(s_.out_height - 1) + row;
  }

  // Keeps the rows that the band before has staged already.
  //
  //   stage_   | . . . r0 r1 r2 r3 | . . |     the band before: rows r0 .. r3 at `position`
  //            | . . .       r2 r3 r4 r5 |     this band: r2, r3 stay where they are, r4 and r5 are staged behind them
  //
  // Where the end of the buffer is reached the kept rows move to its beginning; it has room for two bands, so that is
  // once in several bands. Staging costs a pass over the input per part, not per output row.
  void stage_slide(int64_t n, int64_t r0, int64_t r1) {
    Staged& st = staged_;
    const bool reuse = st.n == n && r0 >= st.first && r0 <= st.first + st.count;
    int64_t kept = 0;
    int64_t position = 0;
    if (reuse) {
      kept = std::min(st.first + st.count, r1) - r0;
      position = st.position + r0 - st.first;
      if (position + (r1 - r0) > s_.stage_rows) {
        std::memmove(stage_, stage_ + position * s_.format.row_bytes, static_cast<size_t>(kept * s_.format.row_bytes));
        position = 0;
      }
    }
    stage_rows(n, r0 + kept, r1, position + kept);
    st = {n, r0, r1 - r0, position};
  }

  void stage_rows(int64_t n, int64_t r0, int64_t r1, int64_t position) {
    const int64_t columns = s_.input.width + s_.input.halo.left + s_.input.halo.right;
    for (int64_t r = r0; r < r1; ++r, ++position) {
      const uint8_t* row = buffers_.input + s_.input.offset(n, r - g_.pad_top, -s_.input.halo.left);
      uint8_t* out = stage_ + position * s_.format.row_bytes;
      if (s_.method == kWords) {
        s_.kernels->rows.widen_bytes(reinterpret_cast<int16_t*>(out), row, columns * s_.input.channels);
        continue;
      }
      TableStage request;
      request.row = row;
      request.pixel_bytes = s_.input.pixel_bytes;
      request.plane_bytes = s_.input.plane_bytes;
      request.out = out;
      request.out_pixel_bytes = s_.format.pixel_bytes;
      request.pixels = static_cast<int32_t>(columns);
      request.channels = static_cast<int32_t>(s_.input.channels);
      request.bits = s_.activation_bits;
      request.planes = s_.input.kind == Kind::kPlanes;
      s_.kernels->stage_tables(&request);
    }
  }

  // Blocks b .. b1 - 1: one, or as many as share a call of kTables.
  void run_tile(int64_t b, int64_t b1, int64_t i, int32_t pixels) {
    const ConvBlock& block = s_.weights->blocks[b];
    DotTile dot;
    dot.pixel = band_->input + i;
    dot.step = s_.steps.data();
    dot.weights = s_.weights->data->data() + block.weight_offset;
    dot.plane_bytes = s_.input.plane_bytes;
    dot.pixels = pixels;
    dot.steps = static_cast<int32_t>(s_.steps.size());
    dot.channels = static_cast<int32_t>(b1 - b - 1) * kBlock + s_.weights->blocks[b1 - 1].channels;
    dot.weight_bits = s_.weight_bits;
    dot.activation_bits = s_.activation_bits;
    if (s_.wants_float && s_.out_float.image_bytes > kLargeImage)
      fetch_floats(block.first_channel, dot.channels, i, pixels);
    s_.kernels->dot[s_.method](&dot, tile_);
    for (int64_t k = b; k < b1; ++k) finish(k, i, pixels, tile_ + (k - b) * pixels * kBlock);
  }

  // Into the cache while the products are computed: memory that does not stay there from run to run.
  void fetch_floats(int64_t first_channel, int32_t channels, int64_t i, int32_t pixels) const {
    const uint8_t* first = buffers_.out_float + first_channel * 4;
    for (int32_t p = 0; p < pixels; ++p) {
      for (int64_t k = 0; k < int64_t{channels} * 4; k += 64) __builtin_prefetch(first + band_->out_float[i + p] + k);
    }
  }

  // What leaves the layer, from the accumulators in a tile.
  void finish(int64_t b, int64_t i, int32_t pixels, int32_t* tile) {
    const ConvBlock& block = s_.weights->blocks[b];
    const KernelTable& k = *s_.kernels;
    const int32_t* border[kMaxTilePixels];
    if (s_.border != nullptr) {
      for (int32_t p = 0; p < pixels; ++p) border[p] = band_->border[i + p] + b * kBlock;
    }
    Correction correction = {s_.sum_scale != 0 ? band_->add + i : nullptr, s_.border != nullptr ? border : nullptr,
                             s_.shift};
    if (s_.wants_int || (s_.codes_from_int && s_.has_float)) {
      const IntStage stage = {correction, pixels, block.channels};
      k.finish_int(&stage, tile);
      correction = {nullptr, nullptr, 0};
      if (s_.wants_int) store(buffers_.out_int, band_->out_int + i, block, pixels, tile);
    }
    if (s_.wants_codes && s_.codes_from_int) write_codes(correction, b, i, pixels, tile);
    if (!s_.has_float && s_.weight_bits != 0) return;
    if (s_.has_float) to_float(correction, b, i, pixels, tile);
    if (s_.wants_float && !s_.has_float) store(buffers_.out_float, band_->out_float + i, block, pixels, tile);
    if (s_.wants_codes && !s_.codes_from_int) write_codes(correction, b, i, pixels, tile);
  }

  void to_float(const Correction& correction, int64_t b, int64_t i, int32_t pixels, int32_t* tile) {
    const ConvBlock& block = s_.weights->blocks[b];
    const float* residual[kMaxTilePixels];
    if (s_.has_residual) {
      for (int32_t p = 0; p < pixels; ++p) {
        residual[p] = reinterpret_cast<const float*>(buffers_.residual + band_->residual[i + p]) + block.first_channel;
      }
    }
    float* out[kMaxTilePixels];
    if (s_.wants_float) {
      for (int32_t p = 0; p < pixels; ++p) {
        out[p] = reinterpret_cast<float*>(buffers_.out_float + band_->out_float[i + p]) + block.first_channel;
      }
    }
    FloatStage stage;
    stage.correction = correction;
    stage.multiply = s_.multiply.data() + b * kBlock;
    stage.offset = s_.offset.data() + b * kBlock;
    const bool norm = s_.norm_multiply.size() != 0;
    stage.norm_multiply = norm ? s_.norm_multiply.data() + b * kBlock : nullptr;
    stage.norm_offset = norm ? s_.norm_offset.data() + b * kBlock : nullptr;
    stage.residual = s_.has_residual ? residual : nullptr;
    stage.pixels = pixels;
    stage.channels = block.channels;
    stage.relu = s_.relu;
    stage.out = s_.wants_float ? out : nullptr;
    (s_.weight_bits == 0 ? s_.kernels->float_to_float : s_.kernels->int_to_float)(&stage, tile);
  }

  static void store(uint8_t* out, const int64_t* offsets, const ConvBlock& block, int32_t pixels, const int32_t* tile) {
    for (int32_t p = 0; p < pixels; ++p) {
      std::memcpy(out + offsets[p] + block.first_channel * 4, tile + p * kBlock,
                  static_cast<size_t>(block.channels) * 4);
    }
  }

  void write_codes(const Correction& correction, int64_t b, int64_t i, int32_t pixels, const int32_t* tile) const {
    const ConvBlock& block = s_.weights->blocks[b];
    const bool planes = s_.out_codes.kind == Kind::kPlanes;
    uint8_t* out[kMaxTilePixels];
    uint8_t* base = buffers_.out_codes + (planes ? block.first_channel / 8 : block.first_channel);
    for (int32_t p = 0; p < pixels; ++p) out[p] = base + band_->out_codes[i + p];
    CodeStage stage;
    s_.rule->fill(b, &stage);
    stage.correction = correction;
    stage.out = out;
    stage.out_plane_bytes = s_.out_codes.plane_bytes;
    stage.pixels = pixels;
    stage.channels = block.channels;
    stage.planes = planes;
    (s_.codes_from_int ? s_.kernels->int_to_codes : s_.kernels->float_to_codes)(&stage, tile);
  }

  const ConvState& s_;
  const ConvGeometry& g_;
  const Conv::Buffers& buffers_;
  int32_t* tile_;
  Band* band_;
  int64_t* sum_tags_;
  uint8_t* sums_;
  uint8_t* stage_;
  Staged staged_, first_base_;
  int64_t band_first_n_ = -1, second_base_ = 0;
};

// Instructions per pixel and block, on vectors of 16 channels, about one cycle each: a block is two such vectors; 1.5
// for each pair of planes, as popcount also counts and adds, one for each weight plane of tables, else one
// multiply-add; and what follows the products is about 20 more.
double tile_work(const ConvState& s) {
  const double products = s.method == kPopcount ? 1.5 * s.weight_bits * s.activation_bits
                          : s.method == kTables ? s.weight_bits
                                                : 1.0;
  return products * 2.0 * static_cast<double>(s.steps.size()) + 20.0;
}

}  // namespace

void ConvState::plan_scratch() {
  const int64_t reach = (geometry.kernel_h - 1) * geometry.dilation_h + 1;
  if (sum_scale != 0) {
    sum_rows = reach;
    sum_row_bytes = round_up((geometry.width + geometry.pad_left + geometry.pad_right) * 4, 64);
  }
  if (staged()) {
    const int64_t rows = std::min(out_height, kBand / out_width + 2);
    const int64_t image = (out_height - 1) * geometry.stride_h + reach;
    const int64_t one = (rows - 1) * geometry.stride_h + reach;
    // A band may end one image and begin the next, or hold several small ones. Twice the rows of one band leave room to
    // slide: the rows that the next band shares are moved only now and then.
    const int64_t several = checked_mul(kBand / out_pixels() + 2, image, "scratch memory");
    stage_rows = out_pixels() >= kBand ? 2 * one : std::max(several, 2 * one);
  }
  const char* what = "scratch memory";
  part_bytes = kTileBytes + round_up(sizeof(Band), 64) + round_up(sum_rows * 8, 64);
  part_bytes = checked_add(part_bytes, sum_bytes(), what);
  part_bytes = checked_add(part_bytes, checked_mul(stage_rows, format.row_bytes, what), what);
  part_bytes = round_up(checked_add(part_bytes, 4 * kSlack, what), 64);
}

ConvParts ConvState::parts(int64_t batch, int threads) const {
  ConvParts parts;
  const int64_t pixels = batch * out_pixels();
  const int64_t blocks = ceil_div(weights->blocks.size(), blocks_per_call);
  const int64_t most = std::min<int64_t>(method == kTables ? kTableGrain : kGrain, kernels->tile_pixels[method]);
  const int64_t tiles = std::max<int64_t>(1, ceil_div(pixels, most));
  parts.tile = std::max<int64_t>(1, ceil_div(pixels, tiles));
  parts.tiles = ceil_div(pixels, parts.tile);
  parts.nanoseconds = nanoseconds(pixels);
  const int64_t limit = workers_for(parts.nanoseconds, threads);
  // Large weights are better divided than streamed by every thread; staged input is better divided by pixels, as each
  // part stages what it reads.
  const bool by_blocks = !staged() && weights->data->size() > 512 * 1024;
  int64_t least = tiles * blocks;
  for (int64_t i = 1; i <= limit; ++i) {
    const int64_t a = i, b = limit / i;  // a along the better axis: of two equal loads the later one divides it more
    const int64_t p = std::min(by_blocks ? b : a, tiles), q = std::min(by_blocks ? a : b, blocks);
    const int64_t load = ceil_div(tiles, p) * ceil_div(blocks, q);
    if (load > least || p * q == 1) continue;
    least = load;
    parts.workers = static_cast<int>(p * q);
    // Where nobody divides the pixels, any number of blocks is a run of its own, unless each would stage them anew.
    parts.groups = p == 1 && !staged() ? blocks : q;
  }
  return parts;
}

double ConvState::nanoseconds(int64_t pixels) const {
  const auto blocks = static_cast<double>(ceil_div(weights->blocks.size(), blocks_per_call));
  return tile_work(*this) * static_cast<double>(pixels) * blocks / 3.5;
}

void ConvState::run_rows(const Conv::Buffers& buffers, int64_t n, int64_t first, int64_t last) const {
  const int64_t pixel = n * out_pixels();
  const int64_t most = kernels->tile_pixels[method], grain = method == kTables ? kTableGrain : kGrain;
  const int64_t tile = most >= grain ? most / grain * grain : most;
  Part(*this, buffers, buffers.scratch)
      .run(pixel + first * out_width, pixel + last * out_width, 0, weights->blocks.size(), tile);
}

void ConvState::zero_halos(const Conv::Buffers& buffers, int64_t n, int64_t first, int64_t last) const {
  if (wants_int) zero_halo(out_int, buffers.out_int, n, first, last);
  if (wants_float) zero_halo(out_float, buffers.out_float, n, first, last);
  if (wants_codes) zero_halo(out_codes, buffers.out_codes, n, first, last);
}

// Items are the tiles of the first group, then those of the next: a worker keeps what it has staged from run to run.
void ConvState::run(const Conv::Buffers& buffers, int64_t batch, int threads) const {
  const ConvParts parts = this->parts(batch, threads);
  const int64_t pixels = batch * out_pixels(), tiles = parts.tiles, items = parts.groups * tiles;
  const int64_t tile = std::max<int64_t>(1, kernels->tile_pixels[method] / parts.tile) * parts.tile;
  const int64_t all_blocks = weights->blocks.size(), blocks = ceil_div(all_blocks, blocks_per_call);
  const auto zero_rows = [&](int64_t first, int64_t last) {
    for (int64_t row = ceil_div(first, out_width); row < ceil_div(last, out_width); ++row) {
      zero_halos(buffers, row / out_height, row % out_height, row % out_height + 1);
    }
  };
  const auto run_items = [&](Part* part, int64_t first, int64_t last) {
    for (int64_t item = first; item < last;) {
      const int64_t q = item / tiles, t0 = item % tiles, t1 = std::min(tiles, t0 + last - item);
      const int64_t whole = t0 == 0 ? std::max<int64_t>(1, (last - item) / tiles) : 1;  // groups
      const int64_t b0 = blocks * q / parts.groups * blocks_per_call;
      const int64_t b1 = std::min(all_blocks, blocks * (q + whole) / parts.groups * blocks_per_call);
      const int64_t p0 = t0 * parts.tile, p1 = std::min(pixels, t1 * parts.tile);
      if (buffers.zeroes_halo && b0 == 0) zero_rows(p0, p1);
      part->run(p0, p1, b0, b1, tile);
      item += (t1 - t0) * whole;
    }
  };
  parallel_workers(parts.workers, items, parts.nanoseconds, [&](int worker, const auto& take) {
    Part part(*this, buffers, buffers.scratch + worker * part_bytes);
    for (int64_t first, last; take(&first, &last);) run_items(&part, first, last);
  });
}

}  // namespace bitorch
