// Operations that follow each other, run a few rows at a time: what the first writes and the second reads stays in the
// cache and is nowhere whole.
//
//   conv2d     | 0 1 2 3 4 | 5 6 | 7 8 | ..      rows of its output, made as they are asked for
//   between      0 1 2 3 4                       a band: the rows that the next ones are made of. Those that the band
//                      3 4   5 6                 after it needs, too, are moved to its beginning
//   max_pool   |   0 1     |  2  |  3  | ..      rows of the result
//
// An operation that takes all rows in their order, as the mean of a squeeze-and-excitation block does, can look on: it
// is given the result's rows while they are in the cache. Where threads share an image it runs afterwards.
//
// Each operation does what it does alone, so that the numbers are the same; it is told another place for the tensor
// between.
#pragma once
#include <cstdint>
#include <vector>

#include "core/graph/by_rows.h"
#include "core/graph/graph.h"

namespace bitorch {

class Chain : public Operation {
 public:
  static constexpr size_t kMost = 4;  // operations

  // Operations that work by rows; each but the last gives one tensor without a halo, which the next alone reads. They
  // are planned before this is, and outlive it. onlooker: takes the rows of what the last one gives; or null, where
  // there are two operations at least.
  Chain(std::vector<const Operation*> operations, const Operation* onlooker);

  void plan(const KernelTable&, Preparation& preparation) override;
  int64_t scratch_bytes(int64_t batch, int threads) const override;
  void run(const RunContext& context) const override;

  // The onlooker behind the others.
  const std::vector<const Operation*>& operations() const { return operations_; }

 private:
  friend class ChainPart;

  size_t count() const { return onlooker_ == nullptr ? operations_.size() : operations_.size() - 1; }
  const Tensor& between(size_t i) const { return *operations_[i]->outputs()[0]; }  // operations i and i + 1
  int64_t rows() const { return last_.height; }                                    // of the result
  // The rows of every tensor between that the result's rows y .. y + band - 1 are made of.
  void widen(int64_t y);

  std::vector<const Operation*> operations_;
  const Operation* onlooker_;
  const ByRows* steps_[kMost] = {};
  const Tensor& last_;
  int64_t band_ = 1;                 // rows of the result that are made at a time
  int64_t most_rows_[kMost] = {};    // of each tensor between
  int64_t offsets_[2 * kMost] = {};  // of the bands, then of what the operations need, in the scratch of a part
  int64_t part_bytes_ = 0;
  double nanoseconds_ = 0.0;  // of a row
};

}  // namespace bitorch
