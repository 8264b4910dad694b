// SPDX-License-Identifier: MIT
#pragma once
// Which of several .safetensors files holds which tensor, as model.safetensors.index.json says it:
//   {"metadata": {"total_size": 8888}, "weight_map": {"a name": "model-00001-of-00002.safetensors"}}
// The files lie beside the index: a name that leaves its folder is refused.
#include <cstdint>
#include <filesystem>
#include <functional>
#include <map>
#include <nlohmann/json.hpp>
#include <optional>
#include <set>
#include <string>
#include <string_view>
#include <utility>

#include <eigenheads/detail/macros_off.inl>
#include <eigenheads/io/file.hpp>                // read_file, refuse_file
#include <eigenheads/io/safetensors_header.hpp>  // quoted_name, is_utf8

namespace eigenheads::inline EIGENHEADS_ABI::detail {

struct SafetensorsIndex {
  std::map<std::string, std::string, std::less<>> files;  // of each tensor, the file's name
  std::optional<std::uint64_t> total_size;                // in bytes, of all tensors
};

// A file of the index's own folder.
inline void require_beside(const std::filesystem::path& index, std::string_view tensor,
                           const std::string& file) {
  const bool is_name = !file.empty() && file != "." && file != ".." &&
                       file.find_first_of(std::string_view("/\\:\0", 4)) == std::string::npos;
  if (!is_name)
    refuse_file(index, "tensor " + quoted_name(tensor) + " is said to be in " + quoted_name(file) +
                           "; expected the name of a file beside the index");
}

// A document without second keys, of which a parser keeps the last: a tensor in two files.
[[nodiscard]] inline nlohmann::json parse_json(const std::filesystem::path& path,
                                               const std::string& text) {
  constexpr int deepest = 64;
  std::map<int, std::set<std::string>> keys;  // of the objects that are open, by their depths
  std::string second;
  bool is_too_deep = false;
  const auto watch = [&](int depth, nlohmann::json::parse_event_t event, nlohmann::json& parsed) {
    using Event = nlohmann::json::parse_event_t;
    if (event == Event::object_start) keys[depth + 1].clear();
    if (event == Event::key && second.empty() &&
        !keys[depth].insert(parsed.get<std::string>()).second)
      second = parsed.get<std::string>();
    is_too_deep = is_too_deep || depth > deepest;
    return !is_too_deep;  // what is deeper is left out, and the whole refused below
  };
  // nlohmann's parser takes a zero byte for the end of the text.
  nlohmann::json document = text.find('\0') == text.npos
                                ? nlohmann::json::parse(text, watch, false)
                                : nlohmann::json(nlohmann::json::value_t::discarded);
  if (is_too_deep) refuse_file(path, "JSON that is nested too deeply");
  if (document.is_discarded()) refuse_file(path, "not well-formed JSON");
  if (!second.empty()) refuse_file(path, "second key " + quoted_name(second));
  if (!document.is_object()) refuse_file(path, "expected a JSON object");
  return document;
}

[[nodiscard]] inline SafetensorsIndex read_safetensors_index(const std::filesystem::path& path) {
  const nlohmann::json document = parse_json(path, read_file(path));
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
