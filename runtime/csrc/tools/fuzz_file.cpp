// Feeds damaged packed files to the loader. A network and an Error are the only outcomes allowed; running out of memory
// is none, for a loader must refuse what asks for too much; an Error's text must be UTF-8. A load may never have more
// memory than its limit and what the texts of the file take, and what it keeps must have been charged. Most files get
// the hash that fits them, so that what comes after its check is reached. Sanitizers find other mistakes, but leave
// less room and are slower: use both builds.
//
//   fuzz_file [--seconds N | --count N] [--seed S] [--memory MB] --save FOLDER FILE|FOLDER ...   (cases of
//   tests/dump_cases.py)
//
// MB megabytes of address space are all that the process gets, except in a build with sanitizers.
//   fuzz_file --replay FILE ...                                                                 (packed files)
//
// The file being tried is always in FOLDER/current.safetensors. What is done with it follows from its bytes alone.
#include <cstdio>
#include <ctime>
#include <string>
#include <vector>

#include "core/base/cpu.h"
#include "core/base/threads.h"
#include "core/format/packed_file.h"
#include "core/program/model.h"
#include "fuzz_mutations.h"
#include "fuzz_sizes.h"
#include "fuzz_support.h"

namespace bitorch {
namespace {

constexpr int64_t kSmallLimit = 16 << 20;  // of most loads; a sixteenth of what a single allocation may have
constexpr int64_t kMaxMacs = 3000000;
constexpr int64_t kUnchecked = 10000;  // from so many files on, some must have met the limit
constexpr double kMostSeconds = 10;    // of a load, on the CPU
// What a load may take beside its limit: the parsed texts and their copies, 160 bytes for each of the file, and little
// else.
constexpr int64_t kBytesPerByte = 160, kLittle = 1 << 20;

// ---- Making files ----

struct Draft {
  std::string version = "1", program, info;
  std::map<std::string, OwnedArray> arrays;
};

const std::vector<std::string> kInfos = {
    "{}",
    "{\"class_names\": [\"a\", \"\\u00e9\", \"\"]}",
    "{\"preprocessing\": {\"size\": [32, 32], \"channels\": 3, \"scale\": \"1/255\", \"mean\": [0.5, 0.25, 1e-3]}}",
    "{\"class_names\": [\"x\"], \"preprocessing\": {}, \"provenance\": {\"source\": \"here\", \"bits\": {\"conv1\": "
    "[1, 2]}}}",
};

std::vector<uint8_t> write_file(const Draft& draft) {
  std::string header = "{\"__metadata__\":{\"format\":\"bitorch\",\"format_version\":" + Json::quoted(draft.version) +
                       ",\"info\":" + Json::quoted(draft.info) + ",\"program\":" + Json::quoted(draft.program) +
                       ",\"sha256\":\"" + std::string(64, '0') + "\"}";
  std::vector<uint8_t> data;
  for (const auto& [name, array] : draft.arrays) {
    const size_t begin = data.size();
    data.insert(data.end(), array.memory.get(), array.memory.get() + array.bytes);
    header += "," + Json::quoted(name) + ":{\"dtype\":\"" + safetensors_name(array.view.dtype) +
              "\",\"shape\":" + shape_text(array.view.shape) + ",\"data_offsets\":[" + std::to_string(begin) + "," +
              std::to_string(data.size()) + "]}";
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
  } catch (const Error&) {              // no safetensors file any more: there is no right hash
  } catch (const std::out_of_range&) {  // a key of the metadata is missing
  }
}

// ---- Damaging them ----

std::string header_of(const std::vector<uint8_t>& bytes) {
  uint64_t length = 0;
  for (int i = 7; i >= 0; --i) length = length << 8 | bytes[i];
  return std::string(bytes.begin() + 8, bytes.begin() + 8 + static_cast<std::ptrdiff_t>(length));
}

void enlarge(Random& random, Draft* draft) {
  Enlarger enlarger(random, draft->program, &draft->arrays);
  for (size_t n = 1 + random.below(6); n > 0; --n) enlarger.change();
  draft->program = enlarger.json();
}

void mutate_draft(Random& random, Draft* draft) {
  if (random.one_in(2)) draft->program = mutate_json(random, draft->program);
  if (random.one_in(4)) mutate_arrays(random, &draft->arrays);
  if (random.one_in(8)) draft->info = mutate_json(random, draft->info);
  if (random.one_in(64))
    draft->version = random.of(
        std::vector<std::string>{"", "0", "01", "2", "1.0", "-1", " 1", "4294967297", "99999999999999999999"});
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
  if (random.one_in(3)) enlarge(random, &draft);
  if (kind < 9) mutate_draft(random, &draft);
  std::vector<uint8_t> bytes = write_file(draft);
  if (kind == 9 || kind == 10) {  // the header: names, dtypes, shapes, offsets
    const std::string header = header_of(bytes);
    bytes = safetensors_bytes(
        mutate_json(random, header),
        std::vector<uint8_t>(bytes.begin() + 8 + static_cast<std::ptrdiff_t>(header.size()), bytes.end()));
  } else if (kind == 11) {  // two files joined
    const std::vector<uint8_t> other = write_file(draft_of(random, random.of(seeds)));
    const auto cut = static_cast<std::ptrdiff_t>(random.below(bytes.size())),
               from = static_cast<std::ptrdiff_t>(random.below(other.size()));
    bytes.resize(static_cast<size_t>(cut));
    bytes.insert(bytes.end(), other.begin() + from, other.end());
  } else if (kind == 12) {
    bytes.resize(random.below(bytes.size()));
  } else if (kind == 13) {  // bits, anywhere: most of a large file is data
    for (size_t n = 1 + random.below(4); n > 0; --n)
      bytes[random.below(bytes.size())] ^= static_cast<uint8_t>(1u << random.below(8));
  } else if (kind > 13) {
    damage_bytes(random, &bytes);
  }
  if (!random.one_in(12)) put_hash(&bytes);
  return bytes;
}

// ---- Trying them ----

struct Counts {
  int64_t tried = 0, loaded = 0, ran = 0, too_large = 0, with_class_names = 0, at_usual_limit = 0;
  int64_t most_memory = 0;                 // of one load
  double slowest = 0;                      // in seconds on the CPU
  std::map<std::string, int64_t> refused;  // by where
  void print() const {
    std::printf("%lld tried: %lld loaded (%lld with class names), %lld run, %lld too large to run\n",
                static_cast<long long>(tried), static_cast<long long>(loaded), static_cast<long long>(with_class_names),
                static_cast<long long>(ran), static_cast<long long>(too_large));
    for (const auto& [where, count] : refused)
      std::printf("  refused: %-12s %lld\n", where.c_str(), static_cast<long long>(count));
    rusage usage = {};
    getrusage(RUSAGE_SELF, &usage);
    std::printf(
        "  limits: 16 MiB, and 1 GiB for %lld; most memory of a load: %lld MiB; most of the process: %ld MiB; slowest "
        "load: %.2f s\n",
        static_cast<long long>(at_usual_limit), static_cast<long long>(most_memory >> 20), usage.ru_maxrss >> 10,
        slowest);
  }
  void check() const {
    if (tried >= kUnchecked && refused.count("limit") == 0)
      throw Error("no file met the limit on memory: the sizes are not what they should be");
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
      } else if (port.dtype != Dtype::kFloat32) {
        put_index(random, port, memory, i);
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
  if (macs > kMaxMacs || program.workspace_bytes(1) > kSmallLimit / 16) {
    ++counts->too_large;
    return;
  }
  const std::vector<OwnedArray> inputs = make_inputs(random, program), outputs = make_outputs(program, 1);
  std::vector<ArrayView> views;
  for (const OwnedArray& input : inputs) views.push_back(input.view);
  program.run(views, pointers(outputs));
  ++counts->ran;
}

// Once in a while what users have; under sanitizers single allocations are limited to less.
int64_t limit_for(Random& random, Counts* counts) {
#ifndef __SANITIZE_ADDRESS__
  if (random.one_in(512)) {
    ++counts->at_usual_limit;
    return kMemoryLimit;
  }
#else
  (void)random;
  (void)counts;
#endif
  return kSmallLimit;
}

// What a load took, seen from outside.
class Measured {
 public:
  Measured(size_t file_bytes, int64_t limit, Counts* counts)
      : texts_(static_cast<int64_t>(file_bytes) * kBytesPerByte + kLittle),
        limit_(limit),
        counts_(counts),
        start_(live_bytes),
        began_(std::clock()) {
    peak_bytes = live_bytes;
  }
  // After the load, whatever came of it.
  void check_peak() const {
    const int64_t peak = peak_bytes - start_;
    const double seconds = static_cast<double>(std::clock() - began_) / CLOCKS_PER_SEC;
    counts_->most_memory = std::max(counts_->most_memory, peak);
    counts_->slowest = std::max(counts_->slowest, seconds);
    if (peak > limit_ + texts_)
      throw Crash("a load that takes " + std::to_string(peak) + " bytes, with a limit of " + std::to_string(limit_));
    if (seconds > kMostSeconds) throw Crash("a load that takes " + std::to_string(seconds) + " seconds");
  }
  void check_kept(const Plans& plans) const {
    const int64_t kept = live_bytes - start_, charged = plans.kept_bytes() + plans.smallest()->workspace_bytes(1);
    if (kept > charged + texts_ / 8)
      throw Crash("a network that keeps " + std::to_string(kept) + " bytes, of which " + std::to_string(charged) +
                  " were charged");
  }

 private:
  int64_t texts_, limit_;
  Counts* counts_;
  int64_t start_;
  std::clock_t began_;
};

Model load(const OwnedArray& memory, size_t size, const KernelTable& table, int64_t limit, Counts* counts) {
  const Measured measured(size, limit, counts);
  try {
    Model model = Model::read(memory.memory.get(), size, table, limit);
    measured.check_peak();
    measured.check_kept(model.plans);
    return model;
  } catch (const Error&) {
    measured.check_peak();
    throw;
  }
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
    const Model model = load(memory, bytes.size(), table, limit_for(random, counts), counts);
    memory = OwnedArray();
    ++counts->loaded;
    if (!model.class_names.empty()) ++counts->with_class_names;
    if (random.one_in(2)) run_model(random, *model.plans.at(random_shapes(random, model.plans)), counts);
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
