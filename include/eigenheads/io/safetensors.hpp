// SPDX-License-Identifier: MIT
#pragma once
// Named tensors and texts in one .safetensors file, such as a checkpoint of a training run:
//   header length: 8 bytes, little-endian | header, and spaces after it | data
//   https://github.com/huggingface/safetensors#format
// Every byte of the data is one tensor's, so a file that was cut short is refused, and so is one
// whose header does not fit it; the data has no checksum. A file is trusted with nothing, and no
// more is allocated than its size allows. A tensor of a type that is not supported is kept as it is:
// only to ask for its elements is an error. Needs nlohmann-json 3.
#include <algorithm>
#include <array>
#include <bit>
#include <concepts>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <filesystem>
#include <map>
#include <string>
#include <string_view>
#include <type_traits>
#include <utility>
#include <vector>

#include <eigenheads/detail/macros_off.inl>
#include <eigenheads/io/byte_order.hpp>          // is_big_endian, reverse_each
#include <eigenheads/io/file.hpp>                // File, FileError, refuse_file, Replacement
#include <eigenheads/io/safetensors_header.hpp>  // SafetensorsType, SafetensorsHeader
#include <eigenheads/io/safetensors_reader.hpp>  // read_safetensors_header
#include <eigenheads/shape.hpp>                  // any, make_tensor, require_shape, refuse
#include <eigenheads/storage.hpp>                // BFloat16, Half
#include <eigenheads/tensor.hpp>                 // Index, Tensor, TensorView

namespace eigenheads::inline EIGENHEADS_ABI {

// float, double, bool, the integers of 1 to 8 bytes, and what floats may be stored as.
template <class T>
concept SafetensorsElement = Scalar<T> || (std::integral<T> && sizeof(T) <= 8) ||
                             std::same_as<T, BFloat16> || std::same_as<T, Half>;

namespace detail {

template <SafetensorsElement T>
[[nodiscard]] consteval SafetensorsType safetensors_type_of() {
  using enum SafetensorsType;
  if (std::same_as<T, bool>) return boolean;
  if (std::same_as<T, BFloat16>) return bfloat16;
  if (std::same_as<T, Half>) return float16;
  if (Scalar<T>) return sizeof(T) == 4 ? float32 : float64;
  if (sizeof(T) == 1) return std::is_signed_v<T> ? int8 : uint8;
  if (sizeof(T) == 2) return std::is_signed_v<T> ? int16 : uint16;
  if (sizeof(T) == 4) return std::is_signed_v<T> ? int32 : uint32;
  return std::is_signed_v<T> ? int64 : uint64;
}

template <int Rank>
[[nodiscard]] constexpr auto any_shape() {
  std::array<Index, static_cast<std::size_t>(Rank)> shape{};
  shape.fill(any_size);
  return shape;
}

// Exact: float has all values of both, and NaNs stay NaNs.
inline void widen(const std::string& bytes, SafetensorsType type, float* elements) {
  for (std::size_t i = 0; i < bytes.size(); i += 2) {
    const auto low = static_cast<unsigned char>(bytes[i]);
    const auto high = static_cast<unsigned char>(bytes[i + 1]);
    const auto bits = static_cast<std::uint16_t>(low | high << 8);
    *elements++ = type == SafetensorsType::bfloat16
                      ? std::bit_cast<float>(static_cast<std::uint32_t>(bits) << 16)
                      : static_cast<float>(std::bit_cast<Eigen::half>(bits));
  }
}

inline void require_booleans(const std::filesystem::path& path, const SafetensorsEntry& entry) {
  const auto wrong = std::ranges::find_if(entry.bytes, [](char c) { return c != 0 && c != 1; });
  if (wrong != entry.bytes.end())
    refuse_file(path, "tensor " + quoted_name(entry.name) + ": byte " +
                          std::to_string(wrong - entry.bytes.begin()) + " is " +
                          std::to_string(static_cast<unsigned char>(*wrong)) +
                          ", and a bool is 0 or 1");
}

}  // namespace detail

// What one file holds, or will: tensors in their order, each with its name and type, and texts.
// Copies copy all data.
class Safetensors {
 public:
  Safetensors() = default;

  // ---- To be written. These throw std::invalid_argument if a name is taken, or "__metadata__", or
  // a text is not UTF-8, and then leave everything as it was.

