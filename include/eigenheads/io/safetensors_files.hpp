// SPDX-License-Identifier: MIT
#pragma once
// The tensors of a checkpoint, left in their files until they are asked for:
//   SafetensorsFiles files("MiniLM");  // model.safetensors of a folder, or its index; or such a file
//   auto W = files.tensor<float, 2>("encoder.layer.0.attention.self.query.weight", {384, 384});
// Only headers are read at first. What is asked for is read from its place into its destination, and
// converted on the way; no other memory is taken but for 32 KiB. Any number of threads may read at
// once. A file that has become shorter since is refused by the read that finds out
// (positioned_file.hpp says how). Needs nlohmann-json 3.
#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <functional>
#include <map>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include <eigenheads/detail/macros_off.inl>
#include <eigenheads/io/byte_order.hpp>              // is_big_endian, reverse_each
#include <eigenheads/io/foreign_checkpoint.hpp>      // require_not_foreign, weights_in
#include <eigenheads/io/positioned_file.hpp>         // PositionedFile, BeginningOf
#include <eigenheads/io/safetensors.hpp>             // SafetensorsElement, safetensors_type_of
#include <eigenheads/io/safetensors_conversion.hpp>  // Conversion, convert_elements
#include <eigenheads/io/safetensors_index.hpp>       // read_safetensors_index
#include <eigenheads/shape.hpp>                      // make_tensor
#include <eigenheads/tensor.hpp>                     // Index, Tensor

namespace eigenheads::inline EIGENHEADS_ABI {

namespace detail {

// One file, of which the header was read.
struct OpenSafetensors {
  explicit OpenSafetensors(const std::filesystem::path& path) : file(path) {
    require_not_foreign(file);
    BeginningOf beginning(file);
    header = read_safetensors_header(beginning, file.size());
    const std::uint64_t size = header.entries.empty() ? 0 : header.entries.back().end;
    data = file.size() - size;
  }
  [[nodiscard]] const SafetensorsEntry* find(std::string_view name) const {
    const auto found = header.positions.find(name);
    return found == header.positions.end() ? nullptr : &header.entries[found->second];
  }

  PositionedFile file;
  SafetensorsHeader header;
  std::uint64_t data = 0;  // where it begins
};

}  // namespace detail

// A reference to open files, which its copies share.
class SafetensorsFiles {
 public:
  // path: a .safetensors file; the index of several, whose name ends in .json; or a folder in which
  // model.safetensors or model.safetensors.index.json lies. Throws FileError unless all files are
  // there, are whole, and hold the tensors that the index says they hold.
  explicit SafetensorsFiles(const std::filesystem::path& path) : path_(path) {
    detail::require_name(path);
    std::error_code ignored;
    if (std::filesystem::is_directory(path, ignored)) path_ = detail::weights_in(path);
    if (path_.extension() == ".json")
      open_index();
    else
      open_file();
  }

  // The file, or the index.
  [[nodiscard]] const std::filesystem::path& path() const { return path_; }
  [[nodiscard]] std::size_t num_files() const { return files_.size(); }
  // What an index and its files do not agree about, and no tensor is wrong for: a sentence each.
  [[nodiscard]] const std::vector<std::string>& notes() const { return notes_; }
  // Of the first file.
  [[nodiscard]] const std::map<std::string, std::string>& metadata() const {
    return files_.front()->header.metadata;
  }
  // In the order of a file's data; in that of the alphabet if there is an index.
  [[nodiscard]] const std::vector<std::string>& names() const { return names_; }
  [[nodiscard]] bool contains(std::string_view name) const { return places_.contains(name); }

  // For a name that is not there these throw FileError.
  [[nodiscard]] SafetensorsType type(std::string_view name) const {
    return place(name).entry->type;
  }
  // As the format calls it, also where type() is `unsupported`: "F8_E4M3".
  [[nodiscard]] std::string type_name(std::string_view name) const {
    return detail::dtype_of(*place(name).entry);
  }
  [[nodiscard]] const std::vector<Index>& shape(std::string_view name) const {
    return place(name).entry->shape;
  }
  // "F32 [2, 3]", for messages.
  [[nodiscard]] std::string description(std::string_view name) const {
    return detail::described(*place(name).entry);
  }

