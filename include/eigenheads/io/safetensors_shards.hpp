// SPDX-License-Identifier: MIT
#pragma once
// Tensors in several .safetensors files, and the index that says which holds which (read by
// safetensors_index.hpp), as Hugging Face's transformers writes and reads them:
//   write_safetensors_shards("model.safetensors.index.json", std::move(contents), 5'000'000'000);
//     -> model-00001-of-00002.safetensors, model-00002-of-00002.safetensors, and the index
// Needs nlohmann-json 3.
#include <cstddef>
#include <cstdint>
#include <deque>
#include <filesystem>
#include <map>
#include <string>
#include <string_view>
#include <system_error>
#include <utility>
#include <vector>

#include <eigenheads/detail/macros_off.inl>
#include <eigenheads/io/file.hpp>                // Replacement, refuse_file
#include <eigenheads/io/safetensors.hpp>         // Safetensors, write_safetensors_to
#include <eigenheads/io/safetensors_header.hpp>  // json_text
#include <eigenheads/io/safetensors_index.hpp>   // is_beside

namespace eigenheads::inline EIGENHEADS_ABI {

namespace detail {

// Tensors in their order, as many in a file as have no more bytes than `most` together; one that has
// more is alone.
[[nodiscard]] inline std::vector<SafetensorsHeader> shards_of(SafetensorsHeader whole,
                                                              std::uint64_t most) {
  std::vector<SafetensorsHeader> shards;
  for (SafetensorsEntry& entry : whole.entries) {
    const std::uint64_t size = entry.end - entry.begin;
    if (shards.empty() || shards.back().entries.back().end + size > most)
      shards.emplace_back().metadata = whole.metadata;
    std::vector<SafetensorsEntry>& entries = shards.back().entries;
    entry.begin = entries.empty() ? 0 : entries.back().end;
    entry.end = entry.begin + size;
    entries.push_back(std::move(entry));
  }
  return shards;
}

// "model-00001-of-00002.safetensors"
[[nodiscard]] inline std::string shard_name(std::string_view stem, std::size_t number,
                                            std::size_t count) {
  const auto five_digits = [](std::size_t n) {
    const std::string digits = std::to_string(n);
    return std::string(digits.size() < 5 ? 5 - digits.size() : 0, '0') + digits;
  };
  return std::string(stem) + '-' + five_digits(number) + "-of-" + five_digits(count) +
         ".safetensors";
}

// As nlohmann's dump(2) writes it, which leaks where memory runs out.
[[nodiscard]] inline std::string safetensors_index_text(
    const std::map<std::string, std::string>& files, std::uint64_t total) {
  std::string text = "{\n  \"metadata\": {\n    \"total_size\": " + std::to_string(total) +
                     "\n  },\n  \"weight_map\": {";
  bool is_first = true;
  for (const auto& [tensor, file] : files) {
    text += std::exchange(is_first, false) ? "\n    " : ",\n    ";
    text.append(json_text(tensor)).append(": ").append(json_text(file));
  }
  return text + "\n  }\n}\n";
}

// The index is the last of the files: while the others are not all of one checkpoint, there is none.
inline void take_places(std::deque<Replacement>& files) {
  files.back().remove_old();
  for (Replacement& file : files) file.take_place();
}

}  // namespace detail

// Each file has at most so many bytes of tensors, or one tensor. Throws FileError, and then leaves all
// files as they were, if one of them cannot be written, if the index has another name than those that
// end in .safetensors.index.json and that are read back, or if the model.safetensors lies there that a
// folder is asked for first. All are written before the first takes its place; then the old index goes,
// and the new one comes last. Where one of these renames fails (FileError too), or the program is killed
// between them, there is no index, and so no checkpoint, rather than a mixture of both. Files that the
// old index named, and the new one does not, stay.
inline void write_safetensors_shards(const std::filesystem::path& index, Safetensors contents,
                                     std::uint64_t most_bytes) {
  constexpr std::string_view ending = ".safetensors.index.json";
  const std::string name = index.filename().string();
  if (!name.ends_with(ending) || name.size() == ending.size())
    detail::refuse_file(index, "expected a name that ends in " + std::string(ending));
  const std::string stem = name.substr(0, name.size() - ending.size());
  // What the index could not say, or its reader would not follow.
  if (!detail::is_beside(stem + "-1") || !detail::is_utf8(stem))
    detail::refuse_file(
        index, "expected a name in UTF-8 without a colon, a backslash or what cannot be seen");
  const std::filesystem::path folder = index.parent_path();
  std::error_code ignored;
  if (stem == "model" && std::filesystem::exists(folder / "model.safetensors", ignored))
    detail::refuse_file(index, "model.safetensors lies beside it, and would be read instead");
  const std::vector<detail::SafetensorsHeader> shards =
      detail::shards_of(std::move(contents.header_), most_bytes);
  if (shards.empty()) detail::refuse_file(index, "there is no tensor to be written");

  std::map<std::string, std::string> places;
  std::uint64_t total = 0;
  std::deque<detail::Replacement> files;
  for (std::size_t i = 0; i < shards.size(); ++i) {
    const std::string shard = detail::shard_name(stem, i + 1, shards.size());
    for (const detail::SafetensorsEntry& entry : shards[i].entries) places[entry.name] = shard;
    total += shards[i].entries.back().end;
    const std::string beginning = detail::safetensors_beginning(folder / shard, shards[i]);
    detail::write_safetensors_to(files.emplace_back(folder / shard), beginning, shards[i]);
  }
  const std::string text = detail::safetensors_index_text(places, total);
  const std::string_view all = text;
  files.emplace_back(index).write({&all, 1});
  detail::take_places(files);
}

}  // namespace eigenheads::inline EIGENHEADS_ABI

#include <eigenheads/detail/macros_on.inl>
