// SPDX-License-Identifier: MIT
// A .safetensors file whose header is well-formed JSON, with numbers that overflow what multiplies or
// adds them, and names, types and offsets that fit or do not. Exactly those that fit are read.
#include <cstddef>
#include <cstdint>
#include <limits>
#include <set>
#include <string>
#include <string_view>
#include <vector>

#include "input.hpp"
#include "safetensors.hpp"

namespace {

using eigenheads::Index;
struct Type {
  const char* name;
  std::uint64_t bytes, bytes_in_memory;  // of an element
};

// The header under way, the data that it speaks of, and whether both are as they should be.
struct File {
  std::string header = "{";
  std::uint64_t size = 0;
  bool fits = true;
  std::set<std::string> names{};
};

// A length, most often a small one. Where the text is no whole number below 2^64, `fits` turns false.
std::string length(fuzz::Input& input, File& file, std::uint64_t& value) {
  constexpr std::uint64_t far[] = {0x7FFFFFFF,
                                   0x80000000,
                                   0xFFFFFFFF,
                                   0x100000000,
                                   std::uint64_t{1} << 53,
                                   std::uint64_t{1} << 61,
                                   std::uint64_t{1} << 62,
                                   0x7FFFFFFFFFFFFFFF,
                                   0x8000000000000000,
                                   0xFFFFFFFFFFFFFFFF};
  const Index which = input.between(0, 31);
  if (which < 16) {
    value = static_cast<std::uint64_t>(which % 5);
    return std::to_string(which % 5);
  }
  if (which < 26) {
    value = far[which - 16];
    return std::to_string(far[which - 16]);
  }
  file.fits = false;
  constexpr const char* strange[] = {"-1", "1.0", "1e2", "18446744073709551616", "null", "\"1\""};
  return strange[which - 26];
}

void add_tensor(fuzz::Input& input, File& file) {
  constexpr Type types[] = {{"BOOL", 1, 1}, {"U8", 1, 1},  {"I16", 2, 2}, {"F16", 2, 4},
                            {"BF16", 2, 4}, {"F32", 4, 4}, {"I64", 8, 8}, {"F64", 8, 8}};
  const Type& type = types[input.between(0, std::ssize(types) - 1)];
  const Index letters = input.between(0, 2);
  const std::string name(static_cast<std::size_t>(letters), input.flag() ? 'a' : 'b');
  if (!file.names.insert(name).second) file.fits = false;

  // A length of 0 does not excuse the others: their product fits into memory all the same.
  const std::uint64_t most =
      static_cast<std::uint64_t>((std::numeric_limits<Index>::max)()) / type.bytes_in_memory;
  std::string shape;
  std::uint64_t elements = 1;
  bool is_empty = false;
  for (Index axis = input.between(0, 3); axis > 0; --axis) {
    std::uint64_t n = 0;
    if (!shape.empty()) shape += ',';
    shape += length(input, file, n);
    is_empty = is_empty || n == 0;
    if (n > 0 && elements > most / n) file.fits = false;
    if (n > 0) elements = elements > most / n ? 1 : elements * n;
  }
  const std::uint64_t bytes = is_empty ? 0 : elements * type.bytes;

  std::string begin = std::to_string(file.size), end = std::to_string(file.size + bytes);
  if (bytes > 4096) file.fits = false;  // no such data follows
  if (input.between(0, 7) == 7) {
    std::uint64_t ignored = 0;
    (input.flag() ? begin : end) = length(input, file, ignored);
    file.fits =
        file.fits && begin == std::to_string(file.size) && end == std::to_string(file.size + bytes);
  }
  if (bytes <= 4096) file.size += bytes;
  file.header += (file.header == "{" ? "\"" : ",\"") + name + "\":{\"dtype\":\"" + type.name +
                 "\",\"shape\":[" + shape + "],\"data_offsets\":[" + begin + "," + end + "]}";
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* bytes, std::size_t size) {
  fuzz::Input input(bytes, size);
  File file;
  for (Index n = input.between(0, 5); n > 0; --n) add_tensor(input, file);
  file.header += "}" + std::string(static_cast<std::size_t>(input.between(0, 9)), ' ');
  std::uint64_t length = file.header.size(), data = file.size;
  if (input.between(0, 15) == 15) {
    const std::uint64_t other = input.raw<std::uint64_t>();
    file.fits = file.fits && other == length;
    length = other;
  }
  if (input.between(0, 15) == 15) {
    data = input.byte();
    file.fits = file.fits && data == file.size;
  }
  std::string text;
  for (int i = 0; i < 64; i += 8) text += static_cast<char>(length >> i & 0xFF);
  text += file.header + std::string(static_cast<std::size_t>(data), '\1');
  const bool is_read = fuzz::check_safetensors(text);
  fuzz::require(is_read == file.fits, (is_read ? "read: " : "refused: ") + file.header);
  return 0;
}
