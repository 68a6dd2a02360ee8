#include "operations/operations.h"

#include "operations/activation.h"
#include "operations/adaptive_avg_pool.h"
#include "operations/adaptive_max_pool.h"
#include "operations/add.h"
#include "operations/affine.h"
#include "operations/attention.h"
#include "operations/avg_pool.h"
#include "operations/concat.h"
#include "operations/constant.h"
#include "operations/conv2d.h"
#include "operations/conv2d_float.h"
#include "operations/conv_transpose.h"
#include "operations/conv_transpose_float.h"
#include "operations/dequantize.h"
#include "operations/embedding.h"
#include "operations/flatten.h"
#include "operations/global_avg_pool.h"
#include "operations/input.h"
#include "operations/linear.h"
#include "operations/linear_float.h"
#include "operations/linear_groups.h"
#include "operations/linear_weight_only.h"
#include "operations/lookup.h"
#include "operations/matmul.h"
#include "operations/matmul_codes.h"
#include "operations/max_pool.h"
#include "operations/normalize.h"
#include "operations/output.h"
#include "operations/pad.h"
#include "operations/pairs.h"
#include "operations/permute.h"
#include "operations/quantize.h"
#include "operations/reduce.h"
#include "operations/reshape.h"
#include "operations/resize.h"
#include "operations/select.h"
#include "operations/softmax.h"
#include "operations/take.h"

namespace bitorch {

const std::vector<OperationDefinition>& all_operations() {
  static const std::vector<OperationDefinition> kOperations = {
      {"input", kInputKeys, read_and_make<read_input, make_input>},
      {"output", kOutputKeys, read_and_make<read_output, make_output>},
      {"conv2d", kConv2dKeys, read_and_make<read_conv2d, make_convolution>},
      {"linear", kLinearKeys, read_and_make<read_linear, make_convolution>},
      {"conv2d_float", kConv2dFloatKeys, read_and_make<read_conv2d_float, make_convolution>},
      {"conv_transpose", kConvTransposeKeys, read_and_make<read_conv_transpose, make_convolution>},
      {"conv_transpose_float", kConvTransposeFloatKeys, read_and_make<read_conv_transpose_float, make_convolution>},
      {"linear_float", kLinearFloatKeys, read_and_make<read_linear_float, make_convolution>},
      {"linear_groups", kLinearGroupsKeys, read_and_make<read_linear_groups, make_linear_groups>},
      {"linear_weight_only", kLinearWeightOnlyKeys, read_and_make<read_linear_weight_only, make_linear_weight_only>},
      {"max_pool", kMaxPoolKeys, read_and_make<read_max_pool, make_max_pool>},
      {"avg_pool", kAvgPoolKeys, read_and_make<read_avg_pool, make_avg_pool>},
      {"global_avg_pool", kGlobalAvgPoolKeys, read_and_make<read_global_avg_pool, make_global_avg_pool>},
      {"adaptive_avg_pool", kAdaptiveAvgPoolKeys, read_and_make<read_adaptive_avg_pool, make_adaptive_avg_pool>},
      {"adaptive_max_pool", kAdaptiveMaxPoolKeys, read_and_make<read_adaptive_max_pool, make_adaptive_max_pool>},
      {"quantize", kQuantizeKeys, read_and_make<read_quantize, make_quantize>},
      {"dequantize", kDequantizeKeys, read_and_make<read_dequantize, make_dequantize>},
      {"lookup", kLookupKeys, read_and_make<read_lookup, make_lookup>},
      {"add", kAddKeys, read_and_make<read_add, make_add>},
      {"affine", kAffineKeys, read_and_make<read_affine, make_affine>},
      {"embedding", kEmbeddingKeys, read_and_make<read_embedding, make_embedding>},
      {"concat", kConcatKeys, read_and_make<read_concat, make_concat>},
      {"flatten", kFlattenKeys, read_and_make<read_flatten, make_flatten>},
      {"activation", kActivationKeys, read_and_make<read_activation, make_activation>},
      {"softmax", kSoftmaxKeys, read_and_make<read_softmax, make_softmax>},
      {"sub", kPairKeys, read_and_make<read_pair, make_pair_operation>},
      {"mul", kPairKeys, read_and_make<read_pair, make_pair_operation>},
      {"div", kPairKeys, read_and_make<read_pair, make_pair_operation>},
      {"minimum", kPairKeys, read_and_make<read_pair, make_pair_operation>},
      {"maximum", kPairKeys, read_and_make<read_pair, make_pair_operation>},
      {"where", kWhereKeys, read_and_make<read_pair, make_pair_operation>},
      {"constant", kConstantKeys, read_and_make<read_constant, make_constant>},
      {"matmul", kMatmulKeys, read_and_make<read_matmul, make_matmul>},
      {"matmul_codes", kMatmulCodesKeys, read_and_make<read_matmul_codes, make_matmul_codes>},
      {"attention", kAttentionKeys, read_and_make<read_attention, make_attention>},
      {"select", kSelectKeys, read_and_make<read_select, make_select>},
      {"pad", kPadKeys, read_and_make<read_pad, make_pad>},
      {"take", kTakeKeys, read_and_make<read_take, make_take>},
      {"reshape", kReshapeKeys, read_and_make<read_reshape, make_reshape>},
      {"resize", kResizeKeys, read_and_make<read_resize, make_resize>},
      {"permute", kPermuteKeys, read_and_make<read_permute, make_permute>},
      {"normalize", kNormalizeKeys, read_and_make<read_normalize, make_normalize>},
      {"reduce", kReduceKeys, read_and_make<read_reduce, make_reduce>},
  };
  return kOperations;
}

}  // namespace bitorch
