// Feeds damaged packed files to the loader. A network and an Error are the only outcomes allowed; running out of memory is none,
// for a loader must refuse what asks for too much; an Error's text must be UTF-8. Most files get the hash that fits them, so that
// what comes after its check is reached. Sanitizers find the rest, so build with them.
//
//   fuzz_file [--seconds N | --count N] [--seed S] [--memory MB] --save FOLDER FILE|FOLDER ...   (cases of tests/dump_cases.py)
//   fuzz_file --replay FILE ...                                                                 (packed files)
//
// The file being tried is always in FOLDER/current.safetensors. What is done with it follows from its bytes alone.
#include <cstdio>
#include <string>
#include <vector>

#include "../core/cpu.h"
#include "../core/model.h"
#include "../core/packed_file.h"
#include "../core/threads.h"
#include "fuzz_mutations.h"
#include "fuzz_support.h"

namespace bitorch {
namespace {

constexpr int64_t kMemoryLimitHere = 16 << 20;  // of one load; a sixteenth of what a single allocation may have
constexpr int64_t kMaxMacs = 3000000;

// ---- Making files ----

struct Draft {
  std::string version = "1", program, info;
  std::map<std::string, OwnedArray> arrays;
};

const std::vector<std::string> kInfos = {
    "{}",
    "{\"class_names\": [\"a\", \"\\u00e9\", \"\"]}",
    "{\"preprocessing\": {\"size\": [32, 32], \"channels\": 3, \"scale\": \"1/255\", \"mean\": [0.5, 0.25, 1e-3]}}",
    "{\"class_names\": [\"x\"], \"preprocessing\": {}, \"provenance\": {\"source\": \"here\", \"bits\": {\"conv1\": [1, 2]}}}",
};

std::vector<uint8_t> write_file(const Draft& draft) {
  std::string header = "{\"__metadata__\":{\"format\":\"bitorch\",\"format_version\":" + Json::quoted(draft.version) +
                       ",\"info\":" + Json::quoted(draft.info) + ",\"program\":" + Json::quoted(draft.program) + ",\"sha256\":\"" +
                       std::string(64, '0') + "\"}";
  std::vector<uint8_t> data;
  for (const auto& [name, array] : draft.arrays) {
    const size_t begin = data.size();
    data.insert(data.end(), array.memory.get(), array.memory.get() + array.bytes);
    header += "," + Json::quoted(name) + ":{\"dtype\":\"" + safetensors_name(array.view.dtype) + "\",\"shape\":" + shape_text(array.view.shape) +
              ",\"data_offsets\":[" + std::to_string(begin) + "," + std::to_string(data.size()) + "]}";
  }
  return safetensors_bytes(header + "}", data);
}

// Puts the right hash in the place of the one that the file states, if it is a file at all.
void put_hash(std::vector<uint8_t>* bytes) {
  try {
    const Safetensors file = Safetensors::read(bytes->data(), bytes->size());
    const std::string& stated = file.metadata.at("sha256");
    const std::string right = packed_hash(file.metadata.at("program"), file.metadata.at("info"), file);
    const auto place = std::search(bytes->begin(), bytes->end(), stated.begin(), stated.end());
    if (stated.size() == right.size() && place != bytes->end()) std::copy(right.begin(), right.end(), place);
  } catch (const Error&) {  // no safetensors file any more: there is no right hash
  } catch (const std::out_of_range&) {  // a key of the metadata is missing
  }
}

// ---- Damaging them ----

std::string header_of(const std::vector<uint8_t>& bytes) {
  uint64_t length = 0;
  for (int i = 7; i >= 0; --i) length = length << 8 | bytes[i];
  return std::string(bytes.begin() + 8, bytes.begin() + 8 + static_cast<std::ptrdiff_t>(length));
}

void mutate_draft(Random& random, Draft* draft) {
  if (random.one_in(2)) draft->program = mutate_json(random, draft->program);
  if (random.one_in(4)) mutate_arrays(random, &draft->arrays);
  if (random.one_in(8)) draft->info = mutate_json(random, draft->info);
  if (random.one_in(64)) draft->version = random.of(std::vector<std::string>{"", "0", "01", "2", "1.0", "-1", " 1", "4294967297", "99999999999999999999"});
  for (std::string* text : {&draft->program, &draft->info}) {
    if (!random.one_in(24)) continue;
    std::vector<uint8_t> damaged(text->begin(), text->end());
    damage_bytes(random, &damaged);
    text->assign(damaged.begin(), damaged.end());
  }
}

Draft draft_of(Random& random, const std::vector<uint8_t>& seed) {
  CaseFile c = CaseFile::parse(seed);
  Draft draft;
  draft.program = std::move(c.program);
  draft.info = random.of(kInfos);
  draft.arrays = std::move(c.arrays);
  return draft;
}

std::vector<uint8_t> mutate(Random& random, const std::vector<std::vector<uint8_t>>& seeds) {
  Draft draft = draft_of(random, random.of(seeds));
  const size_t kind = random.below(16);
  if (kind < 9) mutate_draft(random, &draft);
  std::vector<uint8_t> bytes = write_file(draft);
  if (kind == 9 || kind == 10) {  // the header: names, dtypes, shapes, offsets
    const std::string header = header_of(bytes);
    bytes = safetensors_bytes(mutate_json(random, header), std::vector<uint8_t>(bytes.begin() + 8 + static_cast<std::ptrdiff_t>(header.size()), bytes.end()));
  } else if (kind == 11) {  // two files joined
    const std::vector<uint8_t> other = write_file(draft_of(random, random.of(seeds)));
    const auto cut = static_cast<std::ptrdiff_t>(random.below(bytes.size())), from = static_cast<std::ptrdiff_t>(random.below(other.size()));
    bytes.resize(static_cast<size_t>(cut));
    bytes.insert(bytes.end(), other.begin() + from, other.end());
  } else if (kind == 12) {
    bytes.resize(random.below(bytes.size()));
  } else if (kind == 13) {  // bits, anywhere: most of a large file is data
    for (size_t n = 1 + random.below(4); n > 0; --n) bytes[random.below(bytes.size())] ^= static_cast<uint8_t>(1u << random.below(8));
  } else if (kind > 13) {
    damage_bytes(random, &bytes);
  }
  if (!random.one_in(12)) put_hash(&bytes);
  return bytes;
}

// ---- Trying them ----

struct Counts {
  int64_t tried = 0, loaded = 0, ran = 0, too_large = 0, with_class_names = 0;
  std::map<std::string, int64_t> refused;  // by where
  void print() const {
    std::printf("%lld tried: %lld loaded (%lld with class names), %lld run, %lld too large to run\n", static_cast<long long>(tried),
                static_cast<long long>(loaded), static_cast<long long>(with_class_names), static_cast<long long>(ran), static_cast<long long>(too_large));
    for (const auto& [where, count] : refused) std::printf("  refused: %-12s %lld\n", where.c_str(), static_cast<long long>(count));
  }
};

// Which layer refused a file: shows that the deeper ones are reached.
std::string layer_of(const std::string& message) {
  const auto has = [&](const char* text) { return message.find(text) != std::string::npos; };
  if (has("raise the limit")) return "limit";
  if (has("operation ")) return "operation";
  if (has("safetensors: ")) return "safetensors";
  if (has("SHA-256") || has("\"sha256\"")) return "hash";
  if (has("format_version") || has("format version") || has("\"format\"") || has("metadata")) return "metadata";
  if (has("\"info\"")) return "info";
  if (has("JSON")) return "program text";
  return "program";
}

std::vector<OwnedArray> make_inputs(Random& random, const Program& program) {
  std::vector<OwnedArray> inputs;
  for (const Program::Port& port : program.inputs()) {
    std::vector<int64_t> shape = {1};
    shape.insert(shape.end(), port.shape.begin(), port.shape.end());
    inputs.emplace_back(port.dtype, shape);
    uint8_t* memory = inputs.back().memory.get();
    for (int64_t i = 0; i < inputs.back().view.elements(); ++i) {
      if (port.dtype == Dtype::kUint8) {
        memory[i] = static_cast<uint8_t>(random.below(size_t{1} << port.bits));
      } else {
        const float value = random.real();
        std::memcpy(memory + i * 4, &value, 4);
      }
    }
  }
  return inputs;
}

void run_model(Random& random, const Program& program, Counts* counts) {
  int64_t macs = 0;
  for (const Program::OperationInfo& operation : program.describe()) macs += operation.macs;
  if (macs > kMaxMacs || program.workspace_bytes(1) > kMemoryLimitHere / 16) {
    ++counts->too_large;
    return;
  }
  const std::vector<OwnedArray> inputs = make_inputs(random, program), outputs = make_outputs(program, 1);
  std::vector<ArrayView> views;
  for (const OwnedArray& input : inputs) views.push_back(input.view);
  program.run(views, pointers(outputs));
  ++counts->ran;
}

void try_file(const std::vector<uint8_t>& bytes, Counts* counts) {
  Random random(hash(bytes));
  ++counts->tried;
  set_num_threads(1);
  try {
    const KernelTable& table = kernels(random.of(available_kernels()));
    // In a block of exactly this size, freed before the network runs.
    OwnedArray memory(Dtype::kUint8, {static_cast<int64_t>(bytes.size())});
    std::copy(bytes.begin(), bytes.end(), memory.memory.get());
    const Model model = Model::read(memory.memory.get(), bytes.size(), table, kMemoryLimitHere);
    memory = OwnedArray();
    ++counts->loaded;
    if (!model.class_names.empty()) ++counts->with_class_names;
    if (random.one_in(2)) run_model(random, model.program, counts);
  } catch (const Error& error) {
    check_message(error.what());
    ++counts->refused[layer_of(error.what())];
  } catch (const std::bad_alloc&) {
    throw Crash("a load that asks for more memory than there is");
  }
}

}  // namespace
}  // namespace bitorch

int main(int argc, char** argv) {
  using namespace bitorch;
  return fuzz_main<Counts>("fuzz_file", 6 << 10, argc, argv, mutate, try_file);
}
