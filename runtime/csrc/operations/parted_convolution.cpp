#include "operations/parted_convolution.h"

#include <algorithm>
#include <map>
#include <utility>

#include "core/base/rows.h"
#include "core/conv/part_conv.h"
#include "operations/slice_stage.h"

namespace bitorch {

namespace {

constexpr const char* kWhat = "a convolution in parts";
// What a part takes beside its weights: steps of the budget, and bytes. And a slice, and each pixel that it sees.
constexpr int64_t kPartSteps = 20000, kPartBytes = 4096, kSliceBytes = 512, kPixelBytes = 32;

// A part of the outputs of a slice, ready to run.
struct Unit {
  ConvPart part;
  std::unique_ptr<Conv> conv;
};

// What slices of the output have in common that see the same taps of the kernel's depth.
struct SliceKind {
  std::vector<int64_t> taps;
  std::vector<Unit> units;
  std::unique_ptr<SliceStage> stage;  // null where units read the input itself
};

struct Slice {
  size_t kind = 0;
  std::vector<int64_t> pixels;  // slices of the input, one for each tap
};

bool pads_rows(const std::vector<AxisPart>& parts) {
  return std::any_of(parts.begin(), parts.end(), [](const AxisPart& p) { return p.before > 0 || p.after > 0; });
}

// Whether each pixel makes `stride` columns of its own.
bool columns_may_join(const ConvAxis& x, const ConvGeometry& g) {
  return x.transposed && x.stride > 1 && x.kernel == x.stride && x.dilation == 1 && x.before == 0 && x.after == 0 &&
         g.groups == 1;
}

ConvPart joined(const AxisPart& y, const ConvAxis& x, const std::vector<int64_t>& depth_taps) {
  ConvPart part{y, {}, depth_taps, x.stride};
  part.x.outputs = part.x.pixels = x.size;
  for (int64_t tap = 0; tap < x.kernel; ++tap) part.x.taps.push_back(tap);
  return part;
}

class PartedConvolution : public Operation {
 public:
  PartedConvolution(const ConvolutionSpec& spec, Preparation& preparation);

  bool reads_planes(const Tensor& tensor, const KernelTable& kernels) const override {
    return prefers_planes(tensor, kernels);
  }
  bool writes_planes(const Tensor&) const override { return can_write_planes(spec_->conv); }
  bool prefers_planes(const Tensor& tensor, const KernelTable& kernels) const override {
    if (&tensor != spec_->input || !tensor.is_codes()) return false;
    if (staged_ && !SliceStage::channels_fit(tensor.channels, spec_->conv.geometry.groups)) return false;
    return all_prefer_planes(kernels);
  }
  bool writes_part(const Tensor&) const override { return true; }
  bool reads_part(const Tensor& tensor) const override { return &tensor == residual_ && &tensor != input_; }
  Halo halo(const Tensor& tensor) const override { return &tensor == input_ && !staged_ ? halo_ : Halo(); }
  // Not what is read as the input, too: later channels and pixels need it.
  const Tensor* overwrites(const Tensor& output) const override {
    return &output == out_float_ && residual_ != input_ ? residual_ : nullptr;
  }

  void plan(const KernelTable& kernels, Preparation& preparation) override;
  int64_t scratch_bytes(int64_t batch, int threads) const override;
  void run(const RunContext& context) const override;

  std::string kernel(const KernelTable&) const override { return main_unit().conv->kernel_name(); }
  std::vector<KernelTime> choices() const override { return main_unit().conv->choices(); }
  int64_t macs() const override { return macs_; }
  int64_t weight_bytes() const override { return weight_bytes_; }

 private:
  bool all_prefer_planes(const KernelTable& kernels) const;
  void sort_slices(const ConvAxis& depth, Budget& budget);
  void plan_kind(const KernelTable& kernels, Preparation& preparation, SliceKind* kind);
  std::vector<ConvPart> parts(const std::vector<int64_t>& depth_taps) const;
  Layout stage_layout(Kind kind, int64_t slices) const;
  const Unit& main_unit() const;

  uint8_t* data_of(const RunContext& context, const Tensor* tensor, int64_t n, int64_t slice) const;
  void run_whole(const RunContext& context) const;
  void run_slice(const RunContext& context, int64_t n, int64_t slice, uint8_t* scratch) const;
  void zero_halos(const RunContext& context, int64_t n, int64_t slice) const;
  bool is_whole() const { return slices_.size() == 1 && !staged_; }

