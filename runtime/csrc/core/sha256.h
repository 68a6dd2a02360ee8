// SHA-256 (FIPS 180-4).
#pragma once
#include <array>
#include <cstddef>
#include <cstdint>
#include <string>

namespace bitorch {

class Sha256 {
 public:
  using Digest = std::array<uint8_t, 32>;

  void update(const void* data, size_t size);
  Digest finish();  // the object is used up

 private:
  std::array<uint32_t, 8> state_ = {0x6a09e667, 0xbb67ae85, 0x3c6ef372, 0xa54ff53a, 0x510e527f, 0x9b05688c, 0x1f83d9ab, 0x5be0cd19};
  uint64_t bytes_ = 0;  // seen so far
  uint8_t block_[64];   // holds the last bytes_ % 64 of them
};

std::string hex_text(const Sha256::Digest& digest);  // 64 digits, lower case

}  // namespace bitorch
