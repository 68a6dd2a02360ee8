// normalize, where numbers of several places belong together.
#pragma once
#include "operations/normalize.h"

namespace bitorch {

std::unique_ptr<Operation> make_normalize_sets(const NormalizeSpec& spec, Preparation& preparation);

// Its weights, or biases, for an operation to keep; null where there are none.
inline Kept<float> keep_weights(const NormalizeSpec& spec, const float* weights, bool by_place,
                                Preparation& preparation) {
  if (weights == nullptr) return nullptr;
  return keep(preparation, weights, by_place ? spec.places() * spec.input->channels : spec.input->channels);
}

}  // namespace bitorch
