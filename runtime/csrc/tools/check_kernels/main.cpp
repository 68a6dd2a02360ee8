// Checks every function of every kernel table this CPU can run against scalar code written from the comments of
// core/kernels.h alone, on random and extreme cases. Integers and floats must be equal, float dot products close.
// Inputs end at an inaccessible page and outputs are compared with everything around them, so that stray reads and
// writes are found too.
//
//   check_kernels [--kernel NAME] [--cases N] [--seed S] [--fused-only]      exits with 1 at a difference and prints
//   the case
#include <signal.h>

#include <cstdio>
#include <exception>
#include <string>
#include <vector>

#include "checks.h"
#include "core/base/cpu.h"

namespace bitorch {
namespace {

void check_choices(const KernelTable& table) {
  describe("%s method[W-1][A-1]", table.name);
  for (int i = 0; i < 64; ++i) {
    const int method = table.method[i / 8][i % 8];
    if (method > kTables || !table.dot[method]) fail("a method that the table does not have", i, method, kBytes);
  }
  for (int method : {kBytes, kFloat, kDepthwiseFloat}) {
    if (!table.dot[method]) fail("a method that every table has", method, 0, 1);
  }
}

void check_table(const KernelTable& table, int cases, uint64_t seed) {
  Random random(seed);
  check_choices(table);
  check_dots(random, table, cases);
  check_tables(random, table, cases);
  check_fused(random, table, cases);
  for (int i = 0; i < cases; ++i) {
    check_finish_int(random, table);
    check_to_float(random, table, true);
    check_to_float(random, table, false);
    for (int k = 0; k < 4; ++k) check_to_codes(random, table, k % 2 == 0);
    check_pixel_sums(random, table);
    check_look_up(random, table);
    check_byte_rows(random, table);
    check_max_of_floats(random, table);
    check_pixels(random, table);
    check_add_ints(random, table);
    check_float_rows(random, table);
    check_affine(random, table);
    check_compare_row(random, table);
    check_pairs(random, table);
    check_take(random, table);
    check_take(random, table);
    check_plane_rows(random, table);
    check_activations(random, table);
    check_softmax(random, table);
    check_sums(random, table);
    check_columns(random, table);
    check_extremes(random, table);
    check_normalize(random, table);
    check_standardize(random, table);
    check_matrices(random, table);
    check_slots(random, table);
    check_groups(random, table);
    check_resize_columns(random, table);
    check_resize_rows(random, table);
  }
}

int run(int argc, char** argv) {
  const Arguments arguments(argc, argv, "check_kernels [--kernel NAME] [--cases N] [--seed S] [--fused-only]",
                            {"--kernel", "--cases", "--seed"}, {"--fused-only"});
  if (!arguments.paths().empty()) arguments.fail("it takes no files");
  const int64_t cases = arguments.number("--cases", 200, 1, 1000000000);
  const int64_t seed = arguments.number("--seed", 1, 0, 1000000000);
  std::vector<std::string> names = arguments.texts("--kernel");
  if (names.empty()) names = available_kernels();
  signal(SIGSEGV, report_signal);
  signal(SIGBUS, report_signal);
  for (const std::string& name : names) {
    if (arguments.has("--fused-only")) {
      Random random(static_cast<uint64_t>(seed));
      check_fused(random, kernels(name), static_cast<int>(cases));
      continue;
    }
    check_table(kernels(name), static_cast<int>(cases), static_cast<uint64_t>(seed));
    std::printf("%s: %llu cases of each function, all equal\n", name.c_str(), static_cast<unsigned long long>(cases));
  }
  return 0;
}

}  // namespace
}  // namespace bitorch

int main(int argc, char** argv) {
  try {
    return bitorch::run(argc, argv);
  } catch (const bitorch::Difference&) {
    return 1;
  } catch (const std::exception& error) {
    std::fprintf(stderr, "check_kernels: %s\n", error.what());
    return 2;
  }
}
