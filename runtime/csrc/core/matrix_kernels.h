// Products of two matrices, of floats or of codes, that are both made at run time, what attention does between two of
// them, and products of floats, or of codes, with a matrix of codes whose scale is one for each group along the depth.
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

// The same of codes, bytes of which four along the depth lie together:
//
//   panel i   [depth / 4, rounded up][vectors][code_lanes][4]         bytes beyond the last row and column add nothing
struct CodePanels {
  const uint8_t* matrix;
  int64_t depth_step, column_step;  // bytes from one row, and from one column, to the next; one of them is 1
  int64_t depth, columns;
  int32_t bits;
  uint8_t* panels;  // 64-byte aligned
  int32_t* sums;    // [columns] of the codes of each column
};

// out[m][n] = factor * (sum over k of left[m][k] * right[k][n]) + of_rows[m] + of_columns[n], modulo 2^32.
struct CodeProduct {
  const uint8_t* left;  // of each row up to 3 bytes behind the last are read
  int64_t row_step;     // bytes from one row to the next; columns lie side by side
  const uint8_t* panels;
  int64_t depth, columns, rows;
  int32_t left_bits, right_bits;
  int32_t factor;
  const int32_t *of_rows, *of_columns;
  int32_t* out;
  int64_t out_step;  // numbers from one row to the next
};

// Columns of codes that lie side by side, as kernels read them: a word of each, and in it 32 / slot_bits codes of the
// depth, the first one lowest: two's complement q, where the code is q, or 2 q + 1 of odd ones; or, where it is said,
// the stored m (packing.h), without a sign.
constexpr int kSlotColumns = 16;

struct CodeSlots {
  const uint32_t* words;  // [groups][group_words][kSlotColumns]; slots beyond a group's last code are 0
  const float* scales;    // [groups][kSlotColumns]
  int64_t groups, group_words;
  int32_t slot_bits;  // 1, 2, 4 or 8
  int32_t odd;
};

// out[m][n] = sum over groups g of scales[g][n] * (sum over k in g of left[m][k] * code[k][n]), n < kSlotColumns.
constexpr int kMostSlotRows = 4;

struct SlotProduct {
  CodeSlots right;
  const float* left;  // 0, or finite, where there are slots beyond the last code
  int64_t row_step;   // floats from one row to the next; columns lie side by side
  float* out;
  int64_t out_step;
  int64_t rows;  // 1 .. kMostSlotRows
};

// Codes times scales, each rounded once, as MatrixPanels has them: `blocks` times kSlotColumns columns, of which each
// block's words and scales follow those of the last.
struct SlotPanels {
  CodeSlots first;
  int64_t blocks;
  float* panels;  // 64-byte aligned
};

// Rows of signed bytes a times stored codes m: with
//
//   D = step * (sum over k in g of a[r][k] m[k][n]) + lowest * of_rows[r][g] + of_columns[g][n]      modulo 2^32
//
// out[r][n] is the sum over groups g of scales[g][n] * float(D), one after the other, each product and each sum
// rounded. A row's bytes lie as codes leave a word: with S = slot_bits, of each 32 / S of them those that (word >> S i)
// has in the lowest S bits of its four bytes, for i = 0, 1, .. 8 / S - 1.
struct GroupProduct {
  CodeSlots right;            // stored
  const int32_t* of_columns;  // [groups][kSlotColumns], or null
  int32_t step, lowest;       // step: 1 or 2
  bool wide;                  // m may have 8 bits
  const int8_t* left;         // as GroupRow leaves them
  int64_t row_step;           // bytes from one row to the next
  const int32_t* of_rows;     // [rows][groups], and their sums
  float* out;
  int64_t out_step;  // floats from one row to the next
  int64_t rows;
};

// A row's codes q become bytes factor q + offset, in the order in which those of the other side leave their words: with
// S = slot_bits, of each 32 / S codes first numbers 0, 8 / S, 2 * 8 / S and 3 * 8 / S, then those behind these, and so
// on. Where a group's last word has no codes, bytes are 0.
struct GroupRow {
  const uint8_t* codes;  // [groups][size]
  int64_t groups, size;
  int32_t slot_bits;
  int32_t factor, offset;  // factor: 1 or 2
  int8_t* bytes;           // [groups][words of a group][32 / S]
  int32_t* sums;           // [groups]
};

struct MatrixKernels {
  int32_t lanes;
  void (*pack)(const MatrixPanels*);
  void (*multiply)(const MatrixProduct*);
  // Returns the sum of the row's exponentials; where all scores are -infinity 0, and they are 0.
  float (*exponentials)(const AttentionRow*);
  int32_t code_lanes;
  void (*pack_codes)(const CodePanels*);
  void (*multiply_codes)(const CodeProduct*);
  int32_t (*sum_codes)(const uint8_t* codes, int64_t n);
  // out[i] = float(in[i]) * scale; in place, too
  void (*scale_sums)(float* out, const int32_t* in, float scale, int64_t n);
  void (*multiply_slots)(const SlotProduct*);
  void (*unpack_slots)(const SlotPanels*);
  void (*arrange_groups)(const GroupRow*);
  void (*multiply_groups)(const GroupProduct*);
};

extern const MatrixKernels kMatrixPortable;
extern const MatrixKernels kMatrixAvx2;
extern const MatrixKernels kMatrixAvx512;
extern const MatrixKernels kMatrixNeon;
extern const MatrixKernels kMatrixNeonDotprod;

}  // namespace bitorch
