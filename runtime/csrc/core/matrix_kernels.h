// Products of two float matrices that are both made at run time, and what attention does between two of them.
#pragma once
#include <cstdint>

namespace bitorch {

// The right matrix of a product as kernels read it: `lanes` columns side by side, some such vectors to a panel.
//
//   panel 0   [depth][vectors of panel 0][lanes]
//   panel 1   [depth][vectors of panel 1][lanes]         columns beyond the last one are zero
//
// Panels are of about equal width, so that none is too narrow to keep the processor busy. Together they are `depth`
// times the columns, rounded up to a multiple of `lanes`.
struct MatrixPanels {
  const float* matrix;
  int64_t depth_step, column_step;  // floats from one row, and from one column, to the next; one of them is 1
  int64_t depth, columns;
  float* panels;  // 64-byte aligned
};

// out[m][n] = factor * sum over k of left[m][k] * right[k][n], summed in any order. factor: `scale`, or row m's own.
struct MatrixProduct {
  const float* left;
  int64_t row_step, depth_step;  // floats from one row, and from one column, to the next
  const float* panels;           // of the right matrix, of
  int64_t panel_depth, columns;  // so many rows and columns
  float* out;
  int64_t out_step;  // floats from one row to the next; none behind `columns` is written
  int64_t rows, depth;
  int64_t wanted;  // of the columns; those behind them may be left out
  float scale;
  const float* scales;  // [rows], or null
};

// One row of scores s becomes e^(s + bias - largest), where what is below 2^-126 is 0.
struct AttentionRow {
  float* scores;      // [columns], in place
  const float* bias;  // [columns], or null
  int64_t columns;
};

struct MatrixKernels {
  int32_t lanes;
  void (*pack)(const MatrixPanels*);
  void (*multiply)(const MatrixProduct*);
  // Returns the sum of the row's exponentials; where all scores are -infinity 0, and they are 0.
  float (*exponentials)(const AttentionRow*);
};

extern const MatrixKernels kMatrixPortable;
extern const MatrixKernels kMatrixAvx2;
extern const MatrixKernels kMatrixAvx512;
extern const MatrixKernels kMatrixNeon;

}  // namespace bitorch
