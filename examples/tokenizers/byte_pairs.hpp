// SPDX-License-Identifier: MIT
#pragma once
// Byte-level BPE: the bytes of a word are joined pair by pair, the pair that was learnt first before
// all others, of equal ones the leftmost. Files write bytes as characters of an alphabet of 256.
#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <limits>
#include <optional>
#include <queue>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "text.hpp"        // Span
#include "vocabulary.hpp"  // Vocabulary
#include "word_piece.hpp"  // Piece

namespace tokenizers {

// The character that stands for a byte: itself if it can be seen in Latin-1, else one from U+0100 on.
[[nodiscard]] inline const std::array<char32_t, 256>& byte_alphabet() {
  static const auto alphabet = [] {
    std::array<char32_t, 256> characters{};
    char32_t next = 0x100;
    for (char32_t c = 0; c < 256; ++c) {
      const bool is_seen = (c >= '!' && c <= '~') || (c >= 0xA1 && c <= 0xAC) || c >= 0xAE;
      characters[c] = is_seen ? c : next++;
    }
    return characters;
  }();
  return alphabet;
}

// The bytes that a token stands for, if all of its characters are of the alphabet.
[[nodiscard]] inline std::optional<std::string> bytes_of(std::string_view token) {
  static const auto bytes = [] {
    std::array<std::int16_t, 0x144> found{};
    found.fill(-1);
    for (std::size_t byte = 0; byte < 256; ++byte)
      found[byte_alphabet()[byte]] = static_cast<std::int16_t>(byte);
    return found;
  }();
  std::string result;
  for (std::size_t at = 0; at < token.size();) {
    const Character c = character_at(token, at);
    if (c.code >= bytes.size() || bytes[c.code] < 0) return std::nullopt;
    result += static_cast<char>(bytes[c.code]);
    at += c.size;
  }
  return result;
}

// What two neighbours become, and when: a hash table of pairs of ids.
class Merges {
 public:
  static constexpr std::uint32_t kNever = std::numeric_limits<std::uint32_t>::max();
  struct Merge {
    std::uint32_t rank = kNever;
    std::int32_t id = kNoToken;
  };

  explicit Merges(std::size_t count = 0) {
    while (slots_.size() < 2 * count + 2) slots_.resize(slots_.size() * 2);
  }

  // At most as many as were announced. A later one replaces an earlier one.
  void set(std::int32_t left, std::int32_t right, Merge merge) {
    Slot& slot = slots_[find_slot(key_of(left, right))];
    slot = {key_of(left, right), merge};
  }
  [[nodiscard]] Merge find(std::int32_t left, std::int32_t right) const {
    return slots_[find_slot(key_of(left, right))].merge;
  }

 private:
  static constexpr std::uint64_t kEmpty = std::numeric_limits<std::uint64_t>::max();
  struct Slot {
    std::uint64_t key = kEmpty;
    Merge merge;
  };

  // Ids are not negative, so no key is kEmpty.
  [[nodiscard]] static std::uint64_t key_of(std::int32_t left, std::int32_t right) {
    return static_cast<std::uint64_t>(left) << 32 | static_cast<std::uint32_t>(right);
  }
  [[nodiscard]] std::size_t find_slot(std::uint64_t key) const {
    const std::uint64_t hash = key * 0x9E3779B97F4A7C15u;
    for (auto at = static_cast<std::size_t>(hash ^ hash >> 32);; ++at) {
      const Slot& slot = slots_[at & (slots_.size() - 1)];
      if (slot.key == key || slot.key == kEmpty) return at & (slots_.size() - 1);
    }
  }

  std::vector<Slot> slots_ = std::vector<Slot>(2);
};

class BytePairs {
 public:
  struct Options {
    std::int32_t unknown = kNoToken;  // for bytes that are no token; kNoToken: they are left out
    bool fuses_unknown = false;       // one for all that follow each other
    bool ignores_merges = false;      // a word that is a token is one, however it is merged
  };

  BytePairs(Vocabulary vocabulary, Merges merges, Options options)
      : vocabulary_(std::move(vocabulary)), merges_(std::move(merges)), options_(options) {
    of_bytes_.reserve(vocabulary_.size());
    vocabulary_.for_each([&](std::string_view token, std::int32_t id) {
      if (const auto bytes = bytes_of(token)) of_bytes_.add(*bytes, id);
    });
    for (std::size_t byte = 0; byte < 256; ++byte) {
      const char text = static_cast<char>(byte);
      byte_ids_[byte] = of_bytes_.find({&text, 1});
    }
  }

  [[nodiscard]] const Vocabulary& vocabulary() const { return vocabulary_; }

