// SPDX-License-Identifier: MIT
#pragma once
// Which of several .safetensors files holds which tensor, as model.safetensors.index.json says it:
//   {"metadata": {"total_size": 8888}, "weight_map": {"a name": "model-00001-of-00002.safetensors"}}
// The files lie beside the index: a name that leaves its folder is refused.
#include <algorithm>
#include <cstdint>
#include <filesystem>
#include <functional>
#include <map>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <string_view>
#include <utility>

#include <eigenheads/detail/macros_off.inl>
#include <eigenheads/io/config_fields.hpp>       // parse_json_object, EmptiedJson
#include <eigenheads/io/file.hpp>                // read_file, refuse_file
#include <eigenheads/io/safetensors_header.hpp>  // quoted_name

namespace eigenheads::inline EIGENHEADS_ABI::detail {

struct SafetensorsIndex {
  std::map<std::string, std::string, std::less<>> files;  // of each tensor, the file's name
  std::optional<std::uint64_t> total_size;                // in bytes, of all tensors
};

// Whether it names a file of the index's own folder, and a sentence may show it.
[[nodiscard]] inline bool is_beside(std::string_view file) {
  return !file.empty() && file != "." && file != ".." && std::ranges::none_of(file, [](char c) {
    return static_cast<unsigned char>(c) < ' ' ||
           std::string_view("/\\:\x7f").find(c) != std::string_view::npos;
  });
}
inline void require_beside(const std::filesystem::path& index, std::string_view tensor,
                           const std::string& file) {
  if (!is_beside(file))
    refuse_file(index, "tensor " + quoted_name(tensor) + " is said to be in " + quoted_name(file) +
                           "; expected the name of a file beside the index");
}

[[nodiscard]] inline SafetensorsIndex read_safetensors_index(const std::filesystem::path& path) {
  nlohmann::json document = parse_json_object(path, read_file(path));
  const EmptiedJson emptied{document};
  SafetensorsIndex index;
  const auto map = document.find("weight_map");
  if (map == document.end() || !map->is_object())
    refuse_file(path, "expected a key \"weight_map\" with an object of file names");
  for (const auto& [tensor, file] : map->items()) {
    if (!file.is_string())
      refuse_file(path, "tensor " + quoted_name(tensor) + ": expected the name of a file");
    require_beside(path, tensor, file.get_ref<const std::string&>());
    index.files.emplace(tensor, file.get<std::string>());
  }
  if (index.files.empty()) refuse_file(path, "its \"weight_map\" names no tensor");
  if (const auto metadata = document.find("metadata");
      metadata != document.end() && metadata->is_object())
    if (const auto size = metadata->find("total_size");
        size != metadata->end() && size->is_number_unsigned())
      index.total_size = size->get<std::uint64_t>();
  return index;
}

}  // namespace eigenheads::inline EIGENHEADS_ABI::detail

#include <eigenheads/detail/macros_on.inl>
