// SPDX-License-Identifier: MIT
#pragma once
// Reads and checks everything before the data of a .safetensors file. The file is trusted with
// nothing, and no more is allocated than its size allows.
#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <limits>
#include <nlohmann/json.hpp>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include <eigenheads/detail/macros_off.inl>
#include <eigenheads/io/file.hpp>                // refuse_file
#include <eigenheads/io/safetensors_header.hpp>  // SafetensorsHeader
#include <eigenheads/tensor.hpp>                 // Index

namespace eigenheads::inline EIGENHEADS_ABI::detail {

// Takes the header's JSON event by event, since a parsed document no longer shows that a key came
// twice. The first event that does not belong there is refused, so nothing nests deeper than a
// shape, and nlohmann's parser does not recurse.
class SafetensorsHeaderEvents {
 public:
  SafetensorsHeaderEvents(const std::filesystem::path& path, SafetensorsHeader& header)
      : path_(path), header_(header) {}

  bool null() {
    // The format's own library takes it for none.
    if (place_ != Place::top || key_ != safetensors_metadata_key) unexpected("null");
    return true;
  }
  bool boolean(bool) { unexpected("a truth value"); }
  bool binary(std::vector<std::uint8_t>&) { unexpected("binary"); }
  bool number_integer(std::int64_t) { unexpected("a negative number"); }
  bool number_float(double, const std::string& text) {
    unexpected("the number " + quoted_name(text));
  }
  bool number_unsigned(std::uint64_t number) {
    if (place_ != Place::numbers) unexpected("the number " + std::to_string(number));
    (field_ == shape ? shape_ : offsets_).push_back(number);
    return true;
  }
  bool string(const std::string& text) {
    if (place_ == Place::metadata)
      header_.metadata.emplace(key_, text);
    else if (place_ == Place::entry && field_ == dtype)
      set_type(text);
    else
      unexpected("the string " + quoted_name(text));
    return true;
  }
  bool start_array(std::size_t) {
    if (place_ != Place::entry || field_ == dtype) unexpected("an array");
    place_ = Place::numbers;
    return true;
  }
  bool end_array() {
    place_ = Place::entry;
    return true;
  }
  bool start_object(std::size_t) {
    if (place_ == Place::start) {
      place_ = Place::top;
    } else if (place_ == Place::top) {
      place_ = key_ == safetensors_metadata_key ? Place::metadata : Place::entry;
    } else {
      unexpected("an object");
    }
    return true;
  }
  bool end_object() {
    if (place_ == Place::entry) add_entry();
    place_ = Place::top;  // the last one of all too: the parser refuses what would follow
    return true;
  }
  bool key(const std::string& key) {
    if (place_ == Place::entry) {
      const auto which = std::ranges::find(fields, key) - fields.begin();
      field_ = static_cast<Field>(which);
      if (field_ == count) refuse(where() + "unknown key " + quoted_name(key));
      if (std::exchange(seen_[field_], true)) refuse(where() + "second key " + quoted_name(key));
      return true;
    }
    key_ = key;
    if (place_ == Place::metadata) {
      if (header_.metadata.contains(key)) refuse("second key " + quoted_name(key) + " in metadata");
    } else {
      const bool is_second = key == safetensors_metadata_key
                                 ? std::exchange(has_metadata_, true)
                                 : !header_.positions.try_emplace(key).second;
      if (is_second) refuse("second key " + quoted_name(key));
      entry_ = {};
      entry_.name = key;
      seen_ = {};
      shape_.clear();
      offsets_.clear();
    }
    return true;
  }
  template <class Exception>
  bool parse_error(std::size_t position, const std::string&, const Exception&) {
    refuse("at byte " + std::to_string(sizeof(std::uint64_t) + position - 1) +
           ": not well-formed JSON");
  }

 private:
  enum class Place { start, top, metadata, entry, numbers };
  enum Field : std::size_t { dtype, shape, data_offsets, count };
  static constexpr std::array<std::string_view, count> fields{"dtype", "shape", "data_offsets"};

