// SPDX-License-Identifier: MIT
#pragma once
// A page of HTML: everything in one file, nothing linked, all text escaped on its way in.
#include <charconv>
#include <cstddef>
#include <string>
#include <string_view>
#include <vector>

#include <eigenheads/plot/svg.hpp>  // escaped, number

namespace pages {

using eigenheads::plot::escaped;

// With a true minus.
[[nodiscard]] inline std::string fixed(double value, int decimals) {
  std::string text = eigenheads::plot::number(value, std::chars_format::fixed, decimals);
  if (text.front() == '-') text.replace(0, 1, "\u2212");
  return text;
}
// Of a share: "99.75 %"
[[nodiscard]] inline std::string percent(double share, int decimals = 2) {
  return fixed(100 * share, decimals) + "\u00A0%";
}
// A difference of shares: "0.25 points"
[[nodiscard]] inline std::string points(double difference, int decimals = 2) {
  const std::string text = fixed(100 * difference, decimals);
  return text + (text == "1" ? "\u00A0point" : "\u00A0points");
}
[[nodiscard]] inline std::string counted(std::size_t count, std::string_view noun) {
  return std::to_string(count) + ' ' + std::string(noun) + (count == 1 ? "" : "s");
}

// Rows under a head, with a caption. The first cell of each row names it.
class Table {
 public:
  Table(std::string_view caption, const std::vector<std::string>& columns,
        bool is_of_words = false) {
    html_ = "<div class=\"scroll\" tabindex=\"0\"><table" +
            std::string(is_of_words ? " class=\"words\"" : "") + ">\n<caption>" + escaped(caption) +
            "</caption>\n<thead><tr>";
    for (const std::string& column : columns)
      html_ += "<th scope=\"col\">" + escaped(column) + "</th>";
    html_ += "</tr></thead>\n<tbody>\n";
  }
  // Marked cells stand out, for a reason that the caption gives.
  void row(const std::vector<std::string>& cells, const std::vector<bool>& marked = {}) {
    html_ += "<tr>";
    for (std::size_t i = 0; i < cells.size(); ++i)
      if (i == 0)
        html_ += "<th scope=\"row\">" + escaped(cells[i]) + "</th>";
      else if (i < marked.size() && marked[i])
        html_ += "<td><strong>" + escaped(cells[i]) + "</strong></td>";
      else
        html_ += "<td>" + escaped(cells[i]) + "</td>";
    html_ += "</tr>\n";
  }
  [[nodiscard]] std::string str() const { return html_ + "</tbody></table></div>\n"; }

