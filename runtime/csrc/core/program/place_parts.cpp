#include "core/program/place_parts.h"

#include <unordered_map>
#include <unordered_set>
#include <vector>

namespace bitorch {

namespace {

struct Place {
  const Tensor* whole;
  int64_t channel;  // of it, the tensor's first one
};

bool covers(const Halo& wide, const Halo& halo) {
  return wide.top >= halo.top && wide.left >= halo.left && wide.bottom >= halo.bottom && wide.right >= halo.right;
}

class Places {
 public:
  explicit Places(const Graph& graph) {
    for (const Operation* operation : graph.run_order) {
      for (const Tensor* tensor : operation->outputs()) writes_[tensor] = operation->writes_part(*tensor);
      for (const Tensor* tensor : operation->inputs()) {
        if (!operation->reads_part(*tensor)) reads_wholes_.insert(tensor);
      }
    }
  }

  // A concat whose output is needed later than that of those before.
  void add(const Operation& concat) {
    const Tensor& output = *concat.outputs()[0];
    place_output(concat, output);
    const auto found = places_.find(&output);
    const Place at = found == places_.end() ? Place{&output, 0} : found->second;
    int64_t channel = at.channel;
    for (const Tensor* input : concat.inputs()) {
      place(*input, {at.whole, channel});
      channel += input->channels;
    }
  }

  // Into the tensors.
  void apply(Tensor& tensor) const {
    if (wholes_.count(&tensor) != 0) tensor.whole = &tensor;
    const auto found = places_.find(&tensor);
    if (found == places_.end()) return;
    const Place& at = found->second;
    tensor.whole = at.whole;
    tensor.layout = at.whole->layout.part(at.channel, tensor.channels);
  }

 private:
  void place(const Tensor& tensor, const Place& at) {
    if (&tensor == at.whole || places_.count(&tensor) != 0 || wholes_.count(&tensor) != 0) return;
    const Layout &layout = tensor.layout, &whole = at.whole->layout;
    const bool at_bytes =
        layout.kind != Kind::kPlanes ||
        (at.channel % 8 == 0 && (layout.channels % 8 == 0 || at.channel + layout.channels == at.whole->channels));
    if (layout.kind != whole.kind || !at_bytes || !covers(whole.halo, layout.halo)) return;
    if (!writes_.at(&tensor) || reads_wholes_.count(&tensor) != 0) return;
    places_[&tensor] = at;
    wholes_.insert(at.whole);
  }

  // Where its inputs lie one behind the other already.
  void place_output(const Operation& concat, const Tensor& output) {
    const auto first = places_.find(concat.inputs()[0]);
    if (first == places_.end()) return;
    int64_t channel = first->second.channel;
    for (const Tensor* input : concat.inputs()) {
      const auto found = places_.find(input);
      if (found == places_.end() || found->second.whole != first->second.whole || found->second.channel != channel) {
        return;
      }
      channel += input->channels;
    }
    place(output, first->second);
  }

  std::unordered_map<const Tensor*, bool> writes_;  // whether its maker can write a part
  std::unordered_set<const Tensor*> reads_wholes_;  // of which a reader cannot read parts
  std::unordered_map<const Tensor*, Place> places_;
  std::unordered_set<const Tensor*> wholes_;
};

}  // namespace

void place_parts(Graph& graph) {
  Places places(graph);
  for (auto operation = graph.run_order.rbegin(); operation != graph.run_order.rend(); ++operation) {
    if ((*operation)->joins_channels()) places.add(**operation);
  }
  for (Tensor& tensor : graph.tensors) places.apply(tensor);
}

}  // namespace bitorch
