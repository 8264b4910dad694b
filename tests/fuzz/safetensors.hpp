// SPDX-License-Identifier: MIT
#pragma once
// What must hold of the bytes of a .safetensors file, whatever they are.
#include <algorithm>
#include <cstddef>
#include <filesystem>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include <eigenheads/io/safetensors.hpp>
#include <eigenheads/io/safetensors_files.hpp>

#include "input.hpp"

namespace fuzz {

// Tensors that are read in part, and as numbers.
inline void read_some(const eh::SafetensorsFiles& files) {
  for (const std::string& name : files.names()) {
    (void)files.description(name);
    Index count = 1;
    for (const Index n : files.shape(name))
      count = n > 4096 ? 4096 : (std::min)(count * n, Index{4096});
    std::vector<double> numbers(static_cast<std::size_t>(count));
    (void)succeeds<eh::FileError>(
        [&] { files.read(name, 0, std::span(numbers), eh::Conversion::rounded); });
    require(!succeeds<eh::FileError>([&] {
      files.read(name, (std::numeric_limits<Index>::max)(), std::span(numbers.data(), 1),
                 eh::Conversion::rounded);
    }),
            "an element is read that no tensor has");
  }
}

// Refused by both readers or by none, but for what a truth value may be, which the one that reads no
// data does not see; what is read is written and read with the same bytes. Whether it is read.
inline bool check_safetensors(std::string_view bytes) {
  const auto path = folder() / "x.safetensors", written = folder() / "written.safetensors";
  std::optional<eh::Safetensors> contents;
  const bool is_read =
      succeeds<eh::FileError>([&] { contents = eh::parse_safetensors(bytes, "some bytes"); });
  put(path, bytes);
  std::optional<eh::SafetensorsFiles> files;
  const bool is_open = succeeds<eh::FileError>([&] { files.emplace(path); });
  require(is_open || !is_read, "one reader takes what the other refuses");
  if (is_open) read_some(*files);
  if (is_open && !is_read)
    require(std::ranges::any_of(files->names(),
                                [&](const std::string& name) {
                                  return files->type(name) == eh::SafetensorsType::boolean;
                                }),
            "refused, and not for a truth value");
  if (!is_read) return false;

  require(contents->names() == files->names() && contents->metadata() == files->metadata(),
          "two readers, two contents");
  eh::write_safetensors(written, *contents);
  const std::string once = eh::read_file(written);
  const eh::Safetensors again = eh::parse_safetensors(once, "what was written");
  eh::write_safetensors(written, again);
  require(once == eh::read_file(written), "written, read and written: other bytes");
  require(contents->names() == again.names() && contents->metadata() == again.metadata(),
          "written and read: another content");
  for (const std::string& name : again.names())
    require(contents->shape(name) == again.shape(name) &&
                contents->type_name(name) == again.type_name(name) &&
                files->shape(name) == again.shape(name),
            "written and read: another tensor");
  return true;
}

}  // namespace fuzz
