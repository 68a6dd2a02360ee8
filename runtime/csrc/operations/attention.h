// attention: softmax(scale · q kᵀ + bias) v, over all heads.
#pragma once
#include "operations/definition.h"
#include "operations/leading_axes.h"

namespace bitorch {

inline constexpr const char* kAttentionKeys[] = {"inputs", "output", "scale", "causal"};

struct AttentionSpec {
  const Tensor *query = nullptr, *key = nullptr, *value = nullptr;  // [.., T, D], [.., S, D], [.., S, E], float32
  const Tensor* bias = nullptr;                                     // [.., T or 1, S], float32; or null
  const Tensor* output = nullptr;                                   // [.., T, E]
  ItemsOf of_query, of_key, of_value, of_bias;
  int64_t macs = 0;
  float scale = 1.0f;
  bool causal = false;  // query t does not see keys behind t
};

AttentionSpec read_attention(const OperationReader& reader);
std::unique_ptr<Operation> make_attention(const AttentionSpec& spec, Preparation& preparation);

}  // namespace bitorch
