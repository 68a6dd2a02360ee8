// SHA-256 (FIPS 180-4).
#pragma once
#include <array>
#include <cstddef>
#include <cstdint>
#include <string>

namespace bitorch {

// Takes `blocks` blocks of 64 bytes into the eight words of the state.
using Sha256Blocks = void (*)(uint32_t* state, const uint8_t* data, size_t blocks);

void sha256_portable(uint32_t* state, const uint8_t* data, size_t blocks);
// The CPU's own instructions for it, or null where this CPU has none.
Sha256Blocks sha256_instructions();
Sha256Blocks sha256_fastest();

class Sha256 {
 public:
  using Digest = std::array<uint8_t, 32>;

  explicit Sha256(Sha256Blocks blocks = sha256_fastest()) : blocks_(blocks) {}
  void update(const void* data, size_t size);
  Digest finish();  // the object is used up

 private:
  Sha256Blocks blocks_;
  uint32_t state_[8] = {0x6a09e667, 0xbb67ae85, 0x3c6ef372, 0xa54ff53a, 0x510e527f, 0x9b05688c, 0x1f83d9ab, 0x5be0cd19};
  uint64_t bytes_ = 0;  // seen so far
  uint8_t block_[64];   // holds the last bytes_ % 64 of them
};

std::string hex_text(const Sha256::Digest& digest);  // 64 digits, lower case

}  // namespace bitorch
