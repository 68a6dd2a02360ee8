// Checks what packed files are made of: SHA-256 against known hashes, on every implementation, the rows of packed
// weights against their definition, bit by bit, and numbers as text by the means that macOS has.
//
//   check_packed      exits with 1 if anything is wrong, and prints it
#include <charconv>
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <cstring>
#include <memory>
#include <string>
#include <system_error>
#include <utility>
#include <vector>

#include "core/base/packing.h"
#include "core/format/reals.h"
#include "core/format/sha256.h"
#include "tool.h"

namespace bitorch {
namespace {

int failures = 0;

void expect(bool condition, const std::string& what) {
  if (condition) return;
  std::printf("WRONG %s\n", what.c_str());
  ++failures;
}

// In pieces of `piece` bytes.
std::string sha256_of(Sha256Blocks blocks, const std::string& text, size_t piece) {
  Sha256 sha(blocks);
  for (size_t at = 0; at < text.size(); at += piece) sha.update(text.data() + at, std::min(piece, text.size() - at));
  return hex_text(sha.finish());
}

void check_sha256(Sha256Blocks blocks, const std::string& name) {
  // FIPS 180-2, appendix B, and the empty text.
  const std::pair<std::string, const char*> known[] = {
      {"", "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"},
      {"abc", "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"},
      {"abcdbcdecdefdefgefghfghighijhijkijkljklmklmnlmnomnopnopq",
       "248d6a61d20638b8e5c026930c3e6039a33ce45964ff2167f6ecedd419db06c1"},
      {std::string(1000000, 'a'), "cdc76e5c9914fb9281a1c7e284d73e67f1809a48a497200e046d39ccc7112cd0"},
  };
  for (const auto& [text, hash] : known) {
    for (const size_t piece :
         {size_t{1}, size_t{7}, size_t{63}, size_t{64}, size_t{65}, size_t{1000}, size_t{1} << 20}) {
      expect(sha256_of(blocks, text, piece) == hash,
             name + " of " + std::to_string(text.size()) + " bytes in pieces of " + std::to_string(piece));
    }
  }
  Random random(1);
  for (size_t size = 0; size < 300; ++size) {
    std::string text;
    for (size_t i = 0; i < size; ++i) text += static_cast<char>(random.word());
    expect(sha256_of(blocks, text, 1 + random.below(100)) == sha256_of(sha256_portable, text, size + 1),
           name + " of " + std::to_string(size) + " random bytes");
  }
}

bool bit(const uint8_t* bytes, int64_t i) { return bytes[i / 8] >> i % 8 & 1; }

// Memory of exactly this size, so that a sanitizer sees a byte too many.
std::unique_ptr<uint8_t[]> block_of(int64_t bytes, uint8_t value) {
  std::unique_ptr<uint8_t[]> memory(new uint8_t[static_cast<size_t>(bytes)]);
  std::memset(memory.get(), value, static_cast<size_t>(bytes));
  return memory;
}

void check_rows(Random& random, int bits, int64_t count) {
  const std::string what = std::to_string(count) + " weights of " + std::to_string(bits) + " bits: ";
  const auto m = block_of(count, 0), back = block_of(count, 0xa5);
  for (int64_t k = 0; k < count; ++k) m[k] = static_cast<uint8_t>(random.below(size_t{1} << bits));
  const int64_t row_bytes = packed_row_bytes(count, bits);
  const auto row = block_of(row_bytes, 0xa5);
  pack_row(m.get(), count, bits, row.get());
  bool right = true;
  for (int64_t b = 0; b < 8 * row_bytes; ++b)
    right = right && bit(row.get(), b) == (b / bits < count && bit(&m[b / bits], b % bits));
  expect(right, what + "pack_row");
  unpack_row(row.get(), count, bits, back.get());
  expect(std::memcmp(m.get(), back.get(), static_cast<size_t>(count)) == 0, what + "unpack_row");

  const int64_t used = (count + 7) / 8, plane_bytes = used + static_cast<int64_t>(random.below(20));
  const auto planes = block_of(bits * plane_bytes, 0xa5);
  split_planes(m.get(), count, bits, planes.get(), plane_bytes);
  right = true;
  for (int j = 0; j < bits; ++j) {
    for (int64_t k = 0; k < 8 * plane_bytes; ++k) {
      const bool expected = k < count      ? bit(&m[k], j)
                            : k < 8 * used ? false
                                           : bit(reinterpret_cast<const uint8_t*>("\xa5"), k % 8);
      right = right && bit(planes.get() + j * plane_bytes, k) == expected;
    }
  }
  expect(right, what + "split_planes");
}

void check_copy(Random& random, int64_t first, int64_t count) {
  const auto in = block_of((first + count) / 8 + 8, 0), out = block_of((count + 7) / 8, 0xa5);
  for (int64_t i = 0; i < (first + count) / 8 + 8; ++i) in[i] = static_cast<uint8_t>(random.word());
  copy_bits(out.get(), in.get(), first, count);
  bool right = true;
  for (int64_t i = 0; i < (count + 7) / 8 * 8; ++i)
    right = right && bit(out.get(), i) == (i < count && bit(in.get(), first + i));
  expect(right, "copy_bits of " + std::to_string(count) + " from " + std::to_string(first));
}

#if !defined(_WIN32) && !defined(__APPLE__)  // where there are both
void check_real(double real) {
  char right[32], text[32];
  const std::string expected(right, write_real(right, real)), found(text, posix::write_real(text, real));
  expect(found == expected, "posix::write_real: " + found + " for " + expected);
  double back = 0;
  const std::from_chars_result result = posix::read_real(expected.data(), expected.data() + expected.size(), back);
  expect(result.ec == std::errc() && back == real && std::signbit(back) == std::signbit(real),
         "posix::read_real of " + expected);
}

void check_reals(Random& random) {
  for (double real : {0.0, -0.0, 1.0, 0.1, 1e5, 1e-5, 123456.0, 5e-324, 1.7976931348623157e308}) check_real(real);
  for (int i = 0; i < 2000; ++i) {
    const double fraction = random.real();
    check_real(std::ldexp(fraction, random.from(-1070, 1023)));
    check_real(std::round(fraction * 1e6) / std::pow(10.0, random.from(0, 9)));
  }
  double real = 0;
  const std::string large = "1e999", small = "1e-999";
  expect(posix::read_real(large.data(), large.data() + large.size(), real).ec == std::errc::result_out_of_range, large);
  expect(posix::read_real(small.data(), small.data() + small.size(), real).ec == std::errc() && real == 0, small);
}
#endif

int run() {
  check_sha256(sha256_portable, "sha256_portable");
  if (sha256_instructions() != nullptr) check_sha256(sha256_instructions(), "sha256_instructions");
  Random random(2);
#if !defined(_WIN32) && !defined(__APPLE__)
  check_reals(random);
#endif
  for (int bits = 1; bits <= 8; ++bits) {
    for (int64_t count = 1; count < 80; ++count) check_rows(random, bits, count);
    check_rows(random, bits, 1000 + random.from(0, 9));
  }
  for (int64_t count = 1; count < 100; ++count) {
    for (int64_t first = 0; first < 40; ++first) check_copy(random, first, count);
  }
  if (failures == 0)
    std::printf("packed: hashes and rows are right%s\n",
                sha256_instructions() == nullptr ? "; this CPU has no instructions for SHA-256" : "");
  return failures == 0 ? 0 : 1;
}

}  // namespace
}  // namespace bitorch

int main() { return bitorch::run(); }
