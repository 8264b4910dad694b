// SPDX-License-Identifier: MIT
#pragma once
// Tables as Markdown.
#include <ostream>
#include <string>
#include <vector>

namespace bench {

inline void write_line(std::ostream& out, const std::vector<std::string>& cells) {
  for (const std::string& cell : cells) out << "| " << cell << ' ';
  out << "|\n";
}

inline void write_head(std::ostream& out, const std::vector<std::string>& cells) {
  write_line(out, cells);
  write_line(out, std::vector<std::string>(cells.size(), "---"));
}

}  // namespace bench
