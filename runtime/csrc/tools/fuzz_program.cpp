// Feeds damaged programs, arrays, files and inputs to everything that reads them. A result, an Error and std::bad_alloc are
// the only outcomes allowed; two kernel tables must give the same result; an Error's text must be UTF-8. Sanitizers find the
// rest, so build with them.
//
//   fuzz_program [--seconds N] [--seed S] [--memory MB] --save FOLDER FILE|FOLDER ...     (cases of tests/dump_cases.py)
//   fuzz_program --replay FILE ...
//
// The case being tried is always in FOLDER/current.safetensors: what is there after a crash is what caused it. How a case is
// run (kernels, batch, inputs, failing allocations) follows from its bytes alone, so that --replay does the same again.
#include <signal.h>
#include <sys/resource.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <exception>
#include <filesystem>
#include <limits>
#include <new>
#include <string>
#include <utility>
#include <vector>

#include "../core/cpu.h"
#include "../core/threads.h"
#include "case_file.h"

// ---- Memory: a limit, and failures on demand ----

// With AddressSanitizer, the ordinary operator new ends the process when there is no memory; this one throws. It is built on
// malloc, which the sanitizer watches.
namespace {
thread_local int64_t allocations_until_failure = -1;  // -1: none fails

constexpr unsigned kSecondsPerCase = 60;

void* allocate(size_t size) {
  if (allocations_until_failure >= 0 && allocations_until_failure-- == 0) throw std::bad_alloc();
  void* memory = std::malloc(size > 0 ? size : 1);
  if (memory == nullptr) throw std::bad_alloc();
  return memory;
}
}  // namespace

void* operator new(size_t size) { return allocate(size); }
void* operator new[](size_t size) { return allocate(size); }
void* operator new(size_t size, const std::nothrow_t&) noexcept { return std::malloc(size > 0 ? size : 1); }
void* operator new[](size_t size, const std::nothrow_t&) noexcept { return std::malloc(size > 0 ? size : 1); }
void operator delete(void* memory) noexcept { std::free(memory); }
void operator delete[](void* memory) noexcept { std::free(memory); }
void operator delete(void* memory, size_t) noexcept { std::free(memory); }
void operator delete[](void* memory, size_t) noexcept { std::free(memory); }

#ifdef __SANITIZE_ADDRESS__
// Address space cannot be limited under AddressSanitizer; single allocations can. The options stand in the program, since
// without them every case that asks for much memory would look like a crash.
extern "C" const char* __asan_default_options() {
  return "allocator_may_return_null=1:max_allocation_size_mb=256:hard_rss_limit_mb=3000:detect_stack_use_after_return=0";
}
#endif

namespace bitorch {
namespace {

void limit_memory(int megabytes) {
#ifndef __SANITIZE_ADDRESS__
  const rlim_t bytes = static_cast<rlim_t>(megabytes) << 20;
  const rlimit limit = {bytes, bytes};
  if (setrlimit(RLIMIT_AS, &limit) != 0) throw Error("the memory limit cannot be set");
#else
  (void)megabytes;
#endif
}

// ---- Random choices ----

class Random {
 public:
  explicit Random(uint64_t seed) : state_(seed) {}
  uint64_t word() {  // splitmix64
    uint64_t z = state_ += 0x9e3779b97f4a7c15u;
    z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9u;
    z = (z ^ z >> 27) * 0x94d049bb133111ebu;
    return z ^ z >> 31;
  }
  size_t below(size_t n) { return static_cast<size_t>(word() % n); }
  bool one_in(size_t n) { return below(n) == 0; }
  template <class T>
  const T& of(const std::vector<T>& options) {
    return options[below(options.size())];
  }

