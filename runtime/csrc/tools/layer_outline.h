// What a convolution is but for its numbers, drawn at random: whether a kernel serves it can be asked at once.
#pragma once
#include <cstdint>

#include "core/conv/conv.h"
#include "tools/tool.h"

namespace bitorch {

enum class CodesOf { kInt, kFloat, kUnit };

struct OutlineBits {
  int weight_bits = 1, activation_bits = 1;
  WeightGrid weight_grid = WeightGrid::kOdd;
  bool sign_activations = false;
  int zero_point = 0;
};

// What follows the products.
struct OutlineStages {
  bool has_float = false, has_norm = false, has_residual = false, relu = false, wants_float = false, in_place = false;
  int code_bits = 0;
  CodesOf codes = CodesOf::kInt;
  bool falls = false;  // some channels' codes
};

struct LayerOutline : OutlineBits, OutlineStages {
  int64_t batch = 1;
  ConvGeometry geometry;
  ConvPool pool;
  Kind input_kind = Kind::kBytes, codes_kind = Kind::kBytes;
  Halo extra;  // of the input, beyond its padding

  // Pointers are null or not as they will be, and lead to nothing of use; of `falls` to a channel that does.
  ConvSpec spec() const;
};

// At most `most_macs` multiply-adds, but for a few layers of many weights.
LayerOutline draw_outline(Random& random, int64_t most_macs);

// In part that one, in part another one: a kernel that serves few of all layers serves many of those.
LayerOutline vary(Random& random, const LayerOutline& outline, int64_t most_macs);

}  // namespace bitorch
