// SPDX-License-Identifier: MIT
#pragma once
// What stands before the data of a NumPy .npy file:
//   "\x93NUMPY" | major, minor version | header length | header | data
// The length takes 2 bytes, from version 2.0 on 4. The header is padded with spaces to a newline:
//   {'descr': '<f4', 'fortran_order': False, 'shape': (2, 3), }
// https://numpy.org/doc/stable/reference/generated/numpy.lib.format.html
// The header is a Python literal to NumPy. Here it is matched against that one form, in one pass,
// and never evaluated; a file is trusted with nothing, and no more is allocated than its size
// allows.
#include <algorithm>
#include <array>
#include <charconv>
#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <limits>
#include <span>
#include <string>
#include <string_view>
#include <system_error>
#include <utility>
#include <vector>

#include <eigenheads/detail/macros_off.inl>
#include <eigenheads/error.hpp>    // shape_text
#include <eigenheads/io/file.hpp>  // File, FileError, refuse_file
#include <eigenheads/tensor.hpp>   // Index

namespace eigenheads::inline EIGENHEADS_ABI {

enum class NpyType { float32, float64, int32, int64, boolean };

// What a file holds, before its data is loaded.
struct NpyHeader {
  NpyType type{};
  bool fortran_order = false;  // the first axis is next to itself in the file, not the last
  std::vector<Index> shape;
  std::uintmax_t data_offset = 0;  // in bytes
};

namespace detail {

struct NpyTypeFacts {
  NpyType type;
  const char *descr, *name, *loaded_as;
  Index bytes;
};
inline constexpr std::array<NpyTypeFacts, 5> npy_types{
    {{NpyType::float32, "<f4", "float32", "float", 4},
     {NpyType::float64, "<f8", "float64", "double", 8},
     {NpyType::int32, "<i4", "int32", "std::int32_t", 4},
     {NpyType::int64, "<i8", "int64", sizeof(Index) == 8 ? "eigenheads::Index" : "std::int64_t", 8},
     {NpyType::boolean, "|b1", "bool", "bool", 1}}};

[[nodiscard]] constexpr const NpyTypeFacts& facts_of(NpyType type) {
  return npy_types[static_cast<std::size_t>(type)];
}

// NumPy's own limit. It also keeps what we write far below the 64 KiB of a version 1.0 header.
inline constexpr std::size_t npy_max_rank = 64;
inline constexpr std::string_view npy_magic = "\x93NUMPY";

// The header dictionary. One pass, no recursion: every value is a string, a truth value or a flat
// tuple of integers. Messages count bytes from the start of the file.
class NpyHeaderParser {
 public:
  NpyHeaderParser(const std::filesystem::path& path, std::string_view text, std::size_t offset,
                  bool long_integers)
      : path_(path), text_(text), offset_(offset), long_integers_(long_integers) {}

  [[nodiscard]] NpyHeader parse() {
    NpyHeader header;
    std::array<bool, 3> seen{};
    constexpr std::array<std::string_view, 3> keys{"descr", "fortran_order", "shape"};
    expect("{");
    while (!accept("}")) {
      skip_spaces();
      const std::size_t start = position_;
      const std::string_view key = string();
      const auto which = static_cast<std::size_t>(std::ranges::find(keys, key) - keys.begin());
      if (which == keys.size()) refuse(start, "unknown key " + quoted(key));
      if (std::exchange(seen[which], true)) refuse(start, "second key " + quoted(key));
      expect(":");
      if (which == 0) header.type = type();
      if (which == 1) header.fortran_order = truth();
      if (which == 2) header.shape = shape();
      if (accept(",")) continue;
      expect("}");
      break;
    }
    for (std::size_t which = 0; which < keys.size(); ++which)
      if (!seen[which]) refuse(position_, "no key " + quoted(keys[which]));
    skip_spaces();
    if (text_.substr(position_) != "\n") expected("spaces and one newline up to the end");
    return header;
  }