  template <detail::TensorLike X>
  requires SafetensorsElement<element_of<X>>
  void add(const std::string& name, const X& tensor) {
    using T = element_of<X>;
    const TensorView<T, rank_of<X>> view = tensor;
    const std::string what = "tensor " + detail::quoted_name(name);
    require_utf8(what, name);
    if (name == detail::safetensors_metadata_key || contains(name))
      detail::refuse({what, ": the name is taken"});
    if constexpr (rank_of < X >> 0) require_shape(what, view, "its own shape", view.dimensions());

    const std::string_view values(reinterpret_cast<const char*>(view.data()),
                                  static_cast<std::size_t>(view.size()) * sizeof(T));
    std::string bytes(values);
    if constexpr (detail::is_big_endian)
      detail::reverse_each(bytes.data(), bytes.size(), sizeof(T));
    const std::uint64_t begin = header_.entries.empty() ? 0 : header_.entries.back().end;
    const std::uint64_t end = begin + bytes.size();
    decltype(header_.positions) position;  // what takes memory comes first
    position.emplace(name, header_.entries.size());
    header_.entries.push_back({.name = name,
                               .type = detail::safetensors_type_of<T>(),
                               .shape = {view.dimensions().begin(), view.dimensions().end()},
                               .begin = begin,
                               .end = end,
                               .bytes = std::move(bytes)});
    header_.positions.merge(position);
  }
  // A tensor without dimensions: a counter, a seed.
  template <SafetensorsElement T>
  void add(const std::string& name, T value) {
    add(name, TensorView<T, 0>(&value, {}));
  }
  void set_metadata(const std::string& key, const std::string& text) {
    const std::string what = "metadata " + detail::quoted_name(key);
    require_utf8(what, key);
    require_utf8(what, text);
    header_.metadata.insert_or_assign(key, std::string(text));
  }

  // ---- Read. For a name that is not there these throw FileError.

  // The file that was read, or what messages call it.
  [[nodiscard]] std::filesystem::path path() const {
    return path_.empty() ? "(not from a file)" : path_;
  }
  [[nodiscard]] const std::map<std::string, std::string>& metadata() const {
    return header_.metadata;
  }
  [[nodiscard]] std::vector<std::string> names() const {
    std::vector<std::string> names;
    names.reserve(header_.entries.size());
    for (const auto& entry : header_.entries) names.push_back(entry.name);
    return names;
  }
  [[nodiscard]] bool contains(std::string_view name) const { return find(name) != nullptr; }
  [[nodiscard]] SafetensorsType type(std::string_view name) const { return entry(name).type; }
  // As the format calls it, also where type() is `unsupported`: "F8_E4M3".
  [[nodiscard]] std::string type_name(std::string_view name) const {
    return detail::dtype_of(entry(name));
  }
  [[nodiscard]] const std::vector<Index>& shape(std::string_view name) const {
    return entry(name).shape;
  }

  // A copy. Throws FileError unless the tensor has exactly that type and that shape, in which
  // eigenheads::any stands for any length; only F16 and BF16 are also read as float.
  template <SafetensorsElement T, int Rank>
  [[nodiscard]] Tensor<T, Rank> tensor(std::string_view name,
                                       const std::array<Index, static_cast<std::size_t>(Rank)>&
                                           expected = detail::any_shape<Rank>()) const {
    const detail::SafetensorsEntry& held = entry(name);
    constexpr SafetensorsType type = detail::safetensors_type_of<T>();
    const bool is_narrow = std::same_as<T, float> && detail::is_narrow_float(held.type);
    const auto fits = [](Index got, Index want) { return want == any_size || got == want; };
    if ((held.type != type && !is_narrow) || !std::ranges::equal(held.shape, expected, fits))
      refuse("tensor " + detail::quoted_name(name) + " is " + detail::described(held) +
             (held.type == SafetensorsType::unsupported ? ", a type that is not supported" : "") +
             "; expected " + name_of(type) + ' ' + detail::expected_text(expected));

    std::array<Index, static_cast<std::size_t>(Rank)> shape{};
    std::ranges::copy(held.shape, shape.begin());
    auto result = detail::make_tensor<T>(name, shape);
    if constexpr (std::same_as<T, float>)
      if (is_narrow) {
        detail::widen(held.bytes, held.type, result.data());
        return result;
      }
    const std::size_t size = static_cast<std::size_t>(result.size()) * sizeof(T);
    const auto to = reinterpret_cast<char*>(result.data());
    if (size > 0) std::memcpy(to, held.bytes.data(), size);
    if constexpr (detail::is_big_endian) detail::reverse_each(to, size, sizeof(T));
    return result;
  }
  template <SafetensorsElement T>
  [[nodiscard]] T value(std::string_view name) const {
    return tensor<T, 0>(name)();
  }

