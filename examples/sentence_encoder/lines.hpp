// SPDX-License-Identifier: MIT
#pragma once
// Texts that stand in files, one a line.
#include <cstddef>
#include <filesystem>
#include <iostream>
#include <istream>
#include <iterator>
#include <string>
#include <string_view>
#include <vector>

#include <eigenheads/io/file.hpp>  // read_file

#include "../command_line.hpp"  // require_input_was_read

namespace sentences {

struct Lines {
  std::vector<std::string> texts{};
  std::vector<std::size_t> first{};  // the number of each file's first line among all of them
};

// Lines end with "\n" or "\r\n", the last one also with the text; an empty one counts.
inline void add_lines(std::string_view text, Lines& lines) {
  lines.first.push_back(lines.texts.size());
  while (!text.empty()) {
    const std::size_t end = text.find('\n');
    std::string_view line = text.substr(0, end);
    if (line.ends_with('\r')) line.remove_suffix(1);
    lines.texts.emplace_back(line);
    text.remove_prefix(end == text.npos ? text.size() : end + 1);
  }
}

// Throws eigenheads::FileError.
[[nodiscard]] inline Lines lines_of(const std::vector<std::string>& files) {
  Lines lines;
  for (const std::string& file : files)
    add_lines(eigenheads::read_file(std::filesystem::path(file)), lines);
  return lines;
}
// Throws std::runtime_error if the standard input cannot be read.
[[nodiscard]] inline Lines lines_of(std::istream& in) {
  Lines lines;
  add_lines(std::string(std::istreambuf_iterator<char>(in), {}), lines);
  if (&in == &std::cin) command_line::require_input_was_read();
  return lines;
}

}  // namespace sentences