 private:
  std::string html_;
};

[[nodiscard]] inline std::string paragraph(std::string_view text) {
  return "<p>" + escaped(text) + "</p>\n";
}
[[nodiscard]] inline std::string list(const std::vector<std::string>& items) {
  std::string html = "<ul>\n";
  for (const std::string& item : items) html += "<li>" + escaped(item) + "</li>\n";
  return html + "</ul>\n";
}
// `content` is HTML.
[[nodiscard]] inline std::string figure(std::string_view caption, std::string_view content) {
  return "<figure>\n" + std::string(content) + "<figcaption>" + escaped(caption) +
         "</figcaption>\n</figure>\n";
}
[[nodiscard]] inline std::string section(std::string_view id, std::string_view title,
                                         std::string_view content) {
  return "<section aria-labelledby=\"" + escaped(id) + "\">\n<h2 id=\"" + escaped(id) + "\">" +
         escaped(title) + "</h2>\n" + std::string(content) + "</section>\n";
}

// The colours are of Okabe and Ito's set, made darker on white and lighter on black until each has
// a contrast of 3 or more to its ground.
inline constexpr std::string_view kStyle = R"(
:root { color-scheme: light dark; --ground: #ffffff; --text: #1d2328; --quiet: #5b6670;
  --line: #d5dade; --panel: #f5f7f8; --c0: #6b757d; --c1: #0068a6; --c2: #b34a00; --c3: #007a58;
  --c4: #a3457f; --c5: #8a6a00; --c6: #1d2328; --c7: #6b4fbb; --kept: #0068a6; }
@media screen and (prefers-color-scheme: dark) { :root { --ground: #14181b; --text: #e4e8eb;
  --quiet: #a0abb3; --line: #39424a; --panel: #1d2327; --c0: #98a2aa; --c1: #56b4e9; --c2: #f0883e;
  --c3: #2cc295; --c4: #e48ebf; --c5: #e5c100; --c6: #e4e8eb; --c7: #b09cff; --kept: #56b4e9; } }
* { box-sizing: border-box; }
body { margin: 0 auto; padding: 1.5rem 1.25rem 4rem; max-width: 62rem; background: var(--ground);
  color: var(--text); font: 16px/1.55 system-ui, "Helvetica Neue", Arial, sans-serif; }
h1 { font-size: 1.8rem; line-height: 1.2; margin: 0.5rem 0 0.25rem; }
h2 { font-size: 1.3rem; margin: 2.75rem 0 0.5rem; padding-top: 0.75rem;
  border-top: 1px solid var(--line); }
p, li { max-width: 46rem; }
li { margin: 0.3rem 0; }
nav { font-size: 0.9rem; margin: 0.75rem 0; }
nav a { margin-right: 1rem; white-space: nowrap; }
a { color: var(--c1); }
.quiet, figcaption, caption { color: var(--quiet); font-size: 0.9rem; }
.summary { background: var(--panel); border-left: 4px solid var(--c1); padding: 0.5rem 1.25rem;
  margin: 1rem 0; }
figure { margin: 1.25rem 0; }
figcaption { margin-top: 0.4rem; max-width: 46rem; }
svg { max-width: 100%; height: auto; font-family: inherit; overflow: visible; }
.panels { display: grid; gap: 0.75rem; grid-template-columns: repeat(auto-fill, minmax(17rem, 1fr)); }
.legend { margin: 0.4rem 0; font-size: 0.9rem; }
.legend span { display: inline-flex; align-items: center; gap: 0.35rem; margin-right: 1.1rem; }
.scroll { overflow-x: auto; margin: 1.25rem 0; } .scroll svg { max-width: none; }
table { border-collapse: collapse; font-size: 0.9rem; font-variant-numeric: tabular-nums; }
caption { text-align: left; padding-bottom: 0.4rem; caption-side: top; max-width: 46rem; }
th, td { padding: 0.28rem 0.7rem; text-align: right; white-space: nowrap;
  border-bottom: 1px solid var(--line); }
th:first-child { text-align: left; padding-left: 0; }
thead th { border-bottom: 2px solid var(--quiet); vertical-align: bottom; white-space: normal; }
tbody th { font-weight: normal; }
.words :is(td, th) { text-align: left; white-space: normal; }
text { fill: var(--text); } .tick { fill: var(--quiet); } .title { font-weight: 600; }
.grid { stroke: var(--line); stroke-width: 1; } .axis { stroke: var(--quiet); stroke-width: 1; }
.line { fill: none; stroke: currentColor; stroke-width: 2; stroke-linejoin: round; }
.error { fill: none; stroke: currentColor; stroke-width: 1.25; }
.leader { fill: none; stroke: currentColor; stroke-width: 1; opacity: 0.6; }
.mark, .label { fill: currentColor; } .mark { stroke: var(--ground); stroke-width: 1; }
.label { stroke: var(--ground); stroke-width: 3; stroke-linejoin: round; paint-order: stroke; }
.band { fill: currentColor; opacity: 0.2; }
.cell { fill: var(--kept); stroke: none; } .frame { fill: none; stroke: var(--quiet); }
.c0 { color: var(--c0); } .c1 { color: var(--c1); } .c2 { color: var(--c2); }
.c3 { color: var(--c3); } .c4 { color: var(--c4); } .c5 { color: var(--c5); }
.c6 { color: var(--c6); } .c7 { color: var(--c7); }
@media print { body { max-width: none; padding: 0; font-size: 10pt; } nav { display: none; }
  figure, table, .summary { break-inside: avoid; } h2 { break-after: avoid; }
  .scroll { overflow: visible; } .scroll svg { max-width: 100%; } * { print-color-adjust: exact; } }
)";

[[nodiscard]] inline std::string page(std::string_view title, std::string_view body) {
  return "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n"
         "<meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n<title>" +
         escaped(title) + "</title>\n<style>" + std::string(kStyle) +
         "</style>\n</head>\n<body>\n" + std::string(body) + "</body>\n</html>\n";
}

}  // namespace pages
