// Holds steps of training behind a BatchNorm to the portable kernels: single functions and whole layers. What the
// portable kernels give is held to NumPy by runtime/tests/test_training_norm.py.
//
//   check_training_norm [--cases 200] [--seed 0]      exits with 1 if anything is wrong, and prints it
#include <signal.h>

#include <cstdio>

#include "checks.h"
#include "tools/check_kernels/support.h"

namespace bitorch {
namespace {

int check(int argc, char** argv) {
  RandomLayers layers(argc, argv, "check_training_norm");
  signal(SIGSEGV, report_signal);
  signal(SIGBUS, report_signal);
  const Calls calls = check_norm_functions(layers.random);
  std::printf("%lld calls of functions, %lld wrong\n", static_cast<long long>(calls.done),
              static_cast<long long>(calls.wrong));
  return calls.wrong + check_layers(layers) == 0 ? 0 : 1;
}

}  // namespace
}  // namespace bitorch

int main(int argc, char** argv) { return bitorch::run_tool("check_training_norm", bitorch::check, argc, argv); }