 private:
  uint64_t state_;
};

uint64_t hash(const std::vector<uint8_t>& bytes) {  // FNV-1a
  uint64_t h = 0xcbf29ce484222325u;
  for (uint8_t byte : bytes) h = (h ^ byte) * 0x100000001b3u;
  return h;
}

// ---- JSON that can be changed ----

std::string quote(const std::string& text) {
  std::string out = "\"";
  for (char c : text) {
    if (c == '"' || c == '\\') out += '\\';
    if (static_cast<unsigned char>(c) < 0x20) {
      char escape[8];
      std::snprintf(escape, sizeof(escape), "\\u%04x", static_cast<unsigned>(c));
      out += escape;
    } else {
      out += c;
    }
  }
  return out + "\"";
}

struct Node {
  enum Kind { kLeaf, kList, kObject } kind = kLeaf;
  std::string text;  // of a leaf, as JSON
  std::vector<std::pair<std::string, Node>> children;

  static Node from(const Json& json) {
    Node node;
    if (json.is(Json::Type::kArray)) {
      node.kind = kList;
      for (const Json& item : json.items()) node.children.emplace_back("", from(item));
    } else if (json.is(Json::Type::kObject)) {
      node.kind = kObject;
      for (const Json::Member& m : json.members()) node.children.emplace_back(m.first, from(m.second));
    } else {
      node.text = json.is(Json::Type::kString) ? quote(json.string()) : json.text();
    }
    return node;
  }

  std::string json() const {
    if (kind == kLeaf) return text;
    std::string out = kind == kList ? "[" : "{";
    for (size_t i = 0; i < children.size(); ++i) {
      if (i > 0) out += ", ";
      if (kind == kObject) out += quote(children[i].first) + ": ";
      out += children[i].second.json();
    }
    return out + (kind == kList ? "]" : "}");
  }

