// SPDX-License-Identifier: MIT
#pragma once
// What the JSON header of a .safetensors file says, and how it is written:
//   {"__metadata__": {"any key": "any text"},
//    "name": {"dtype": "F32", "shape": [2, 3], "data_offsets": [begin, end]}, ...}
// Offsets count from the first byte of the data. safetensors_reader.hpp reads it.
#if !__has_include(<nlohmann/json.hpp>)
#error "Safetensors need nlohmann/json.hpp: apt-get install nlohmann-json3-dev"
#endif
#include <array>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <map>
#include <nlohmann/json.hpp>
#include <string>
#include <string_view>
#include <vector>

#include <eigenheads/detail/macros_off.inl>
#include <eigenheads/error.hpp>   // shape_text
#include <eigenheads/tensor.hpp>  // Index

namespace eigenheads::inline EIGENHEADS_ABI {

enum class SafetensorsType {
  boolean,
  int8,
  uint8,
  int16,
  uint16,
  float16,
  bfloat16,
  int32,
  uint32,
  float32,
  int64,
  uint64,
  float64,
  unsupported  // what no tensor here can hold: F8_E4M3, C64 and others
};

namespace detail {

struct SafetensorsTypeFacts {
  SafetensorsType type;
  const char* name;
  Index bytes;  // of an element
};
inline constexpr std::array<SafetensorsTypeFacts, 14> safetensors_types{
    {{SafetensorsType::boolean, "BOOL", 1},
     {SafetensorsType::int8, "I8", 1},
     {SafetensorsType::uint8, "U8", 1},
     {SafetensorsType::int16, "I16", 2},
     {SafetensorsType::uint16, "U16", 2},
     {SafetensorsType::float16, "F16", 2},
     {SafetensorsType::bfloat16, "BF16", 2},
     {SafetensorsType::int32, "I32", 4},
     {SafetensorsType::uint32, "U32", 4},
     {SafetensorsType::float32, "F32", 4},
     {SafetensorsType::int64, "I64", 8},
     {SafetensorsType::uint64, "U64", 8},
     {SafetensorsType::float64, "F64", 8},
     {SafetensorsType::unsupported, "unsupported", 0}}};

[[nodiscard]] constexpr const SafetensorsTypeFacts& facts_of(SafetensorsType type) {
  return safetensors_types[static_cast<std::size_t>(type)];
}

// The format's other types, whose tensors are kept as bytes. The format grows: names that are not
// here are kept as well.
struct SafetensorsUnsupportedFacts {
  std::string_view name;
  std::uint64_t bits;  // of an element; those of a tensor fill whole bytes
};
inline constexpr std::array<SafetensorsUnsupportedFacts, 9> safetensors_unsupported{
    {{"F4", 4},
     {"F6_E2M3", 6},
     {"F6_E3M2", 6},
     {"F8_E4M3", 8},
     {"F8_E4M3FNUZ", 8},
     {"F8_E5M2", 8},
     {"F8_E5M2FNUZ", 8},
     {"F8_E8M0", 8},
     {"C64", 64}}};

// Read as float.
[[nodiscard]] constexpr bool is_narrow_float(SafetensorsType type) {
  return type == SafetensorsType::float16 || type == SafetensorsType::bfloat16;
}

// In bytes; the format's own limit.
inline constexpr std::uint64_t safetensors_max_header = 100'000'000;
inline constexpr std::string_view safetensors_metadata_key = "__metadata__";

struct SafetensorsEntry {
  std::string name;
  SafetensorsType type{};
  std::vector<Index> shape;
  std::uint64_t begin = 0, end = 0;
  std::string dtype = {};  // of an unsupported type, as the file calls it
  std::string bytes = {};  // once they are read; little-endian
};

struct SafetensorsHeader {
  std::map<std::string, std::string> metadata;
  std::vector<SafetensorsEntry> entries;  // in the order of their data
  // Of each name, its entry. A tree: a file can be made so that all its names have one hash.
  std::map<std::string, std::size_t, std::less<>> positions;
};

// As the format calls it: "F32".
[[nodiscard]] inline std::string dtype_of(const SafetensorsEntry& entry) {
  return entry.type == SafetensorsType::unsupported ? entry.dtype : facts_of(entry.type).name;
}

// Short and printable, whatever the file says.
[[nodiscard]] inline std::string printable(std::string_view text) {
  std::string shown(text.substr(0, 80));
  for (char& c : shown)
    if (c < ' ' || c > '~') c = '?';
  return shown + (shown.size() < text.size() ? "..." : "");
}
[[nodiscard]] inline std::string quoted_name(std::string_view name) {
  return '"' + printable(name) + '"';
}
[[nodiscard]] inline std::string described(const SafetensorsEntry& entry) {
  constexpr std::size_t most = 32;
  const std::string shape = entry.shape.size() > most
                                ? "of " + std::to_string(entry.shape.size()) + " dimensions"
                                : shape_text(entry.shape);
  return printable(dtype_of(entry)) + ' ' + shape;
}

// As JSON writes it; bytes that are not UTF-8 are left out.
[[nodiscard]] inline std::string json_text(std::string_view text) {
  return nlohmann::json(std::string(text))
      .dump(-1, ' ', false, nlohmann::json::error_handler_t::ignore);
}

[[nodiscard]] inline bool is_utf8(std::string_view text) {
  return nlohmann::json::parse(json_text(text), nullptr, false) == std::string(text);
}

// Padded to a multiple of 8 bytes, so that the data of a mapped file is aligned.
[[nodiscard]] inline std::string safetensors_header_text(const SafetensorsHeader& header) {
  std::string text;
  const auto add = [&](std::string_view key, const std::string& value) {
    text += (text.empty() ? '{' : ',') + json_text(key) + ':' + value;
  };
  if (!header.metadata.empty()) {
    std::string metadata;
    for (const auto& [key, value] : header.metadata)
      metadata += (metadata.empty() ? '{' : ',') + json_text(key) + ':' + json_text(value);
    add(safetensors_metadata_key, metadata + '}');
  }
  for (const SafetensorsEntry& entry : header.entries) {
    std::string shape;
    for (const Index n : entry.shape) {  // one by one: g++ 12 warns of text + std::string
      if (!shape.empty()) shape += ',';
      shape += std::to_string(n);
    }
    add(entry.name, "{\"dtype\":" + json_text(dtype_of(entry)) + ",\"shape\":[" + shape +
                        "],\"data_offsets\":[" + std::to_string(entry.begin) + ',' +
                        std::to_string(entry.end) + "]}");
  }
  text += text.empty() ? "{}" : "}";
  text.append((8 - text.size() % 8) % 8, ' ');
  return text;
}

}  // namespace detail

// As the format calls it: "F32".
[[nodiscard]] constexpr const char* name_of(SafetensorsType type) {
  return detail::facts_of(type).name;
}

}  // namespace eigenheads::inline EIGENHEADS_ABI

#include <eigenheads/detail/macros_on.inl>
