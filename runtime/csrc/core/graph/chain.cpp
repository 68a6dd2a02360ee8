#include "core/graph/chain.h"

#include <algorithm>
#include <cstring>

#include "core/base/preparation.h"
#include "core/base/rows.h"

namespace bitorch {

namespace {

// What the bands of a part may take together. The first-level cache holds it; of a convolution, which is slow where it
// is asked for few pixels at a time, the second-level one: each band reads all of its weights again.
constexpr int64_t kBandBytes = 32 * 1024, kBandBytesOfConvolution = 96 * 1024, kMostBandBytes = 512 * 1024;

int64_t band_bytes(const Operation& first) {
  if (first.macs() == 0) return kBandBytes;
  const int64_t weights = std::min(first.weight_bytes(), kMostBandBytes / 2);
  return std::max(kBandBytesOfConvolution, 2 * weights);
}

std::vector<const Tensor*> inputs_of(const std::vector<const Operation*>& operations) {
  std::vector<const Tensor*> inputs = operations[0]->inputs();
  for (size_t i = 1; i < operations.size(); ++i) {
    for (const Tensor* tensor : operations[i]->inputs()) {
      if (tensor != operations[i - 1]->outputs()[0]) inputs.push_back(tensor);
    }
  }
  return inputs;
}

std::vector<const Tensor*> outputs_of(const Operation& last, const Operation* onlooker) {
  std::vector<const Tensor*> outputs = last.outputs();
  if (onlooker != nullptr) outputs.insert(outputs.end(), onlooker->outputs().begin(), onlooker->outputs().end());
  return outputs;
}

}  // namespace

Chain::Chain(std::vector<const Operation*> operations, const Operation* onlooker)
    : Operation(inputs_of(operations), outputs_of(*operations.back(), onlooker)),
      operations_(std::move(operations)),
      onlooker_(onlooker),
      last_(*operations_.back()->outputs()[0]) {
  if (onlooker_ != nullptr) operations_.push_back(onlooker_);
  for (size_t i = 0; i < count(); ++i) steps_[i] = operations_[i]->by_rows();
}

void Chain::widen(int64_t y) {
  RowSpan span = {y, std::min(y + band_, rows())};
  for (size_t i = count() - 1; i > 0; --i) {
    span = steps_[i]->rows_read(between(i - 1), span);
    most_rows_[i - 1] = std::max(most_rows_[i - 1], span.count());
  }
}

void Chain::plan(const KernelTable&, Preparation& preparation) {
  const char* what = "operations that follow each other";
  const auto count = static_cast<int64_t>(this->count());
  preparation.budget().work(checked_mul(rows(), 16 * count, what));
  int64_t row_bytes = 0;
  for (size_t i = 0; i + 1 < this->count(); ++i) {
    const int64_t rows_each = ceil_div(between(i).height, rows());
    row_bytes = checked_add(row_bytes, checked_mul(between(i).layout.row_bytes, rows_each, what), what);
  }
  if (onlooker_ != nullptr) row_bytes = checked_add(row_bytes, last_.layout.row_bytes, what);
  band_ = std::clamp<int64_t>(band_bytes(*operations_[0]) / std::max<int64_t>(1, row_bytes), 1, rows());
  for (int64_t y = 0; y < rows(); ++y) widen(y);
  for (size_t i = 0; i < this->count(); ++i) {
    const bool inner = i + 1 < this->count();
    offsets_[i] = part_bytes_;
    if (inner) {
      const int64_t band = checked_mul(between(i).layout.row_bytes, most_rows_[i], what);
      part_bytes_ = round_up(checked_add(part_bytes_, checked_add(band, kSlack + 64, what), what) - 64, 64);
    }
    offsets_[kMost + i] = part_bytes_;
    part_bytes_ = round_up(checked_add(part_bytes_, checked_add(steps_[i]->rows_scratch(), 64, what), what) - 64, 64);
    const double rows_each = static_cast<double>(operations_[i]->outputs()[0]->height) / static_cast<double>(rows());
    nanoseconds_ += steps_[i]->row_nanoseconds() * rows_each;
  }
}

int64_t Chain::scratch_bytes(int64_t batch, int threads) const {
  const int64_t bytes = checked_mul(part_bytes_, threads, "operations that follow each other");
  return onlooker_ == nullptr ? bytes : std::max(bytes, onlooker_->scratch_bytes(batch, threads));
}

// Some rows of the results, on one thread.
class ChainPart {
 public:
  // onlooker: what takes the rows, or null.
  ChainPart(const Chain& chain, const RunContext& context, uint8_t* scratch, const TakesRows* onlooker)
      : chain_(chain), context_(context), scratch_(scratch), onlooker_(onlooker) {
    for (size_t i = 0; i < chain_.count(); ++i) chain_.steps_[i]->begin_rows(scratch_of(i));
  }

