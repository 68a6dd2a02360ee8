// matmul: products of two tensors' matrices.
#pragma once
#include "operations/definition.h"
#include "operations/leading_axes.h"

namespace bitorch {

inline constexpr const char* kMatmulKeys[] = {"inputs", "output", "transposed", "scale"};

// One operand: a matrix for each item of its leading axes, the last row axis by channels, or the other way round.
struct MatrixOperand {
  const Tensor* tensor = nullptr;  // float32
  bool transposed = false;
  int64_t rows() const { return transposed ? tensor->channels : tensor->width; }
  int64_t columns() const { return transposed ? tensor->width : tensor->channels; }
};

// Both operands, [.., M, K] and [.., K, N], whose leading axes have met.
struct Operands {
  MatrixOperand left, right;
  RowAxes axes;  // in front of the matrices of the result
  ItemsOf of_left, of_right;
  int64_t macs = 0;
};

struct MatmulSpec {
  Operands operands;
  const Tensor* output = nullptr;  // [.., M, N]
  float scale = 1.0f;
};

// The leading axes of a product, where its operands have met; Error where they do not fit.
RowAxes met_axes(const OperationReader& reader, const MatrixOperand& left, const MatrixOperand& right);
// "inputs" and "transposed", of tensors of these values.
Operands read_operands(const OperationReader& reader, Values values);

MatmulSpec read_matmul(const OperationReader& reader);
std::unique_ptr<Operation> make_matmul(const MatmulSpec& spec, Preparation& preparation);

}  // namespace bitorch
