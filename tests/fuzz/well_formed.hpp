// SPDX-License-Identifier: MIT
#pragma once
// Whether a text is what it should be: a strict reader of XML, for the part of it that drawings use,
// and of the page of plot/attention_view.hpp, which embeds labels and numbers in three places.
#include <algorithm>
#include <cstddef>
#include <nlohmann/json.hpp>
#include <set>
#include <string>
#include <string_view>
#include <vector>

#include <eigenheads/plot/attention_view.hpp>

#include "input.hpp"

namespace fuzz {

// Elements, attributes in double quotes, text, five entities and &#39;; no comment, CDATA or doctype.
class XmlReader {
 public:
  explicit XmlReader(std::string_view xml) : left_(xml) {}

  void read() {
    expect("<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n");
    bool has_root = false;
    while (!left_.empty()) {
      if (left_.starts_with("</")) {
        close();
      } else if (left_[0] == '<') {
        require(!open_.empty() || !std::exchange(has_root, true), "two roots");
        open();
      } else {
        const std::string_view text = upto('<');
        check_characters(text);
        require(!open_.empty() || text == "\n", "text outside of the root");
      }
    }
    require(has_root && open_.empty(), "an element that is not closed");
  }

 private:
  void expect(std::string_view token) {
    if (!left_.starts_with(token))
      fail("expected " + std::string(token) + ", found " + std::string(left_.substr(0, 40)));
    left_.remove_prefix(token.size());
  }
  // The beginning, up to the character, or all of it.
  std::string_view upto(char end) {
    const std::string_view found = left_.substr(0, left_.find(end));
    left_.remove_prefix(found.size());
    return found;
  }
  std::string name() {
    const auto is_of_name = [](char c) {
      return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == ':' || c == '-' ||
             (c >= '0' && c <= '9');
    };
    const auto end = std::ranges::find_if_not(left_, is_of_name);
    const std::string found(left_.begin(), end);
    require(!found.empty() && (found[0] < '0' || found[0] > '9'), "no name");
    left_.remove_prefix(found.size());
    return found;
  }

  void open() {
    expect("<");
    const std::string element = name();
    std::set<std::string> attributes;
    while (left_.starts_with(' ')) {
      expect(" ");
      const std::string attribute = name();
      require(attributes.insert(attribute).second, "the attribute " + attribute + " twice");
      expect("=\"");
      const std::string_view value = upto('"');
      expect("\"");
      require(value.find('<') == value.npos, "a < in an attribute");
      check_characters(value);
      for (const char* number : {"x", "y", "width", "height", "viewBox", "transform", "font-size",
                                 "x1", "x2", "y1", "y2", "d", "points", "offset"})
        if (attribute == number) check_numbers(value);
    }
    if (left_.starts_with("/>")) return expect("/>");
    expect(">");
    open_.push_back(element);
  }
  void close() {
    expect("</");
    require(!open_.empty() && name() == open_.back(), "another element is closed");
    open_.pop_back();
    expect(">");
  }

  static void check_numbers(std::string_view value) {
    require(value.find("nan") == value.npos && value.find("inf") == value.npos,
            "a number that is none: " + std::string(value));
  }
  static void check_characters(std::string_view text) {
    for (std::size_t at = text.find('&'); at != text.npos; at = text.find('&', at + 1)) {
      const std::string_view rest = text.substr(at);
      const auto begins = [&](const char* entity) { return rest.starts_with(entity); };
      require(begins("&amp;") || begins("&lt;") || begins("&gt;") || begins("&quot;") ||
                  begins("&#39;"),
              "an unknown entity");
    }
    require(text.find("]]>") == text.npos, "]]> in text");
    check_utf8(text);
  }

 public:
  // The characters of XML 1.0, in UTF-8, of controls the newline alone.
  static void check_utf8(std::string_view text) {
    for (std::size_t i = 0; i < text.size();) {
      const auto lead = static_cast<unsigned char>(text[i++]);
      const int more = lead < 0x80   ? 0
                       : lead < 0xC2 ? -1
                       : lead < 0xE0 ? 1
                       : lead < 0xF0 ? 2
                       : lead < 0xF5 ? 3
                                     : -1;
      require(more >= 0, "no UTF-8");
      std::uint32_t rune = more == 0 ? lead : lead & (0x3Fu >> more);
      for (int n = 0; n < more; ++n) {
        require(i < text.size() && (text[i] & 0xC0) == 0x80, "no UTF-8");
        rune = rune << 6 | (static_cast<unsigned char>(text[i++]) & 0x3Fu);
      }
      require(more < 2 || rune >= (more == 2 ? 0x800u : 0x10000u), "UTF-8 that is too long");
      require(rune <= 0x10FFFF && (rune < 0xD800 || rune >= 0xE000) && rune != 0xFFFE &&
                  rune != 0xFFFF && (rune >= 0x20 || rune == '\n') && (rune < 0x7F || rune >= 0xA0),
              "a character that is none of XML");
    }
  }

 private:
  std::string_view left_;
  std::vector<std::string> open_;
};

inline void require_well_formed_xml(std::string_view xml) { XmlReader(xml).read(); }

// But for the title, the weights and the model, the page is always the same; each of them ends where it
// should, and holds nothing that begins or ends an element. The model.
inline nlohmann::json require_whole_page(std::string_view html) {
  const auto expect = [&](std::string_view token) {
    if (!html.starts_with(token))
      fail("the page goes on with " + std::string(html.substr(0, 60)) + ", not " +
           std::string(token.substr(0, 60)));
    html.remove_prefix(token.size());
  };
  const auto upto = [&](std::string_view token) {
    const std::string_view found = html.substr(0, html.find(token));
    require(found.find('<') == found.npos, "an element within");
    html.remove_prefix(found.size());
    expect(token);
    return found;
  };
  namespace plot = eigenheads::detail::plot;
  expect(plot::view_head);
  expect("<title>");
  const std::string_view title = upto("</title>\n<style>");
  expect(plot::view_style);
  expect("</style>\n</head>\n<body>\n<header>\n<div>\n<h1><bdi>");
  require(upto("</bdi></h1>") == title, "two titles");
  require(title.find('>') == title.npos, "a > in the title");
  XmlReader::check_utf8(title);
  expect(plot::view_body);
  while (html.starts_with("<script type=\"text/plain\" id=\"weights-")) {
    expect("<script type=\"text/plain\" id=\"weights-");
    const std::string_view id = upto("\">"), weights = upto("</script>\n");
    require(id.find_first_not_of("0123456789-") == id.npos, "another id");
    require(weights.find_first_not_of("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
                                      "0123456789+/=") == weights.npos,
            "weights that are no base64");
  }
  expect("<script type=\"application/json\" id=\"model\">\n");
  const std::string json(upto("\n</script>\n<script type=\"module\">"));
  XmlReader::check_utf8(json);
  for (const std::string_view script : plot::view_scripts) expect(script);
  require(html == "\nstart();\n</script>\n</body>\n</html>\n", "another end");
  nlohmann::json model = nlohmann::json::parse(json, nullptr, false);
  require(!model.is_discarded(), "a model that is no JSON");
  return model;
}

}  // namespace fuzz
