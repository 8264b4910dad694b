// SPDX-License-Identifier: MIT
#pragma once
// A model, and what its tokens are in words.
#include <cstddef>
#include <functional>
#include <span>
#include <string>
#include <string_view>

#include "language_model.hpp"  // Model, Ids
#include "utf8.hpp"            // find_broken

namespace language_model {

struct Voice {
  Model<float> model;
  std::function<Ids(const std::string& prompt)> ids_of;
  std::function<std::string(Index id)> bytes_of;
  Ids stop_ids{};  // what ends a text, and is not said
};

// Whether a text says `stop`, and did not yet without its last token. It may end within that token.
[[nodiscard]] inline bool has_said(const Voice& voice, std::span<const Index> text,
                                   std::string_view stop) {
  std::string tail;
  std::size_t last = 0;
  for (auto id = text.rbegin(); id != text.rend() && tail.size() < last + stop.size(); ++id) {
    tail.insert(0, voice.bytes_of(*id));
    if (id == text.rbegin()) last = tail.size();
  }
  return tail.find(stop) != std::string::npos;
}

// What a token is called: its text, and bytes that are none as numbers.
[[nodiscard]] inline std::string label_of(const Voice& voice, Index id) {
  const std::string bytes = voice.bytes_of(id);
  if (byte_model::find_broken(bytes) == std::string::npos) return bytes;
  std::string label;
  for (const char c : bytes) {
    constexpr std::string_view digits = "0123456789ABCDEF";
    const auto byte = static_cast<unsigned char>(c);
    label += digits[byte / 16];
    label += digits[byte % 16];
  }
  return label;
}

}  // namespace language_model