  // Adds the pieces of bytes `word` of the text.
  void operator()(std::string_view text, Span word, std::vector<Piece>& pieces) const {
    const std::string_view bytes = part(text, word);
    if (options_.ignores_merges) {
      if (const std::int32_t id = of_bytes_.find(bytes); id != kNoToken) {
        pieces.push_back({id, word});
        return;
      }
    }
    const std::size_t first = pieces.size();
    add_bytes(text, word, pieces);
    const std::span<Piece> symbols = std::span(pieces).subspan(first);
    pieces.resize(first + (symbols.size() <= kFew ? merge_few(symbols) : merge_many(symbols)));
  }

 private:
  // Up to this many symbols, looking at all pairs for each merge is faster than a queue of them.
  static constexpr std::size_t kFew = 48;

  void add_bytes(std::string_view text, Span word, std::vector<Piece>& pieces) const {
    bool is_unknown = false;
    for (std::uint32_t at = word.begin; at < word.end; ++at) {
      const std::int32_t id = byte_ids_[static_cast<unsigned char>(text[at])];
      if (id != kNoToken) {
        pieces.push_back({id, {at, at + 1}});
      } else if (options_.unknown != kNoToken) {
        if (is_unknown && options_.fuses_unknown)
          pieces.back().span.end = at + 1;
        else
          pieces.push_back({options_.unknown, {at, at + 1}});
      }
      // A byte that is left out does not part those beside it.
      if (id != kNoToken || options_.unknown != kNoToken) is_unknown = id == kNoToken;
    }
  }

  // Both return how many symbols are left; these stand first.
  [[nodiscard]] std::size_t merge_few(std::span<Piece> symbols) const {
    std::array<Merges::Merge, kFew> merges;  // of each symbol with the next
    std::size_t count = symbols.size();
    for (std::size_t i = 0; i + 1 < count; ++i)
      merges[i] = merges_.find(symbols[i].id, symbols[i + 1].id);
    while (count > 1) {
      std::size_t best = 0;
      for (std::size_t i = 1; i + 1 < count; ++i)
        if (merges[i].rank < merges[best].rank) best = i;
      if (merges[best].rank == Merges::kNever) break;
      symbols[best] = {merges[best].id, {symbols[best].span.begin, symbols[best + 1].span.end}};
      --count;
      for (std::size_t i = best + 1; i < count; ++i) {
        symbols[i] = symbols[i + 1];
        merges[i] = merges[i + 1];
      }
      if (best > 0) merges[best - 1] = merges_.find(symbols[best - 1].id, symbols[best].id);
      if (best + 1 < count) merges[best] = merges_.find(symbols[best].id, symbols[best + 1].id);
    }
    return count;
  }

  [[nodiscard]] std::size_t merge_many(std::span<Piece> symbols) const {
    constexpr std::uint32_t none = std::numeric_limits<std::uint32_t>::max();
    struct Neighbours {
      std::uint32_t before, after;
    };
    struct Candidate {
      std::uint32_t rank, left, right;
      std::int32_t id, left_id, right_id;
      bool operator>(const Candidate& other) const {
        return rank != other.rank ? rank > other.rank : left > other.left;
      }
    };
    const auto count = static_cast<std::uint32_t>(symbols.size());
    std::vector<Neighbours> neighbours(count);
    std::priority_queue<Candidate, std::vector<Candidate>, std::greater<>> queue;
    const auto consider = [&](std::uint32_t left, std::uint32_t right) {
      if (left == none || right == none) return;
      const std::int32_t left_id = symbols[left].id, right_id = symbols[right].id;
      const Merges::Merge merge = merges_.find(left_id, right_id);
      if (merge.rank != Merges::kNever)
        queue.push({merge.rank, left, right, merge.id, left_id, right_id});
    };
    for (std::uint32_t i = 0; i < count; ++i) {
      neighbours[i] = {i == 0 ? none : i - 1, i + 1 == count ? none : i + 1};
      if (i > 0) consider(i - 1, i);
    }
    while (!queue.empty()) {
      const Candidate best = queue.top();
      queue.pop();
      // One of the two may have been merged since, which makes it another, or none.
      if (symbols[best.left].id != best.left_id || neighbours[best.left].after != best.right ||
          symbols[best.right].id != best.right_id)
        continue;
      symbols[best.left] = {best.id, {symbols[best.left].span.begin, symbols[best.right].span.end}};
      symbols[best.right].id = kNoToken;
      const std::uint32_t after = neighbours[best.right].after;
      neighbours[best.left].after = after;
      if (after != none) neighbours[after].before = best.left;
      consider(neighbours[best.left].before, best.left);
      consider(best.left, after);
    }
    const auto end = std::remove_if(symbols.begin(), symbols.end(),
                                    [](const Piece& piece) { return piece.id == kNoToken; });
    return static_cast<std::size_t>(end - symbols.begin());
  }

  Vocabulary vocabulary_, of_bytes_;  // of_bytes_: the bytes of those tokens that stand for some
  Merges merges_;
  Options options_;
  std::array<std::int32_t, 256> byte_ids_{};
};

}  // namespace tokenizers