 private:
  [[noreturn]] void refuse(std::size_t position, const std::string& what) const {
    refuse_file(path_, "header, at byte " + std::to_string(offset_ + position) + ": " + what);
  }
  [[noreturn]] void expected(const std::string& what) const {
    const std::string_view rest = text_.substr(position_);
    refuse(position_, "expected " + what + ", found " +
                          (rest.empty() ? "the end of the header" : quoted(rest)));
  }
  // Short and printable, whatever the file says.
  static std::string quoted(std::string_view text) {
    std::string shown(text.substr(0, 24));
    for (char& c : shown)
      if (c < ' ' || c > '~') c = '?';
    return '"' + shown + '"';
  }

  void skip_spaces() {
    position_ = (std::min)(text_.find_first_not_of(' ', position_), text_.size());
  }
  bool accept(std::string_view token) {
    skip_spaces();
    if (!text_.substr(position_).starts_with(token)) return false;
    position_ += token.size();
    return true;
  }
  void expect(std::string_view token) {
    if (!accept(token)) expected("'" + std::string(token) + "'");
  }

  std::string_view string() {
    skip_spaces();
    const char quote = position_ < text_.size() ? text_[position_] : '\0';
    if (quote != '\'' && quote != '"') expected("a string");
    const std::size_t start = ++position_;
    for (; position_ < text_.size(); ++position_) {
      const char c = text_[position_];
      if (c == quote) return text_.substr(start, position_++ - start);
      if (c < ' ' || c > '~' || c == '\\') expected("a string of plain ASCII");
    }
    expected("the end of a string");
  }

  bool truth() {
    if (accept("True")) return true;
    if (!accept("False")) expected("True or False");
    return false;
  }

  NpyType type() {
    skip_spaces();
    const std::size_t start = position_;
    if (accept("[") || accept("(")) refuse(start, "records (a structured dtype) are not supported");
    const std::string_view descr = string();
    for (const NpyTypeFacts& facts : npy_types)
      if (descr == facts.descr) return facts.type;
    if (descr == "<b1") return NpyType::boolean;  // NumPy reads it, and other programs write it
    const std::string dtype = "dtype " + quoted(descr);
    if (descr.substr(0, 2).ends_with('O'))
      refuse(start, dtype + " is Python objects, and unpickling would run what the file says");
    if (descr.starts_with('>'))
      refuse(start,
             dtype + " is big-endian; save it as " + quoted("<" + std::string(descr.substr(1))));
    refuse(start, dtype + " is not supported; float32, float64, int32, int64 and bool are");
  }

  std::vector<Index> shape() {
    std::vector<Index> shape;
    expect("(");
    while (!accept(")")) {
      if (shape.size() == npy_max_rank)
        refuse(position_, "more than " + std::to_string(npy_max_rank) + " dimensions");
      shape.push_back(dimension());
      if (accept(",")) continue;
      if (shape.size() == 1) expected("',', as in (3,)");
      expect(")");
      break;
    }
    return shape;
  }

  Index dimension() {
    skip_spaces();
    const std::size_t start = position_;
    if (accept("-")) refuse(start, "a negative dimension");
    Index value = 0;
    const auto [end, error] =
        std::from_chars(text_.data() + start, text_.data() + text_.size(), value);
    if (error == std::errc::invalid_argument) expected("a whole number");
    if (error == std::errc::result_out_of_range)
      refuse(start, "a dimension longer than memory can hold");
    position_ = static_cast<std::size_t>(end - text_.data());
    if (text_[start] == '0' && position_ > start + 1) refuse(start, "a number that begins with 0");
    if (long_integers_ && text_.substr(position_).starts_with('L')) ++position_;
    return value;
  }