  std::unique_ptr<ConvolutionSpec> spec_;  // until plan(), with the next two
  Preparation* preparation_;
  KernelShape kernel_;
  std::vector<AxisPart> y_, x_;
  bool may_join_ = false, staged_ = false;
  Halo halo_;
  const Tensor* input_;
  const Tensor* residual_;
  const Tensor* out_int_;
  const Tensor* out_float_;
  const Tensor* out_codes_;
  std::vector<SliceKind> kinds_;
  std::vector<Slice> slices_;  // of the output
  ConvAxis y_axis_, x_axis_;
  int64_t out_height_ = 1;  // of a slice
  bool joins_ = false;
  int64_t macs_ = 0, weight_bytes_ = 0;
  double nanoseconds_ = 0;  // of an image
  // Of the scratch of a part: what sees nothing reads a row of zeros, then come the stage, a row of it, and the rest.
  int64_t blind_bytes_ = 0, stage_bytes_ = 0, row_bytes_ = 0, conv_bytes_ = 0;
};

PartedConvolution::PartedConvolution(const ConvolutionSpec& spec, Preparation& preparation)
    : Operation(spec.inputs(), spec.outputs()),
      spec_(std::make_unique<ConvolutionSpec>(spec)),
      preparation_(&preparation),
      input_(spec.input),
      residual_(spec.residual),
      out_int_(spec.out_int),
      out_float_(spec.out_float),
      out_codes_(spec.out_codes) {
  const auto& [depth, y, x] = spec.window;
  kernel_ = {depth.kernel, y.kernel, x.kernel};
  y_axis_ = y;
  x_axis_ = x;
  out_height_ = y.outputs();
  y_ = parts_of(y, preparation.budget());
  x_ = parts_of(x, preparation.budget());
  may_join_ = columns_may_join(x, spec.conv.geometry);
  sort_slices(depth, preparation.budget());
  const auto each = checked_mul(static_cast<int64_t>(y_.size()), static_cast<int64_t>(x_.size()), kWhat);
  const int64_t units = checked_mul(each, static_cast<int64_t>(kinds_.size()), kWhat);
  preparation.budget().charge(checked_mul(units, kPartBytes, kWhat), kWhat);
  preparation.budget().work(checked_mul(units, kPartSteps, kWhat));
  const bool one_each =
      std::all_of(kinds_.begin(), kinds_.end(), [](const SliceKind& k) { return k.taps.size() <= 1; });
  // Rows above and below a slice are those of its neighbours.
  staged_ = !one_each || (depth.size > 1 && pads_rows(y_));
  for (const AxisPart& part : y_) {
    halo_.top = std::max(halo_.top, part.before);
    halo_.bottom = std::max(halo_.bottom, part.after);
  }
  for (const AxisPart& part : x_) {
    halo_.left = std::max(halo_.left, part.before);
    halo_.right = std::max(halo_.right, part.after);
  }
}

// Which slices of the input each one of the output sees, and with which taps.
void PartedConvolution::sort_slices(const ConvAxis& depth, Budget& budget) {
  budget.work(checked_mul(checked_mul(depth.outputs(), depth.kernel, kWhat), 16, kWhat));
  std::map<std::vector<int64_t>, size_t> found;
  for (int64_t o = 0; o < depth.outputs(); ++o) {
    Slice slice;
    std::vector<int64_t> taps;
    const std::vector<SeenPixel> all = seen_by(depth, o);
    budget.charge(static_cast<int64_t>(all.size()) * kPixelBytes + kSliceBytes, kWhat);
    taps.reserve(all.size());
    slice.pixels.reserve(all.size());
    for (const SeenPixel& seen : all) {
      taps.push_back(seen.tap);
      slice.pixels.push_back(seen.pixel);
    }
    slice.kind = found.emplace(taps, kinds_.size()).first->second;
    if (slice.kind == kinds_.size()) {
      kinds_.emplace_back();
      kinds_.back().taps = std::move(taps);
    }
    slices_.push_back(std::move(slice));
  }
}

std::vector<ConvPart> PartedConvolution::parts(const std::vector<int64_t>& depth_taps) const {
  std::vector<ConvPart> parts;
  for (const AxisPart& y : y_) {
    if (joins_ && !y.taps.empty() && !depth_taps.empty()) {
      parts.push_back(joined(y, x_axis_, depth_taps));
      continue;
    }
    for (const AxisPart& x : x_) parts.push_back({y, x, depth_taps, 1});
  }
  return parts;
}

// Of a layout that one part alone could not read there would be nothing to choose from.
bool PartedConvolution::all_prefer_planes(const KernelTable& kernels) const {
  for (const SliceKind& kind : kinds_) {
    for (const ConvPart& part : parts(kind.taps)) {
      if (part.sees_nothing()) continue;
      const ConvSpec spec = part_spec(spec_->conv, part, *preparation_);
      if (preferred_input(spec, kernels, preparation_->tuning()) != Kind::kPlanes) return false;
    }
  }
  return true;
}

Layout PartedConvolution::stage_layout(Kind kind, int64_t slices) const {
  const int64_t channels = checked_mul(input_->channels, slices, kWhat);
  return Layout::make(kind, y_axis_.size, x_axis_.size, channels, input_->bits, halo_);
}

// A slice of a tensor: `height` rows of it.
Layout slice_of(const Layout& all, int64_t height) {
  Layout slice = all;
  slice.height = height;
  return slice;
}

// A row of zeros for all rows of all images.
Layout blind_layout(const ConvSpec& spec, int bits) {
  const ConvGeometry& g = spec.geometry;
  const Kind kind = spec.weight_bits == 0 ? Kind::kFloat : Kind::kBytes;
  Layout layout = Layout::make(kind, g.height, g.width, g.in_channels, bits, {});
  layout.row_bytes = layout.image_bytes = 0;
  return layout;
}

void PartedConvolution::plan_kind(const KernelTable& kernels, Preparation& preparation, SliceKind* kind) {
  const ConvSpec& whole = spec_->conv;
  const auto count = static_cast<int64_t>(kind->taps.size());
  Layout input = slice_of(input_->layout, y_axis_.size);
  if (staged_ && count > 0) {
    Kind lies = input.kind;
    if (lies == Kind::kBytes && all_prefer_planes(kernels)) lies = Kind::kPlanes;
    const Layout stage = stage_layout(lies, count);
    kind->stage = std::make_unique<SliceStage>(input, stage, count, whole.geometry.groups);
    stage_bytes_ = std::max(stage_bytes_, round_up(kind->stage->bytes(), 64));
    row_bytes_ = std::max(row_bytes_, kind->stage->scratch_bytes());
    input = stage;
  }
  const Tensor* const tensors[4] = {out_int_, out_float_, out_codes_, residual_};
  for (ConvPart& part : parts(kind->taps)) {
    const ConvSpec spec = part_spec_with_weights(whole, kernel_, part, preparation);
    const bool blind = part.sees_nothing();
    const Layout seen = blind ? blind_layout(spec, input_->bits) : pixels_of(input, part);
    if (blind) blind_bytes_ = std::max(blind_bytes_, round_up(seen.width * seen.pixel_bytes + kSlack, 64));
    Layout layouts[4];
    const Layout* given[4] = {};
    for (int i = 0; i < 4; ++i) {
      if (tensors[i] == nullptr) continue;
      layouts[i] = outputs_of(tensors[i]->layout, part);
      given[i] = &layouts[i];
    }
    auto conv = std::make_unique<Conv>(spec, kernels, preparation, seen, given[0], given[1], given[2], given[3]);
    weight_bytes_ += conv->weight_bytes();
    kind->units.push_back({std::move(part), std::move(conv)});
  }
}

void PartedConvolution::plan(const KernelTable& kernels, Preparation& preparation) {
  joins_ = may_join_;
  for (const Tensor* tensor : {out_int_, out_float_, out_codes_, residual_}) {
    if (tensor == nullptr) continue;
    const Layout& layout = tensor->layout;
    const bool at_bytes = layout.kind != Kind::kPlanes || layout.channels % 8 == 0;
    joins_ = joins_ && layout.pixels_adjoin() && at_bytes;
  }
  for (SliceKind& kind : kinds_) plan_kind(kernels, preparation, &kind);
  for (const Slice& slice : slices_) {
    for (const Unit& unit : kinds_[slice.kind].units) {
      if (!unit.part.sees_nothing()) macs_ += unit.conv->macs();
      nanoseconds_ += unit.conv->nanoseconds();
      conv_bytes_ = std::max(conv_bytes_, round_up(unit.conv->rows_scratch(), 64));
    }
  }
  spec_.reset();  // its arrays belong to the caller of Program's constructor
  preparation_ = nullptr;
}

// The one that computes most.
const Unit& PartedConvolution::main_unit() const {
  const Unit* most = nullptr;
  for (const SliceKind& kind : kinds_) {
    for (const Unit& unit : kind.units) {
      const bool is_more = most == nullptr || most->part.sees_nothing() || unit.conv->macs() > most->conv->macs();
      if (is_more && !(most != nullptr && unit.part.sees_nothing())) most = &unit;
    }
  }
  return *most;
}

int64_t PartedConvolution::scratch_bytes(int64_t batch, int threads) const {
  if (!is_whole()) {
    const int64_t part = checked_add(checked_add(blind_bytes_, stage_bytes_, kWhat), row_bytes_ + conv_bytes_, kWhat);
    return checked_mul(part, threads, kWhat);
  }
  int64_t most = 0;
  for (const Unit& unit : kinds_[0].units) most = std::max(most, unit.conv->scratch_bytes(batch, threads));
  return checked_add(blind_bytes_, most, kWhat);
}

void PartedConvolution::run(const RunContext& context) const {
  if (is_whole()) return run_whole(context);
  const int64_t items = context.batch * static_cast<int64_t>(slices_.size());
  const double nanoseconds = nanoseconds_ * static_cast<double>(context.batch);
  const int64_t bytes = blind_bytes_ + stage_bytes_ + row_bytes_ + conv_bytes_;
  for_rows(items, nanoseconds, context.threads, [&](int part, int64_t first, int64_t last) {
    const auto slices = static_cast<int64_t>(slices_.size());
    uint8_t* scratch = context.scratch + part * bytes;
    std::fill_n(scratch, blind_bytes_, uint8_t{0});
    for (int64_t item = first; item < last; ++item) run_slice(context, item / slices, item % slices, scratch);
  });
}

// The first pixel of a slice's rows, halo included, of a tensor of `out_height_` rows a slice; null of none.
uint8_t* PartedConvolution::data_of(const RunContext& context, const Tensor* tensor, int64_t n, int64_t slice) const {
  if (tensor == nullptr) return nullptr;
  const Layout& layout = tensor->layout;
  return context.data(*tensor) + n * layout.image_bytes + slice * out_height_ * layout.row_bytes;
}

void PartedConvolution::zero_halos(const RunContext& context, int64_t n, int64_t slice) const {
  for (const Tensor* tensor : outputs()) {
    zero_halo(tensor->layout, context.data(*tensor), n, slice * out_height_, (slice + 1) * out_height_);
  }
}

void PartedConvolution::run_whole(const RunContext& context) const {
  std::fill_n(context.scratch, blind_bytes_, uint8_t{0});
  for (const Tensor* tensor : outputs()) zero_halo(tensor->layout, context.data(*tensor), context.batch);
  const SliceKind& kind = kinds_[0];
  const int64_t first = slices_[0].pixels.empty() ? 0 : slices_[0].pixels[0];
  for (const Unit& unit : kind.units) {
    Conv::Buffers buffers = {};
    buffers.input = context.data(*input_) + first * y_axis_.size * input_->layout.row_bytes;
    if (unit.part.sees_nothing()) buffers.input = context.scratch;
    buffers.residual = data_of(context, residual_, 0, 0);
    buffers.out_int = data_of(context, out_int_, 0, 0);
    buffers.out_float = data_of(context, out_float_, 0, 0);
    buffers.out_codes = data_of(context, out_codes_, 0, 0);
    buffers.scratch = context.scratch + blind_bytes_;
    unit.conv->run(buffers, context.batch, context.threads);
  }
}

void PartedConvolution::run_slice(const RunContext& context, int64_t n, int64_t slice, uint8_t* scratch) const {
  zero_halos(context, n, slice);
  const SliceKind& kind = kinds_[slices_[static_cast<size_t>(slice)].kind];
  const std::vector<int64_t>& pixels = slices_[static_cast<size_t>(slice)].pixels;
  const Layout& layout = input_->layout;
  uint8_t* const stage = scratch + blind_bytes_;
  const uint8_t* input = stage;
  if (kind.stage != nullptr) {
    const uint8_t* image = context.data(*input_) + n * layout.image_bytes;
    kind.stage->fill(context.kernels->rows, image, pixels, stage, stage + stage_bytes_);
  } else if (!pixels.empty()) {
    input = context.data(*input_) + n * layout.image_bytes + pixels[0] * y_axis_.size * layout.row_bytes;
  }
  Conv::Buffers buffers = {};
  buffers.residual = data_of(context, residual_, n, slice);
  buffers.out_int = data_of(context, out_int_, n, slice);
  buffers.out_float = data_of(context, out_float_, n, slice);
  buffers.out_codes = data_of(context, out_codes_, n, slice);
  buffers.scratch = stage + stage_bytes_ + row_bytes_;
  for (const Unit& unit : kind.units) {
    buffers.input = unit.part.sees_nothing() ? scratch : input;
    unit.conv->run_rows(buffers, 0, 0, unit.part.y.outputs);
  }
}

}  // namespace

bool is_parted(const ConvolutionSpec& spec) {
  const ConvAxis& depth = spec.window[0];
  return depth.transposed || depth.kernel > 1 || depth.stride > 1 || depth.size + depth.before + depth.after > 1;
}

std::unique_ptr<Operation> make_parted_convolution(const ConvolutionSpec& spec, Preparation& preparation) {
  return std::make_unique<PartedConvolution>(spec, preparation);
}

}  // namespace bitorch
