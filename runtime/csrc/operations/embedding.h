// embedding: rows of a table, of floats or of packed codes, in the place of indices.
#pragma once
#include "operations/definition.h"

namespace bitorch {

inline constexpr const char* kEmbeddingKeys[] = {"input", "output",      "table",    "weight_bits",
                                                 "scale", "weight_grid", "channels", "levels"};

struct EmbeddingSpec {
  const Tensor* input = nullptr;   // indices of rows, of one channel
  const Tensor* output = nullptr;  // float32: the input's rows, and as many channels as a row of the table
  int64_t rows = 0;                // of the table
  const float* floats = nullptr;   // [rows][channels]; else null, and below is there
  const uint8_t* packed = nullptr;
  int weight_bits = 0, step = 0, lowest = 0;  // a code is step * m + lowest
  const float* levels = nullptr;              // [2^weight_bits], what each m is worth; null: its code
  const float* scale = nullptr;
  bool scale_of_rows = false;  // one for each row, else one
};

EmbeddingSpec read_embedding(const OperationReader& reader);
std::unique_ptr<Operation> make_embedding(const EmbeddingSpec& spec, Preparation& preparation);

}  // namespace bitorch