  const std::filesystem::path& path_;
  std::string_view text_;
  std::size_t offset_, position_ = 0;
  bool long_integers_;
};

[[nodiscard]] inline std::string described(const NpyHeader& header) {
  return "shape " + shape_text(header.shape) + " of " + facts_of(header.type).name;
}

// In bytes. A length of 0 does not excuse the others: NumPy has no such array either, and who
// multiplies them would overflow.
[[nodiscard]] inline std::uintmax_t npy_data_size(const File& file, const NpyHeader& header) {
  Index size = facts_of(header.type).bytes;
  for (const Index n : header.shape) {
    if (n > 0 && size > (std::numeric_limits<Index>::max)() / n)
      refuse_file(file.path(), described(header) + " is more than memory can hold");
    size *= n > 0 ? n : 1;
  }
  return std::ranges::count(header.shape, 0) > 0 ? 0 : static_cast<std::uintmax_t>(size);
}

// Everything before the data, and that the file has room for exactly that data.
[[nodiscard]] inline NpyHeader read_npy_header(File& file, std::uintmax_t file_size) {
  if (file_size < 12)
    refuse_file(file.path(), std::to_string(file_size) + " bytes are too few for a .npy file");
  std::string preamble(8, '\0');
  file.read(preamble.data(), preamble.size());
  if (preamble.starts_with("PK\x03\x04"))
    refuse_file(file.path(), "a .npz archive; unzip it and load the .npy files that are in it");
  if (preamble.starts_with('\x80'))
    refuse_file(file.path(), "a pickle, and unpickling would run what the file says");
  if (!preamble.starts_with(npy_magic))
    refuse_file(file.path(), "not a .npy file: it does not begin with \"\\x93NUMPY\"");
  const auto major = static_cast<unsigned char>(preamble[6]);
  const auto minor = static_cast<unsigned char>(preamble[7]);
  if (major < 1 || major > 3 || minor != 0)
    refuse_file(file.path(), "version " + std::to_string(major) + "." + std::to_string(minor) +
                                 " of the .npy format; 1.0, 2.0 and 3.0 are supported");

  std::string length_bytes(major == 1 ? 2 : 4, '\0');
  const std::size_t offset = preamble.size() + length_bytes.size();
  file.read(length_bytes.data(), length_bytes.size());
  std::uint32_t length = 0;
  for (std::size_t i = length_bytes.size(); i-- > 0;)
    length = length << 8 | static_cast<unsigned char>(length_bytes[i]);
  if (length > file_size - offset)
    refuse_file(file.path(), "the header should have " + std::to_string(length) +
                                 " bytes from byte " + std::to_string(offset) + " on; there are " +
                                 std::to_string(file_size - offset));

  std::string text(length, '\0');
  file.read(text.data(), text.size());
  NpyHeader header = NpyHeaderParser(file.path(), text, offset, major < 3).parse();
  header.data_offset = offset + length;
  const std::uintmax_t needed = npy_data_size(file, header);
  const std::uintmax_t present = file_size - header.data_offset;
  if (present != needed)
    refuse_file(file.path(), (present < needed ? "cut short: " : "longer than its data: ") +
                                 described(header) + " takes " + std::to_string(needed) +
                                 " bytes from byte " + std::to_string(header.data_offset) +
                                 " on; there are " + std::to_string(present));
  return header;
}

// As np.save pads it: room for the first length to grow to 21 digits in place, then up to a
// multiple of 64 bytes, so that the data of a mapped file is aligned.
[[nodiscard]] inline std::string npy_header_text(NpyType type, std::span<const Index> shape) {
  std::string text =
      "{'descr': '" + std::string(facts_of(type).descr) + "', 'fortran_order': False, 'shape': (";
  for (std::size_t axis = 0; axis < shape.size(); ++axis)
    text += (axis > 0 ? ", " : "") + std::to_string(shape[axis]);
  text += shape.size() == 1 ? ",), }" : "), }";
  if (!shape.empty()) text.append(21 - std::to_string(shape[0]).size(), ' ');
  const std::size_t before = npy_magic.size() + 4;
  text.append(64 - (before + text.size() + 1) % 64, ' ');
  text += '\n';
  std::string preamble(npy_magic);
  preamble +=
      {'\1', '\0', static_cast<char>(text.size() % 256), static_cast<char>(text.size() / 256)};
  return preamble + text;
}

}  // namespace detail

// As NumPy calls it: "float32".
[[nodiscard]] constexpr const char* name_of(NpyType type) { return detail::facts_of(type).name; }

// Reads and checks the header alone, so that a program can choose the type to load. Throws
// FileError, as load_npy does.
[[nodiscard]] inline NpyHeader read_npy_header(const std::filesystem::path& path) {
  const std::uintmax_t size = detail::regular_file_size(path);
  detail::File file(path, "rb");
  return detail::read_npy_header(file, size);
}

}  // namespace eigenheads::inline EIGENHEADS_ABI

#include <eigenheads/detail/macros_on.inl>