  [[noreturn]] void refuse(const std::string& what) const { refuse_file(path_, "header, " + what); }
  [[nodiscard]] std::string where() const { return "tensor " + quoted_name(entry_.name) + ": "; }

  [[noreturn]] void unexpected(const std::string& found) const {
    if (place_ == Place::metadata)
      refuse("metadata " + quoted_name(key_) + ": expected a string, found " + found);
    if (place_ == Place::top)  // never at the start, which is known to be an object
      refuse(quoted_name(key_) + ": expected an object, found " + found);
    const char* expected = place_ == Place::numbers ? ": expected whole numbers below 2^64"
                           : field_ == dtype        ? ": expected a string"
                                                    : ": expected an array";
    refuse(where() + std::string(fields[field_]) + expected + ", found " + found);
  }

  void set_type(const std::string& name) {
    const auto facts = std::ranges::find(safetensors_types, name, &SafetensorsTypeFacts::name);
    const bool is_supported =
        facts != safetensors_types.end() && facts->type != SafetensorsType::unsupported;
    entry_.type = is_supported ? facts->type : SafetensorsType::unsupported;
    if (!is_supported) entry_.dtype = name;
  }

  // Of an element; 0 if only the file's writer knows.
  [[nodiscard]] std::uint64_t bits() const {
    if (entry_.type != SafetensorsType::unsupported)
      return 8 * static_cast<std::uint64_t>(facts_of(entry_.type).bytes);
    const auto facts = std::ranges::find(safetensors_unsupported, entry_.dtype,
                                         &SafetensorsUnsupportedFacts::name);
    return facts == safetensors_unsupported.end() ? 0 : facts->bits;
  }

  void add_entry() {
    for (std::size_t field = 0; field < count; ++field)
      if (!seen_[field]) refuse(where() + "no key " + quoted_name(fields[field]));

    // A length of 0 does not excuse the others: who multiplies them would overflow.
    const std::uint64_t in_memory =
        is_narrow_float(entry_.type) ? 32 : (std::max)(bits(), std::uint64_t{8});
    const std::uint64_t limit = largest / (in_memory / 8);
    std::uint64_t elements = 1;
    bool is_empty = false;
    for (const std::uint64_t n : shape_) {
      if (n > 0 && elements > limit / n) refuse(where() + "its shape is more than memory can hold");
      elements *= n > 0 ? n : 1;
      is_empty = is_empty || n == 0;
      entry_.shape.push_back(static_cast<Index>(n));
    }
    require_offsets(is_empty ? 0 : elements);
    header_.entries.push_back(std::move(entry_));
  }

  void require_offsets(std::uint64_t elements) {
    if (offsets_.size() != 2)
      refuse(where() + "data_offsets: expected two numbers, found " +
             std::to_string(offsets_.size()));
    entry_.begin = offsets_[0];
    entry_.end = offsets_[1];
    const bool is_known = bits() > 0 || elements == 0;
    const std::uint64_t width = is_known ? bits() : 1;  // no type takes less
    const std::uint64_t left_over = elements % 8 * width;
    const std::uint64_t size = elements / 8 * width + (left_over + 7) / 8;  // the product overflows
    const std::uint64_t held = entry_.end - entry_.begin;
    const bool fits =
        is_known ? held == size && left_over % 8 == 0 : held >= size && held <= largest;
    if (entry_.begin <= entry_.end && fits) return;
    refuse(where() + "data_offsets [" + std::to_string(entry_.begin) + ", " +
           std::to_string(entry_.end) + "] do not fit " + described(entry_) + ", which takes " +
           (is_known ? "" : "at least ") + std::to_string(size) + " bytes" +
           (is_known && left_over % 8 != 0 ? ", the last of them not whole" : ""));
  }

  static constexpr auto largest = static_cast<std::uint64_t>((std::numeric_limits<Index>::max)());

