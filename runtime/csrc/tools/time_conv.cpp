// Times one convolution with every kernel that can compute it, and says what each reckons itself to take.
//
//   time_conv SIZE IN OUT KERNEL STRIDE W A [--to codes|unit|float|both] [--code-bits B] [--input planes|bytes]
//             [--output planes|bytes] [--residual] [--depthwise] [--groups G] [--batch N] [--threads N] [--kernels
//             TABLE] [--only NAME] [--machine NAME] [--pool]
//
// SIZE: of the output, as in 56 or 1x64. Padding is KERNEL / 2. --to unit: codes of y by the unit quantizer. --pool:
// with a max-pool of 3x3, stride 2, behind it. Times are the least of many runs, in microseconds. With --machine, as in
// zen5, nothing is timed: it says what the kernels reckon to take there.
#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstdio>
#include <cstring>
#include <memory>

#include "core/base/cpu.h"
#include "core/base/threads.h"
#include "core/conv/conv_choice.h"
#include "tools/layer_case.h"

namespace bitorch {

namespace {

constexpr const char* kUsage =
    "time_conv SIZE IN OUT KERNEL STRIDE W A [--to codes|unit|float|both] [--code-bits B] [--input planes|bytes] "
    "[--output "
    "planes|bytes] [--residual] [--depthwise] [--groups G] [--batch N] [--threads N] [--kernels TABLE] [--only NAME] "
    "[--machine NAME] [--pool]";
constexpr double kSeconds = 0.25;

void set_sizes(const Arguments& arguments, LayerCase* layer) {
  const std::vector<std::string>& words = arguments.paths();
  if (words.size() != 7) arguments.fail("seven numbers are needed");
  const auto number = [&](size_t i) { return std::strtoll(words[i].c_str(), nullptr, 10); };
  ConvGeometry& g = layer->spec.geometry;
  const size_t cross = words[0].find('x');
  const int64_t height = number(0);
  const int64_t width = cross == std::string::npos ? height : std::strtoll(words[0].c_str() + cross + 1, nullptr, 10);
  g.in_channels = number(1);
  g.out_channels = number(2);
  g.kernel_h = g.kernel_w = number(3);
  g.stride_h = g.stride_w = number(4);
  g.pad_top = g.pad_left = g.pad_bottom = g.pad_right = g.kernel_h / 2;
  g.height = (height - 1) * g.stride_h + 1;
  g.width = (width - 1) * g.stride_w + 1;
  if (arguments.has("--depthwise")) g.groups = g.in_channels;
  if (arguments.has("--groups")) g.groups = arguments.number("--groups", 1, 1, 1 << 20);
  layer->spec.weight_bits = static_cast<int>(number(5));
  layer->spec.activation_bits = static_cast<int>(number(6));
  if (arguments.has("--pool")) layer->spec.pool = {3, 3, 2, 2, 1, 1, (height + 1) / 2, (width + 1) / 2};
  layer->batch = arguments.number("--batch", 1, 1, 1024);
  g.check();
}

void set_stages(const Arguments& arguments, Random& random, LayerCase* layer) {
  ConvSpec& spec = layer->spec;
  const std::string to = arguments.has("--to") ? arguments.text("--to") : "codes";
  if (to != "codes" && to != "unit" && to != "float" && to != "both") {
    arguments.fail("--to is codes, unit, float or both");
  }
  const int64_t channels = spec.geometry.out_channels;
  spec.has_residual = arguments.has("--residual");
  spec.wants_float = to == "float" || to == "both";
  if (to != "float") spec.code.bits = static_cast<int>(arguments.number("--code-bits", spec.activation_bits, 1, 8));
  const double spread = static_cast<double>(spec.largest_sum()) * 0.1 + 1;
  if (to != "codes" || spec.has_residual) {
    layer->multiply.assign(static_cast<size_t>(channels), static_cast<float>(1 / spread));
    layer->offset.assign(static_cast<size_t>(channels), 0.25f);
    spec.relu = true;
    if (spec.has_residual) {
      for (int64_t i = 0; i < layer->outputs(); ++i) layer->residual.push_back(random.real());
      layer->in_place = spec.wants_float;
    }
    return;
  }
  const int n = (1 << spec.code.bits) - 1;
  for (int64_t c = 0; c < channels; ++c) {
    // On a line, as quantizers make them: steps of a size and a beginning of each channel's own.
    const double step = (1.5 + random.real()) * spread / n, first = random.real() * spread;
    for (int j = 0; j < n; ++j) layer->int_thresholds.push_back(static_cast<int32_t>(std::ceil(first + j * step)));
  }
}

void draw(Random& random, LayerCase* layer) {
  const ConvGeometry& g = layer->spec.geometry;
  layer->m.resize(static_cast<size_t>(g.out_channels * g.inputs_per_output()));
  layer->codes.resize(static_cast<size_t>(layer->batch * g.height * g.width * g.in_channels));
  for (uint8_t& m : layer->m) m = static_cast<uint8_t>(random.from(0, (1 << layer->spec.weight_bits) - 1));
  for (uint8_t& q : layer->codes) q = static_cast<uint8_t>(random.from(0, (1 << layer->spec.activation_bits) - 1));
}

// The least time of a run, in microseconds.
double time(const Conv& conv, const LayerCase& layer, int threads) {
  const ConvSpec& spec = layer.spec;
  const Layout input = layer.input_layout(), floats = layer.float_layout();
  const Layout codes = spec.code.bits != 0 ? layer.codes_layout() : Layout();
  Budget budget;
  const auto array = [&](int64_t bytes) { return AlignedArray<uint8_t>(budget, bytes + 2 * kSlack, "a tensor"); };
  AlignedArray<uint8_t> in = array(input.image_bytes * layer.batch), out = array(floats.image_bytes * layer.batch);
  AlignedArray<uint8_t> out_codes = array(codes.image_bytes * layer.batch);
  AlignedArray<uint8_t> residual = array(floats.image_bytes * layer.batch);
  AlignedArray<uint8_t> scratch = array(conv.scratch_bytes(layer.batch, threads));
  write_codes(input, layer.codes, layer.batch, in.data());
  Conv::Buffers buffers = {};
  buffers.input = in.data();
  buffers.residual = !spec.has_residual ? nullptr : layer.in_place ? out.data() : residual.data();
  buffers.out_float = spec.wants_float ? out.data() : nullptr;
  buffers.out_codes = spec.code.bits != 0 ? out_codes.data() : nullptr;
  buffers.scratch = scratch.data();
  const KeepAwake awake;
  double least = 1e30, total = 0;
  for (int run = 0; run < 5 || total < kSeconds; ++run) {
    const auto start = std::chrono::steady_clock::now();
    conv.run(buffers, layer.batch, threads);
    const std::chrono::duration<double> taken = std::chrono::steady_clock::now() - start;
    least = std::min(least, taken.count());
    total += taken.count();
  }
  return least * 1e6;
}

void time_kernel(const LayerCase& layer, const KernelTable& table, const KernelChoice& choice, int threads) {
  const ConvSpec& spec = layer.spec;
  const Layout floats = layer.float_layout(), codes = spec.code.bits != 0 ? layer.codes_layout() : Layout();
  KernelWish wish;
  wish.only = choice.fused;
  wish.fused = choice.fused != nullptr;
  wish.staged = choice.fused == nullptr;
  Preparation preparation(Budget::kNoLimit, 0);
  std::unique_ptr<Conv> conv;
  try {
    conv = std::make_unique<Conv>(spec, table, preparation, layer.input_layout(), nullptr,
                                  spec.wants_float ? &floats : nullptr, spec.code.bits != 0 ? &codes : nullptr,
                                  spec.has_residual ? &floats : nullptr, wish);
  } catch (const Error& error) {
    std::printf("  %-40s %s\n", choice.name, error.what());
    return;
  }
  const double us = time(*conv, layer, threads);
  const double macs = static_cast<double>(conv->macs() * layer.batch);
  std::printf("  %-40s %9.2f us %7.3fe12 MAC/s   reckons %9.2f us\n", choice.name, us, macs / us / 1e6,
              choice.nanoseconds * static_cast<double>(layer.batch) / 1e3);
}

Machine machine_of(const Arguments& arguments) {
  const std::string name = arguments.text("--machine");
  for (const Machine machine :
       {Machine::kGeneric, Machine::kZen4, Machine::kZen5, Machine::kIceLake, Machine::kSapphireRapids}) {
    if (name == machine_name(machine)) return machine;
  }
  arguments.fail("--machine is generic, zen4, zen5, icelake or sapphirerapids");
}

int run(int argc, char** argv) {
  const Arguments arguments(argc, argv, kUsage,
                            {"--to", "--groups", "--code-bits", "--input", "--output", "--batch", "--threads",
                             "--kernels", "--only", "--machine"},
                            {"--residual", "--depthwise", "--pool"});
  Random random(1);
  LayerCase layer;
  set_sizes(arguments, &layer);
  draw(random, &layer);
  set_stages(arguments, random, &layer);
  layer.point();
  const int threads = static_cast<int>(arguments.number("--threads", 1, 1, 256));
  set_num_threads(threads);
  const KernelTable& table = arguments.has("--kernels") ? kernels(arguments.text("--kernels")) : kernels();
  KernelWish wish;
  if (arguments.has("--machine")) wish.machine = machine_of(arguments);
  std::printf("%s, %s, %s\n", cpu_name().c_str(), machine_name(wish.machine), table.name);
  for (const Kind input : {Kind::kPlanes, Kind::kBytes}) {
    const char* name = input == Kind::kPlanes ? "planes" : "bytes";
    if (arguments.has("--input") && arguments.text("--input") != name) continue;
    layer.input_kind = input;
    layer.codes_kind = input;
    if (arguments.has("--output"))
      layer.codes_kind = arguments.text("--output") == "planes" ? Kind::kPlanes : Kind::kBytes;
    std::printf("%s in, %s out\n", name, layer.codes_kind == Kind::kPlanes ? "planes" : "bytes");
    for (const KernelChoice& choice :
         kernel_choices(layer.spec, table, input, layer.codes_kind == Kind::kPlanes, wish)) {
      if (arguments.has("--only") && arguments.text("--only") != choice.name) continue;
      if (arguments.has("--machine")) {
        std::printf("  %-40s reckons %9.2f us\n", choice.name, choice.nanoseconds / 1e3);
      } else {
        time_kernel(layer, table, choice, threads);
      }
    }
  }
  return 0;
}

}  // namespace

}  // namespace bitorch

int main(int argc, char** argv) { return bitorch::run_tool("time_conv", bitorch::run, argc, argv); }
