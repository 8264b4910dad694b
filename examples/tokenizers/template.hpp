// SPDX-License-Identifier: MIT
#pragma once
// The special tokens around a text, or around two: [CLS] A [SEP] B [SEP].
#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <span>
#include <utility>
#include <vector>

#include "vocabulary.hpp"  // kNoToken
#include "word_piece.hpp"  // Piece

namespace tokenizers {

struct Template {
  struct Item {
    enum Kind : std::uint8_t { first, second, special } kind = first;
    std::int32_t type = 0;       // token_type_ids of BERT
    std::int32_t id = kNoToken;  // of a special token
  };
  std::vector<Item> items;

  [[nodiscard]] std::size_t count_specials() const {
    return static_cast<std::size_t>(
        std::ranges::count(items, Item::special, [](const Item& item) { return item.kind; }));
  }
  [[nodiscard]] bool has(Item::Kind kind) const {
    return std::ranges::count(items, kind, [](const Item& item) { return item.kind; }) > 0;
  }
};

// What is left of two texts of so many tokens if they may be `most` together: the longer one is cut
// first, then both. If that is odd, the longer one keeps one more, the second if both are as long.
[[nodiscard]] inline std::pair<std::size_t, std::size_t> longest_first(std::size_t first,
                                                                       std::size_t second,
                                                                       std::size_t most) {
  if (first + second <= most) return {first, second};
  std::size_t shorter = std::min(first, second);
  std::size_t longer = shorter > most ? shorter : std::max(shorter, most - shorter);
  if (shorter + longer > most) {
    shorter = most / 2;
    longer = shorter + most % 2;
  }
  return first > second ? std::pair{longer, shorter} : std::pair{shorter, longer};
}

}  // namespace tokenizers