  // Rows first .. last - 1 of those of all images.
  void run(int64_t first, int64_t last) {
    const int64_t rows = chain_.rows();
    for (int64_t row = first; row < last;) {
      const int64_t n = row / rows, y = row % rows;
      if (n != n_) {
        n_ = n;
        for (RowSpan& held : held_) held = {0, 0};
      }
      const int64_t count = std::min({chain_.band_, last - row, rows - y});
      for (const Tensor* output : last_outputs()) {
        zero_halo(output->layout, context_.data(*output), n, y, y + count);
      }
      make(chain_.count() - 1, {y, y + count});
      if (onlooker_ != nullptr) onlooker_->take_rows(context_, n, {y, y + count});
      row += count;
    }
  }

 private:
  uint8_t* band(size_t i) const { return scratch_ + chain_.offsets_[i]; }
  uint8_t* scratch_of(size_t i) const { return scratch_ + chain_.offsets_[Chain::kMost + i]; }

  const std::vector<const Tensor*>& last_outputs() const { return chain_.operations_[chain_.count() - 1]->outputs(); }

  // Where tensor i would begin if all of it were there.
  TensorPlace place(size_t i) const {
    const Tensor& tensor = chain_.between(i);
    const auto begin =
        reinterpret_cast<uintptr_t>(band(i)) - static_cast<uintptr_t>(tensor.layout.offset(n_, held_[i].first, 0));
    return {&tensor, reinterpret_cast<uint8_t*>(begin)};
  }

  // These rows of the outputs of operation i.
  void make(size_t i, RowSpan rows) {
    RunContext context = context_;
    if (i > 0) {
      hold(i - 1, chain_.steps_[i]->rows_read(chain_.between(i - 1), rows));
      context.elsewhere[0] = place(i - 1);
    }
    if (i + 1 < chain_.count()) context.elsewhere[1] = place(i);
    chain_.steps_[i]->run_rows(context, n_, rows, scratch_of(i));
  }

  // These rows of tensor i in its band: what is there already and what operation i makes.
  void hold(size_t i, RowSpan rows) {
    RowSpan& held = held_[i];
    const bool keeps = held.first <= rows.first && rows.first < held.last;
    const RowSpan kept = {rows.first, keeps ? std::min(held.last, rows.last) : rows.first};
    if (keeps && held.first != rows.first) {
      const int64_t bytes = chain_.between(i).layout.row_bytes;
      std::memmove(band(i), band(i) + (rows.first - held.first) * bytes, static_cast<size_t>(kept.count() * bytes));
    }
    held = rows;
    if (kept.last < rows.last) make(i, {kept.last, rows.last});
  }

  const Chain& chain_;
  const RunContext& context_;
  uint8_t* scratch_;
  const TakesRows* onlooker_;
  int64_t n_ = -1;
  RowSpan held_[Chain::kMost];
};

void Chain::run(const RunContext& context) const {
  if (onlooker_ != nullptr) {
    for (const Tensor* output : onlooker_->outputs()) {
      zero_halo(output->layout, context.data(*output), context.batch);
    }
  }
  const int64_t rows = context.batch * this->rows();
  const double nanoseconds = static_cast<double>(rows) * nanoseconds_;
  const int parts = parts_for(rows, nanoseconds, context.threads);
  // The rows of an image in their order are those of one thread.
  const bool looks_on = onlooker_ != nullptr && parts == 1;
  const TakesRows* onlooker = looks_on ? onlooker_->takes_rows() : nullptr;
  parallel_workers(parts, rows, nanoseconds, [&](int part, const auto& take) {
    ChainPart work(*this, context, context.scratch + part * part_bytes_, onlooker);
    for (int64_t first, last; take(&first, &last);) work.run(first, last);
  });
  if (onlooker_ != nullptr && !looks_on) onlooker_->run(context);
}

}  // namespace bitorch