  void collect(std::vector<Node*>* leaves, std::vector<Node*>* parents) {
    if (kind == kLeaf) {
      leaves->push_back(this);
      return;
    }
    if (!children.empty()) parents->push_back(this);
    for (auto& [key, child] : children) child.collect(leaves, parents);
  }
};

const std::vector<std::string> kLeaves = {
    "0", "1", "-1", "2", "3", "7", "8", "9", "16", "31", "32", "33", "64", "255", "256", "1000", "32767", "65536", "1000000",
    "2147483647", "2147483648", "-2147483648", "4294967296", "4611686018427387904", "9223372036854775807",
    "-9223372036854775808", "0.5", "-0.0", "1e-45", "3e38", "1e308", "-1e300", "true", "false", "null", "\"\"", "\"x\"", "[]",
    "{}", "[1, 1]", "[0, 0]", "[1, 1, 1, 1]", "[3, 3]", "\"float32\"", "\"uint8\"", "\"int32\"", "\"nchw\"", "\"nhwc\"", "\"chw\"",
    "\"hwc\"", "\"\\u0000\"", "\"\xc3\xa9\xe2\x82\xac\xf0\x9f\x98\x80\"",
};

const std::vector<std::string> kOperations = {
    "input", "quantize", "lookup", "dequantize", "conv2d", "linear", "conv2d_float", "linear_float", "max_pool", "avg_pool",
    "global_avg_pool", "add", "affine", "concat", "flatten", "output",
};

const std::vector<std::string> kKeys = {
    "op", "input", "inputs", "output", "dtype", "shape", "order", "bits", "thresholds", "descending", "table", "sign", "scale", "weight",
    "weight_bits", "out_channels", "kernel_size", "stride", "padding", "dilation", "groups", "sign_activations", "multiply", "offset",
    "norm_multiply", "norm_offset", "divide", "residual", "relu", "int32", "float32", "codes", "count_include_pad", "low", "high",
};

void change_leaf(Random& random, Node* leaf, const std::vector<Node*>& leaves) {
  if (random.one_in(3)) {
    leaf->text = random.of(kLeaves);
  } else if (random.one_in(2)) {
    leaf->text = leaves[random.below(leaves.size())]->text;  // names swapped, numbers from elsewhere
  } else {
    char* end = nullptr;
    const long long value = std::strtoll(leaf->text.c_str(), &end, 10);
    if (end != leaf->text.c_str() && *end == '\0' && std::llabs(value) < 1000000) {
      leaf->text = std::to_string(random.one_in(2) ? value + 1 : random.one_in(2) ? value - 1 : value * 2);
    } else {
      leaf->text = quote(random.of(kOperations));
    }
  }
}

void change_children(Random& random, Node* parent, const std::vector<Node*>& leaves) {
  auto& children = parent->children;
  const size_t at = random.below(children.size());
  switch (random.below(parent->kind == Node::kObject ? 6 : 4)) {
    case 0:
      children.erase(children.begin() + static_cast<std::ptrdiff_t>(at));
      return;
    case 1: {
      const std::pair<std::string, Node> copy = children[at];
      children.insert(children.begin() + static_cast<std::ptrdiff_t>(random.below(children.size() + 1)), copy);
      return;
    }
    case 2:
      std::swap(children[at], children[random.below(children.size())]);
      return;
    case 3:
      std::swap(children[at].second, children[random.below(children.size())].second);
      return;
    case 4:
      children[at].first = random.of(kKeys);
      return;
    default:
      children.emplace_back(random.of(kKeys), *leaves[random.below(leaves.size())]);
  }
}

std::string mutate_program(Random& random, const std::string& text) {
  Node root = Node::from(Json::parse(text));
  for (size_t n = 1 + random.below(3); n > 0; --n) {
    std::vector<Node*> leaves, parents;
    root.collect(&leaves, &parents);
    if (leaves.empty() || parents.empty()) break;
    if (random.one_in(2)) {
      change_leaf(random, leaves[random.below(leaves.size())], leaves);
    } else {
      change_children(random, parents[random.below(parents.size())], leaves);
    }
  }
  return root.json();
}

void damage_bytes(Random& random, std::vector<uint8_t>* bytes) {
  for (size_t n = 1 + random.below(4); n > 0 && !bytes->empty(); --n) {
    // Headers are where the structure is: half of the damage is done there.
    const size_t at = random.below(random.one_in(2) ? bytes->size() : std::min<size_t>(bytes->size(), 4096));
    const auto place = bytes->begin() + static_cast<std::ptrdiff_t>(at);
    switch (random.below(5)) {
      case 0: *place = static_cast<uint8_t>(*place ^ 1u << random.below(8)); break;
      case 1: *place = static_cast<uint8_t>(random.word()); break;
      case 2: bytes->resize(at); break;
      case 3: bytes->insert(place, static_cast<uint8_t>("0123456789[]{},:\"\\e-."[random.below(21)])); break;
      default: bytes->erase(place);
    }
  }
}

// ---- Arrays that can be changed ----

std::vector<Dtype> all_dtypes() {
  return {Dtype::kBool, Dtype::kUint8, Dtype::kInt8, Dtype::kInt16, Dtype::kInt32, Dtype::kInt64, Dtype::kFloat32, Dtype::kFloat64};
}

void put_extremes(Random& random, OwnedArray* array) {
  static const std::vector<uint32_t> kWords = {
      0x7fc00000u, 0x7f800000u, 0xff800000u, 0x80000000u, 0x7fffffffu, 0xffffffffu, 0u, 1u, 0x7f7fffffu, 0x00000001u, 0x3f800000u, 0xcb000000u,
  };
  const int64_t most = 1 + static_cast<int64_t>(random.below(8));
  for (int64_t n = 0; n < most && array->bytes > 0; ++n) {
    if (array->view.dtype == Dtype::kFloat32 || array->view.dtype == Dtype::kInt32) {
      const uint32_t word = random.of(kWords);
      std::memcpy(array->memory.get() + random.below(static_cast<size_t>(array->bytes / 4)) * 4, &word, 4);
    } else {
      array->memory[random.below(static_cast<size_t>(array->bytes))] = static_cast<uint8_t>(random.word());
    }
  }
}

// Another dtype or shape, with as much of the data as there is.
void reshape(Random& random, OwnedArray* array) {
  Dtype dtype = array->view.dtype;
  std::vector<int64_t> shape = array->view.shape;
  switch (random.below(6)) {
    case 0: dtype = random.of(all_dtypes()); break;
    case 1: shape.push_back(1); break;
    case 2: if (!shape.empty()) shape.pop_back(); break;
    case 3: std::reverse(shape.begin(), shape.end()); break;
    case 4: if (!shape.empty()) shape[random.below(shape.size())] += 1; break;
    default: if (!shape.empty()) shape[random.below(shape.size())] = static_cast<int64_t>(random.below(3));
  }
  OwnedArray changed(dtype, shape);
  for (int64_t i = 0; i < changed.bytes; ++i) changed.memory[i] = array->bytes > 0 ? array->memory[i % array->bytes] : 0;
  if (dtype == Dtype::kBool) {
    for (int64_t i = 0; i < changed.bytes; ++i) changed.memory[i] &= 1;
  }
  *array = std::move(changed);
}

void mutate_arrays(Random& random, std::map<std::string, OwnedArray>* arrays) {
  if (arrays->empty()) return;
  auto one = arrays->begin(), other = arrays->begin();
  std::advance(one, random.below(arrays->size()));
  std::advance(other, random.below(arrays->size()));
  switch (random.below(6)) {
    case 0: std::swap(one->second, other->second); break;
    case 1: arrays->erase(one); break;
    case 2: (*arrays)["unused"] = OwnedArray(one->second.view); break;
    case 3: reshape(random, &one->second); break;
    default: put_extremes(random, &one->second);
  }
}

// ---- Writing a case ----

std::vector<uint8_t> write_case(const CaseFile& c) {
  static const std::map<Dtype, std::string> kNames = {
      {Dtype::kBool, "BOOL"}, {Dtype::kUint8, "U8"},  {Dtype::kInt8, "I8"},     {Dtype::kInt16, "I16"},
      {Dtype::kInt32, "I32"}, {Dtype::kInt64, "I64"}, {Dtype::kFloat32, "F32"}, {Dtype::kFloat64, "F64"},
  };
  std::string header = "{\"__metadata__\": {\"program\": " + quote(c.program) + "}";
  std::vector<uint8_t> data;
  const auto add = [&](const std::string& kind, const std::map<std::string, OwnedArray>& arrays) {
    for (const auto& [name, array] : arrays) {
      header += ", " + quote(kind + name) + ": {\"dtype\": \"" + kNames.at(array.view.dtype) + "\", \"shape\": " + shape_text(array.view.shape) +
                ", \"data_offsets\": [" + std::to_string(data.size()) + ", " + std::to_string(data.size() + static_cast<size_t>(array.bytes)) + "]}";
      data.insert(data.end(), array.memory.get(), array.memory.get() + array.bytes);
    }
  };
  add("array.", c.arrays);
  add("input.", c.inputs);
  header += "}";
  std::vector<uint8_t> bytes;
  for (int i = 0; i < 8; ++i) bytes.push_back(static_cast<uint8_t>(static_cast<uint64_t>(header.size()) >> 8 * i));
  bytes.insert(bytes.end(), header.begin(), header.end());
  bytes.insert(bytes.end(), data.begin(), data.end());
  return bytes;
}

std::vector<uint8_t> mutate(Random& random, const std::vector<uint8_t>& seed) {
  if (random.one_in(8)) {
    std::vector<uint8_t> bytes = seed;
    damage_bytes(random, &bytes);
    return bytes;
  }
  CaseFile c = CaseFile::parse(seed);
  if (random.one_in(8)) {
    std::vector<uint8_t> text(c.program.begin(), c.program.end());
    damage_bytes(random, &text);
    c.program.assign(text.begin(), text.end());
    return write_case(c);
  }
  if (!random.one_in(4)) c.program = mutate_program(random, c.program);
  if (random.one_in(3)) mutate_arrays(random, &c.arrays);
  if (random.one_in(8)) mutate_arrays(random, &c.inputs);
  return write_case(c);
}

// ---- Trying a case ----

struct Crash : std::exception {
  explicit Crash(std::string text) : text(std::move(text)) {}
  const char* what() const noexcept override { return text.c_str(); }
  std::string text;
};

struct Counts {
  int64_t tried = 0, refused = 0, out_of_memory = 0, loaded = 0, ran = 0, compared = 0, too_large = 0;
};

// An Error's text is shown to people through Python, which wants UTF-8; Json::parse checks that.
void check_message(const char* what) {
  if (*what == '\0') throw Crash("an Error without text");
  try {
    Json::parse(quote(what));
  } catch (const Error&) {
    throw Crash(std::string("an Error whose text is not UTF-8: ") + what);
  }
}

// What a run may cost here. Work that no description bounds (pools with vast windows) is caught by the alarm.
constexpr int64_t kMaxBytes = 128 << 20;
constexpr int64_t kMaxMacs = 300000000;

int64_t macs_of(const Program& program) {
  int64_t macs = 0;
  for (const Program::OperationInfo& operation : program.describe()) macs += operation.macs;
  return macs;
}

std::vector<OwnedArray> make_inputs(Random& random, const Program& program, const CaseFile& c, int64_t* batch) {
  std::vector<OwnedArray> inputs;
  const bool as_given = random.one_in(3);
  for (const Program::Port& port : program.inputs()) {
    const auto given = c.inputs.find(port.name);
    if (as_given && given != c.inputs.end()) {
      inputs.emplace_back(given->second.view);
      continue;
    }
    std::vector<int64_t> shape = {*batch};
    shape.insert(shape.end(), port.shape.begin(), port.shape.end());
    ArrayView size{port.dtype, shape, nullptr};
    if (size.elements() > kMaxBytes / 4) throw Error("an input too large to try");
    inputs.emplace_back(port.dtype, shape);
    OwnedArray& input = inputs.back();
    for (int64_t i = 0; i < input.view.elements(); ++i) {
      if (port.dtype == Dtype::kUint8) {
        input.memory[i] = static_cast<uint8_t>(random.below(size_t{1} << port.bits));
      } else {
        const float value = static_cast<float>(static_cast<int>(random.below(97)) - 32) / 32.0f;
        std::memcpy(input.memory.get() + i * 4, &value, 4);
      }
    }
    if (random.one_in(8)) put_extremes(random, &input);
    if (random.one_in(32)) reshape(random, &input);
  }
  return inputs;
}

bool same_numbers(const OwnedArray& a, const OwnedArray& b) {
  if (a.view.dtype != Dtype::kFloat32) return std::memcmp(a.memory.get(), b.memory.get(), static_cast<size_t>(a.bytes)) == 0;
  for (int64_t i = 0; i < a.bytes; i += 4) {
    float x, y;
    std::memcpy(&x, a.memory.get() + i, 4);
    std::memcpy(&y, b.memory.get() + i, 4);
    if (!(x == y || (std::isnan(x) && std::isnan(y)))) return false;
  }
  return true;
}

// A call that fails must leave the program as it was.
void run_short_of_memory(Random& random, const Program& program, const std::vector<ArrayView>& inputs, const std::vector<void*>& outputs) {
  allocations_until_failure = static_cast<int64_t>(random.below(8));
  try {
    program.run(inputs, outputs);
  } catch (const std::bad_alloc&) {  // expected; the same call follows
  }
  allocations_until_failure = -1;
}

void run_program(Random& random, const Program& program, const Program* other, const CaseFile& c, Counts* counts) {
  int64_t batch = static_cast<int64_t>(random.below(4));
  const std::vector<OwnedArray> inputs = make_inputs(random, program, c, &batch);
  std::vector<ArrayView> views;
  for (const OwnedArray& input : inputs) views.push_back(input.view);
  if (random.one_in(64) && !views.empty()) views.pop_back();
  batch = program.batch(views);
  int64_t bytes = program.workspace_bytes(batch);
  for (const Program::Port& port : program.outputs()) bytes += ArrayView{port.dtype, port.shape, nullptr}.elements() * 4 * batch;
  if (bytes > kMaxBytes || macs_of(program) * std::max<int64_t>(batch, 1) > kMaxMacs) {
    ++counts->too_large;
    return;
  }
  const std::vector<OwnedArray> outputs = make_outputs(program, batch);
  if (random.one_in(4)) run_short_of_memory(random, program, views, pointers(outputs));
  program.run(views, pointers(outputs));
  ++counts->ran;
  if (random.one_in(16)) program.profile(views, 1);
  if (other == nullptr) return;
  const std::vector<OwnedArray> others = make_outputs(*other, batch);
  other->run(views, pointers(others));
  for (size_t i = 0; i < outputs.size(); ++i) {
    if (!same_numbers(outputs[i], others[i])) {
      throw Crash("output \"" + program.outputs()[i].name + "\" differs between kernels " + program.kernels_name() + " and " + other->kernels_name());
    }
  }
  ++counts->compared;
}

// Load, describe, run. Sums of floats may differ from one kernel table to the next, so programs with them are not compared.
void try_case(const std::vector<uint8_t>& bytes, Counts* counts) {
  Random random(hash(bytes));
  ++counts->tried;
  const std::vector<std::string> names = available_kernels();
  try {
    const CaseFile c = CaseFile::parse(bytes);
    const KernelTable& table = kernels(random.of(names));
    const KernelTable& other_table = kernels(random.of(names));
    const bool has_float_sums = c.program.find("_float\"") != std::string::npos;
    set_num_threads(1 + static_cast<int>(random.below(2)));
    if (random.one_in(8)) allocations_until_failure = static_cast<int64_t>(random.below(random.one_in(2) ? 100 : 2000));
    const Program program(c.program, c.array_views(), table);
    ++counts->loaded;
    if (has_float_sums || &table == &other_table) {
      run_program(random, program, nullptr, c, counts);
    } else {
      const Program other(c.program, c.array_views(), other_table);
      run_program(random, program, &other, c, counts);
    }
  } catch (const Error& error) {
    allocations_until_failure = -1;
    ++counts->refused;
    check_message(error.what());
  } catch (const std::bad_alloc&) {
    ++counts->out_of_memory;
  }
  allocations_until_failure = -1;
}

// ---- The loop ----

struct Options {
  int64_t seconds = 60, seed = 0, memory = 1024;
  std::string save;
  bool replay = false;
  std::vector<std::string> paths;
};

int64_t parse_number(const std::string& option, const std::string& text) {
  char* end = nullptr;
  const long long value = std::strtoll(text.c_str(), &end, 10);
  if (end == text.c_str() || *end != '\0' || value < 0) throw Error(option + " is \"" + text + "\"; it must be a number from 0 on");
  return value;
}

Options parse_options(int argc, char** argv) {
  Options options;
  for (int i = 1; i < argc; ++i) {
    const std::string argument = argv[i];
    if (argument == "--replay") {
      options.replay = true;
    } else if (argument.rfind("--", 0) != 0) {
      options.paths.push_back(argument);
    } else if (i + 1 == argc) {
      throw Error(argument + " needs a value");
    } else if (argument == "--seconds") {
      options.seconds = parse_number(argument, argv[++i]);
    } else if (argument == "--seed") {
      options.seed = parse_number(argument, argv[++i]);
    } else if (argument == "--memory") {
      options.memory = parse_number(argument, argv[++i]);
    } else if (argument == "--save") {
      options.save = argv[++i];
    } else {
      throw Error("unknown option " + argument);
    }
  }
  if (options.paths.empty()) throw Error("which cases? usage: fuzz_program [--seconds N] [--seed S] --save FOLDER FILE|FOLDER ...");
  if (!options.replay && options.save.empty()) throw Error("--save FOLDER is missing: where the case being tried is kept");
  return options;
}

std::vector<std::vector<uint8_t>> read_seeds(const std::vector<std::string>& paths) {
  constexpr size_t kMaxSeed = 1 << 17;  // small ones are tried more often per second
  std::vector<std::string> files;
  for (const std::string& path : paths) {
    if (std::filesystem::is_directory(path)) {
      for (const auto& entry : std::filesystem::directory_iterator(path)) {
        if (entry.path().extension() == ".safetensors") files.push_back(entry.path().string());
      }
    } else {
      files.push_back(path);
    }
  }
  std::sort(files.begin(), files.end());
  std::vector<std::vector<uint8_t>> seeds;
  for (const std::string& file : files) {
    std::vector<uint8_t> bytes = read_file(file);
    if (bytes.size() <= kMaxSeed) seeds.push_back(std::move(bytes));
  }
  if (seeds.empty()) throw Error("no case of at most 128 KiB in " + paths[0]);
  return seeds;
}

void save_case(const std::string& path, const std::vector<uint8_t>& bytes) {
  std::FILE* file = std::fopen(path.c_str(), "wb");
  if (file == nullptr) throw Error(path + ": cannot be written");
  const bool written = std::fwrite(bytes.data(), 1, bytes.size(), file) == bytes.size();
  if (std::fclose(file) != 0 || !written) throw Error(path + ": cannot be written");
}

void report_alarm(int) {
  const char text[] = "fuzz_program: a case takes longer than a minute\n";
  (void)!write(2, text, sizeof(text) - 1);
  _exit(1);
}

void print(const Counts& c) {
  std::printf("%lld tried: %lld refused, %lld out of memory, %lld loaded, %lld run, %lld compared between kernels, %lld too large to run\n",
              static_cast<long long>(c.tried), static_cast<long long>(c.refused), static_cast<long long>(c.out_of_memory),
              static_cast<long long>(c.loaded), static_cast<long long>(c.ran), static_cast<long long>(c.compared),
              static_cast<long long>(c.too_large));
}

void replay(const Options& options) {
  for (const std::string& path : options.paths) {
    Counts counts;
    alarm(kSecondsPerCase);
    try_case(read_file(path), &counts);
    std::printf("%s: ", path.c_str());
    print(counts);
  }
}

void fuzz(const Options& options) {
  const std::vector<std::vector<uint8_t>> seeds = read_seeds(options.paths);
  std::filesystem::create_directories(options.save);
  const std::string current = options.save + "/current.safetensors";
  Random random(static_cast<uint64_t>(options.seed));
  Counts counts;
  const auto end = std::chrono::steady_clock::now() + std::chrono::seconds(options.seconds);
  while (std::chrono::steady_clock::now() < end) {
    const std::vector<uint8_t> bytes = mutate(random, random.of(seeds));
    save_case(current, bytes);
    alarm(kSecondsPerCase);
    try_case(bytes, &counts);
  }
  alarm(0);
  std::filesystem::remove(current);
  print(counts);
}

int run(int argc, char** argv) {
  const Options options = parse_options(argc, argv);
  limit_memory(static_cast<int>(options.memory));
  signal(SIGALRM, report_alarm);
  if (options.replay) {
    replay(options);
  } else {
    fuzz(options);
  }
  return 0;
}

}  // namespace
}  // namespace bitorch

int main(int argc, char** argv) {
  try {
    return bitorch::run(argc, argv);
  } catch (const std::exception& error) {
    std::fprintf(stderr, "fuzz_program: %s\n", error.what());
    return 1;
  }
}