  // Elements `first`, `first` + 1 and so on, counted in the tensor's order, as many as `to` has. Throws
  // FileError if the tensor has fewer, or if its type is another and Ts are not floats, or have not all
  // its values and `conversion` does not say that they may be rounded to. What was written before a
  // read failed stays written.
  template <SafetensorsElement T>
  void read(std::string_view name, Index first, std::span<T> to,
            Conversion conversion = Conversion::exact) const {
    const Place& from = place(name);
    require_convertible<T>(name, from, conversion);
    const std::size_t width = bytes_of(*from.entry);
    const Index size = static_cast<Index>((from.entry->end - from.entry->begin) / width);
    if (first < 0 || first > size || std::ssize(to) > size - first)
      refuse(from, name,
             "there are " + std::to_string(size) + " elements; expected " +
                 std::to_string(to.size()) + " from " + std::to_string(first) + " on");
    const std::uint64_t offset =
        from.file->data + from.entry->begin + static_cast<std::uint64_t>(first) * width;
    if (from.entry->type == detail::safetensors_type_of<T>())
      read_same(from, name, offset, to);
    else if constexpr (Scalar<T>)
      read_converted(from, name, offset, to);
  }

  // A whole tensor, a copy. Throws FileError as well unless it has that shape, in which eigenheads::any
  // stands for any length.
  template <SafetensorsElement T, int Rank>
  [[nodiscard]] Tensor<T, Rank> tensor(
      std::string_view name,
      const std::array<Index, static_cast<std::size_t>(Rank)>& expected = detail::any_shape<Rank>(),
      Conversion conversion = Conversion::exact) const {
    const Place& from = place(name);
    const auto fits = [](Index got, Index want) { return want == any_size || got == want; };
    if (!std::ranges::equal(from.entry->shape, expected, fits))
      refuse(
          from, name,
          "is " + detail::described(*from.entry) + "; expected " + detail::expected_text(expected));
    require_convertible<T>(name, from, conversion);
    std::array<Index, static_cast<std::size_t>(Rank)> shape{};
    std::ranges::copy(from.entry->shape, shape.begin());
    auto result = detail::make_tensor<T>(name, shape);
    read(name, 0, std::span<T>(result.data(), static_cast<std::size_t>(result.size())), conversion);
    return result;
  }

 private:
  struct Place {
    const detail::OpenSafetensors* file;
    const detail::SafetensorsEntry* entry;
  };

  void open_file() {
    const auto& file = files_.emplace_back(std::make_shared<const detail::OpenSafetensors>(path_));
    for (const detail::SafetensorsEntry& entry : file->header.entries) {
      names_.push_back(entry.name);
      places_.emplace(entry.name, Place{file.get(), &entry});
    }
  }

  void open_index() {
    const detail::SafetensorsIndex index = detail::read_safetensors_index(path_);
    std::map<std::string, const detail::OpenSafetensors*, std::less<>> opened;
    std::uint64_t total = 0;
    for (const auto& [name, file_name] : index.files) {
      const detail::OpenSafetensors*& file = opened[file_name];
      if (file == nullptr)
        file = files_
                   .emplace_back(std::make_shared<const detail::OpenSafetensors>(
                       path_.parent_path() / file_name))
                   .get();
      const detail::SafetensorsEntry* entry = file->find(name);
      if (entry == nullptr)
        detail::refuse_file(path_, "tensor " + detail::quoted_name(name) + " is said to be in " +
                                       detail::quoted_name(file_name) +
                                       ", which has none of that name");
      names_.push_back(name);
      places_.emplace(name, Place{file, entry});
      total += entry->end - entry->begin;
    }
    for (const auto& [file_name, file] : opened)
      for (const detail::SafetensorsEntry& entry : file->header.entries)
        if (const auto at = index.files.find(entry.name); at == index.files.end())
          notes_.push_back("tensor " + detail::quoted_name(entry.name) + " of " +
                           detail::quoted_name(file_name) + " is not in the index, and left out");
        else if (at->second != file_name)
          notes_.push_back("tensor " + detail::quoted_name(entry.name) + " is in " +
                           detail::quoted_name(at->second) + " and, left out, in " +
                           detail::quoted_name(file_name));
    if (index.total_size && *index.total_size != total)
      notes_.push_back("the tensors have " + std::to_string(total) + " bytes; the index says " +
                       std::to_string(*index.total_size));
  }

