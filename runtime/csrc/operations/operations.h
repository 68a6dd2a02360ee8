// The operations of a program: one function each, which reads and checks the description.
#pragma once
#include <memory>

#include "core/graph/graph.h"
#include "core/graph/operation_reader.h"
#include "core/program/program.h"

namespace bitorch {

using MakeOperation = std::unique_ptr<Operation> (*)(const OperationReader& reader);

// The index-th input or output operation, and the array it stands for.
std::unique_ptr<Operation> make_input(const OperationReader& reader, size_t index, Program::Port* port);
std::unique_ptr<Operation> make_output(const OperationReader& reader, size_t index, Program::Port* port);
// The key "array_shape" of both: one image of the array in other dimensions, the same numbers in the same order.
void read_array_shape(const OperationReader& reader, Program::Port* port);

std::unique_ptr<Operation> make_conv2d(const OperationReader& reader);
std::unique_ptr<Operation> make_linear(const OperationReader& reader);
std::unique_ptr<Operation> make_conv2d_float(const OperationReader& reader);
std::unique_ptr<Operation> make_linear_float(const OperationReader& reader);

std::unique_ptr<Operation> make_max_pool(const OperationReader& reader);
std::unique_ptr<Operation> make_avg_pool(const OperationReader& reader);
std::unique_ptr<Operation> make_global_avg_pool(const OperationReader& reader);
std::unique_ptr<Operation> make_adaptive_avg_pool(const OperationReader& reader);

std::unique_ptr<Operation> make_quantize(const OperationReader& reader);
std::unique_ptr<Operation> make_dequantize(const OperationReader& reader);
std::unique_ptr<Operation> make_lookup(const OperationReader& reader);
std::unique_ptr<Operation> make_add(const OperationReader& reader);
std::unique_ptr<Operation> make_affine(const OperationReader& reader);
std::unique_ptr<Operation> make_concat(const OperationReader& reader);
std::unique_ptr<Operation> make_concat_rows(const OperationReader& reader);  // where it has an "axis" of rows
std::unique_ptr<Operation> make_flatten(const OperationReader& reader);

std::unique_ptr<Operation> make_activation(const OperationReader& reader);
std::unique_ptr<Operation> make_softmax(const OperationReader& reader);
std::unique_ptr<Operation> make_mul(const OperationReader& reader);
std::unique_ptr<Operation> make_select(const OperationReader& reader);
std::unique_ptr<Operation> make_pad(const OperationReader& reader);
std::unique_ptr<Operation> make_take(const OperationReader& reader);
std::unique_ptr<Operation> make_reshape(const OperationReader& reader);
std::unique_ptr<Operation> make_permute(const OperationReader& reader);

}  // namespace bitorch