  const std::filesystem::path& path_;
  SafetensorsHeader& header_;
  Place place_ = Place::start;
  std::string key_;  // of the whole header, or of the metadata
  bool has_metadata_ = false;
  SafetensorsEntry entry_;
  Field field_ = dtype;
  std::array<bool, count> seen_{};
  std::vector<std::uint64_t> shape_, offsets_;
};

// Sorts the tensors into the order of their data, and refuses holes, overlaps, and data of another
// length.
inline void require_whole_data(const std::filesystem::path& path, SafetensorsHeader& header,
                               std::uint64_t present) {
  const auto place = [](const auto& entry) { return std::pair(entry.begin, entry.end); };
  // Those without data stay in their order. (libstdc++ 12 has a stable_sort that clang 19 warns of.)
  const auto position = [&](const auto& entry) {
    return header.positions.find(entry.name)->second;
  };
  std::ranges::sort(header.entries, [&](const auto& a, const auto& b) {
    return place(a) != place(b) ? place(a) < place(b) : position(a) < position(b);
  });
  for (std::size_t i = 0; i < header.entries.size(); ++i)
    header.positions.find(header.entries[i].name)->second = i;
  std::uint64_t end = 0;
  for (const SafetensorsEntry& entry : header.entries) {
    if (entry.begin != end)
      refuse_file(path, "header, tensor " + quoted_name(entry.name) + ": its data begins at byte " +
                            std::to_string(entry.begin) + " and the data before it ends at byte " +
                            std::to_string(end) +
                            (entry.begin < end ? ": an overlap" : ": a hole"));
    end = entry.end;
  }
  if (present != end)
    refuse_file(path, (present < end ? "cut short: " : "longer than its data: ") +
                          std::to_string(header.entries.size()) + " tensors take " +
                          std::to_string(end) + " bytes after the header; there are " +
                          std::to_string(present));
}

inline void require_safetensors_size(const std::filesystem::path& path, std::uint64_t file_size) {
  if (file_size < sizeof(std::uint64_t))
    refuse_file(path, std::to_string(file_size) + " bytes are too few for a safetensors file");
}

// file: a File, or whatever else has a path() and read().
template <class AnyFile>
[[nodiscard]] std::uint64_t read_header_length(AnyFile& file) {
  std::array<char, sizeof(std::uint64_t)> bytes{};
  file.read(bytes.data(), bytes.size());
  std::uint64_t length = 0;
  for (std::size_t i = bytes.size(); i-- > 0;)
    length = length << 8 | static_cast<unsigned char>(bytes[i]);
  return length;
}

// Everything before the data, and that the file has room for exactly that data.
template <class AnyFile>
[[nodiscard]] SafetensorsHeader read_safetensors_header(AnyFile& file, std::uint64_t file_size) {
  const std::filesystem::path& path = file.path();
  constexpr std::uint64_t offset = sizeof(std::uint64_t);
  require_safetensors_size(path, file_size);
  const std::uint64_t length = read_header_length(file);
  if (length > safetensors_max_header)
    refuse_file(path, "the header should have " + std::to_string(length) + " bytes; at most " +
                          std::to_string(safetensors_max_header) + " are allowed");
  if (length > file_size - offset)
    refuse_file(path, "the header should have " + std::to_string(length) + " bytes from byte " +
                          std::to_string(offset) + " on; there are " +
                          std::to_string(file_size - offset));

  std::string text(static_cast<std::size_t>(length), '\0');
  file.read(text.data(), text.size());
  if (!text.starts_with('{'))
    refuse_file(path, "not a safetensors file: its header does not begin with '{'");
  text.erase(text.find_last_not_of(' ') + 1);
  // nlohmann's parser takes a zero byte for the end of the text.
  if (!text.ends_with('}') || text.find('\0') != text.npos)
    refuse_file(path, "the header is more, or less, than one JSON object and spaces after it");

  SafetensorsHeader header;
  SafetensorsHeaderEvents events(path, header);
  nlohmann::json::sax_parse(text, &events);
  require_whole_data(path, header, file_size - offset - length);
  return header;
}

}  // namespace eigenheads::inline EIGENHEADS_ABI::detail

#include <eigenheads/detail/macros_on.inl>