  [[noreturn]] static void refuse(const Place& from, std::string_view name,
                                  const std::string& what) {
    detail::refuse_file(from.file->file.path(), "tensor " + detail::quoted_name(name) + ' ' + what);
  }
  [[nodiscard]] const Place& place(std::string_view name) const {
    const auto found = places_.find(name);
    if (found == places_.end())
      detail::refuse_file(path_, "no tensor " + detail::quoted_name(name));
    return found->second;
  }
  [[nodiscard]] static std::size_t bytes_of(const detail::SafetensorsEntry& entry) {
    return static_cast<std::size_t>(detail::facts_of(entry.type).bytes);
  }

  template <SafetensorsElement T>
  static void require_convertible(std::string_view name, const Place& from, Conversion conversion) {
    constexpr SafetensorsType wanted = detail::safetensors_type_of<T>();
    const SafetensorsType type = from.entry->type;
    if (type == wanted) return;
    const std::string is = "is " + detail::described(*from.entry);
    if (type == SafetensorsType::unsupported)
      refuse(from, name, is + ", a type that is not supported; expected " + name_of(wanted));
    if constexpr (Scalar<T>) {
      if (conversion == Conversion::rounded || detail::is_exact<T>(type)) return;
      refuse(from, name,
             is + ", whose values " + name_of(wanted) +
                 " has not all; expected that, or Conversion::rounded");
    } else {
      refuse(from, name, is + "; expected " + name_of(wanted));
    }
  }

  static void require_booleans(const Place& from, std::string_view name, std::string_view bytes) {
    if (std::ranges::any_of(bytes, [](char c) { return c != 0 && c != 1; }))
      refuse(from, name, "is BOOL and has a byte that is neither 0 nor 1");
  }

  template <class T>
  static void read_same(const Place& from, std::string_view name, std::uint64_t offset,
                        std::span<T> to) {
    const auto bytes = reinterpret_cast<char*>(to.data());
    from.file->file.read_at(offset, bytes, to.size_bytes());
    if constexpr (std::same_as<T, bool>) require_booleans(from, name, {bytes, to.size_bytes()});
    if constexpr (detail::is_big_endian) detail::reverse_each(bytes, to.size_bytes(), sizeof(T));
  }
  template <class T>
  static void read_converted(const Place& from, std::string_view name, std::uint64_t offset,
                             std::span<T> to) {
    std::array<char, std::size_t{1} << 15> buffer;
    const std::size_t width = bytes_of(*from.entry), most = buffer.size() / width;
    while (!to.empty()) {
      const std::size_t count = (std::min)(most, to.size()), bytes = count * width;
      from.file->file.read_at(offset, buffer.data(), bytes);
      if (from.entry->type == SafetensorsType::boolean)
        require_booleans(from, name, {buffer.data(), bytes});
      detail::convert_elements(buffer.data(), from.entry->type, to.data(), count);
      to = to.subspan(count);
      offset += bytes;
    }
  }

  std::filesystem::path path_;
  std::vector<std::shared_ptr<const detail::OpenSafetensors>> files_;
  std::vector<std::string> names_;
  std::map<std::string, Place, std::less<>> places_;
  std::vector<std::string> notes_;
};

}  // namespace eigenheads::inline EIGENHEADS_ABI

#include <eigenheads/detail/macros_on.inl>
