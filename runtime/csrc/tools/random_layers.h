// What the checks of training steps share: random layers, each on all kernels, on one thread and on three.
#pragma once
#include <cstdint>
#include <cstdio>
#include <limits>
#include <string>
#include <vector>

#include "tool.h"

namespace bitorch {

// Of a command line [--cases N] [--seed N].
struct RandomLayers {
  RandomLayers(int argc, char** argv, const std::string& tool) : random(0) {
    const Arguments arguments(argc, argv, tool + " [--cases N] [--seed N]", {"--cases", "--seed"});
    cases = arguments.number("--cases", 200, 1, 1000000);
    random = Random(static_cast<uint64_t>(arguments.number("--seed", 0, 0, std::numeric_limits<int64_t>::max())));
  }

  // How many are wrong, which are printed. make(random) is a case, expect(case) what is right of it, and
  // is_right(case, expected, kernels, threads) whether these kernels give that.
  template <class Make, class Expect, class IsRight>
  int64_t check(const std::vector<std::string>& kernels, const Make& make, const Expect& expect,
                const IsRight& is_right) {
    int64_t wrong = 0;
    for (int64_t i = 0; i < cases; ++i) {
      const auto of = make(random);
      const auto expected = expect(of);
      for (const std::string& name : kernels) {
        for (const int threads : {1, 3}) {
          if (is_right(of, expected, name, threads)) continue;
          std::printf("WRONG case %lld, %s, %d threads\n", static_cast<long long>(i), name.c_str(), threads);
          ++wrong;
        }
      }
    }
    std::printf("%lld layers, %lld wrong\n", static_cast<long long>(cases), static_cast<long long>(wrong));
    return wrong;
  }

  int64_t cases;
  Random random;
};

}  // namespace bitorch