 private:
  friend Safetensors read_safetensors(const std::filesystem::path& path);
  friend Safetensors parse_safetensors(std::string_view bytes, const std::filesystem::path& name);
  friend void write_safetensors(const std::filesystem::path& path, const Safetensors& contents);
  friend void write_safetensors_shards(const std::filesystem::path& index, Safetensors contents,
                                       std::uint64_t most_bytes);

  Safetensors(const std::filesystem::path& path, detail::File& file, std::uintmax_t file_size)
      : path_(path), header_(detail::read_safetensors_header(file, file_size)) {
    for (detail::SafetensorsEntry& entry : header_.entries) {
      const std::uint64_t size = entry.end - entry.begin;
      entry.bytes.resize(static_cast<std::size_t>(size));
      file.read(entry.bytes.data(), entry.bytes.size());
      if (entry.type == SafetensorsType::boolean) detail::require_booleans(path, entry);
    }
    file.require_end();
  }

  [[noreturn]] void refuse(const std::string& what) const { detail::refuse_file(path(), what); }
  static void require_utf8(const std::string& what, std::string_view text) {
    if (!detail::is_utf8(text)) detail::refuse({what, ": not UTF-8"});
  }
  [[nodiscard]] const detail::SafetensorsEntry* find(std::string_view name) const {
    const auto found = header_.positions.find(name);
    return found == header_.positions.end() ? nullptr : &header_.entries[found->second];
  }
  [[nodiscard]] const detail::SafetensorsEntry& entry(std::string_view name) const {
    const auto* found = find(name);
    if (found == nullptr) refuse("no tensor " + detail::quoted_name(name));
    return *found;
  }

  std::filesystem::path path_;  // that it was read from; messages name it
  detail::SafetensorsHeader header_;
};

// Throws FileError if the file cannot be read, or is not exactly one well-formed set of tensors.
[[nodiscard]] inline Safetensors read_safetensors(const std::filesystem::path& path) {
  const std::uintmax_t size = detail::regular_file_size(path);
  detail::File file(path, "rb");
  return Safetensors(path, file, size);
}
// The same from memory; `name` is what messages call it.
[[nodiscard]] inline Safetensors parse_safetensors(std::string_view bytes,
                                                   const std::filesystem::path& name) {
  detail::require_safetensors_size(name, bytes.size());  // no file in memory is empty
  auto file = detail::File::in_memory(name, bytes);
  return Safetensors(name, file, bytes.size());
}

namespace detail {

// What stands before the data: the header and its length.
[[nodiscard]] inline std::string safetensors_beginning(const std::filesystem::path& path,
                                                       const SafetensorsHeader& contents) {
  const std::string header = safetensors_header_text(contents);
  if (header.size() > safetensors_max_header)
    refuse_file(path, "the header would have " + std::to_string(header.size()) +
                          " bytes; at most " + std::to_string(safetensors_max_header) +
                          " are allowed");
  std::string length;
  for (const std::uint64_t size = header.size(); length.size() < 8;)
    length += static_cast<char>(size >> 8 * length.size() & 0xFF);
  return length + header;
}

inline void write_safetensors_to(const Replacement& file, std::string_view beginning,
                                 const SafetensorsHeader& contents) {
  std::vector<std::string_view> parts{beginning};
  for (const SafetensorsEntry& entry : contents.entries) parts.push_back(entry.bytes);
  file.write(parts);
}

}  // namespace detail

// Equal contents are equal bytes. Throws FileError, and then leaves `path` as it was (see
// write_file).
inline void write_safetensors(const std::filesystem::path& path, const Safetensors& contents) {
  const std::string beginning = detail::safetensors_beginning(path, contents.header_);
  detail::Replacement file(path);
  detail::write_safetensors_to(file, beginning, contents.header_);
  file.take_place();
}

}  // namespace eigenheads::inline EIGENHEADS_ABI

#include <eigenheads/detail/macros_on.inl>
