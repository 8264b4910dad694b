// SPDX-License-Identifier: MIT
#pragma once
// Tokens and their ids. The hash of a text is made byte by byte, so that those of all beginnings of a
// word come in one pass over it; a search for the longest of them that is a token reads the word once.
#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <numeric>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace tokenizers {

inline constexpr std::int32_t kNoToken = -1;

class Vocabulary {
 public:
  using Hash = std::uint64_t;
  static constexpr Hash kStart = 0xCBF29CE484222325u;  // FNV-1a
  [[nodiscard]] static Hash next(Hash hash, char byte) {
    return (hash ^ static_cast<unsigned char>(byte)) * 0x100000001B3u;
  }
  [[nodiscard]] static Hash hash_of(std::string_view text, Hash hash = kStart) {
    for (const char byte : text) hash = next(hash, byte);
    return hash;
  }

  void reserve(std::size_t count) {
    tokens_.reserve(count);
    while (slots_.size() < 2 * count) grow();
  }

  // False, and nothing is added, if the token is there already.
  bool add(std::string_view token, std::int32_t id) {
    if (2 * (tokens_.size() + 1) > slots_.size()) grow();
    const Hash hash = hash_of(token);
    Slot& slot = slots_[find_slot(hash, {}, token)];
    if (slot.token != kEmpty) return false;
    slot = {tag(hash), static_cast<std::uint32_t>(tokens_.size())};
    tokens_.push_back({pool_.size(), static_cast<std::uint32_t>(token.size()), id});
    pool_ += token;
    longest_ = token.size() > longest_ ? token.size() : longest_;
    return true;
  }

  [[nodiscard]] std::int32_t find(std::string_view token) const {
    return find(hash_of(token), {}, token);
  }
  // The token `prefix` + `rest`, whose hash this is.
  [[nodiscard]] std::int32_t find(Hash hash, std::string_view prefix, std::string_view rest) const {
    const std::uint32_t token = slots_[find_slot(hash, prefix, rest)].token;
    return token == kEmpty ? kNoToken : tokens_[token].id;
  }

  // Once all tokens are there, and before token(). Returns an id that two of them have, or kNoToken.
  [[nodiscard]] std::int32_t sort() {
    by_id_.resize(tokens_.size());
    std::iota(by_id_.begin(), by_id_.end(), 0u);
    const auto id_of = [&](std::uint32_t token) { return tokens_[token].id; };
    std::ranges::sort(by_id_, {}, id_of);
    const auto twice = std::ranges::adjacent_find(by_id_, {}, id_of);
    return twice == by_id_.end() ? kNoToken : id_of(*twice);
  }
  // The token of an id, or none. Ids may have gaps of any size.
  [[nodiscard]] std::optional<std::string_view> token(std::int32_t id) const {
    const auto id_of = [&](std::uint32_t token) { return tokens_[token].id; };
    const auto at = std::ranges::lower_bound(by_id_, id, {}, id_of);
    if (at == by_id_.end() || id_of(*at) != id) return std::nullopt;
    return text_of(tokens_[*at]);
  }

  [[nodiscard]] std::size_t size() const { return tokens_.size(); }
  [[nodiscard]] std::size_t longest() const { return longest_; }  // bytes

  template <class Visit>
  void for_each(const Visit& visit) const {
    for (const Token& token : tokens_) visit(text_of(token), token.id);
  }

 private:
  static constexpr std::uint32_t kEmpty = std::numeric_limits<std::uint32_t>::max();
  struct Slot {
    std::uint32_t tag = 0, token = kEmpty;
  };
  struct Token {
    std::size_t begin;
    std::uint32_t size;
    std::int32_t id;
  };

  [[nodiscard]] static std::uint32_t tag(Hash hash) { return static_cast<std::uint32_t>(hash); }
  [[nodiscard]] std::string_view text_of(const Token& token) const {
    return std::string_view(pool_).substr(token.begin, token.size);
  }

  // The slot of this token, or the empty one where it would be.
  [[nodiscard]] std::size_t find_slot(Hash hash, std::string_view prefix,
                                      std::string_view rest) const {
    const std::size_t mask = slots_.size() - 1;
    for (auto at = static_cast<std::size_t>(hash ^ hash >> 32);; ++at) {
      const Slot& slot = slots_[at & mask];
      if (slot.token == kEmpty) return at & mask;
      if (slot.tag != tag(hash)) continue;
      const std::string_view text = text_of(tokens_[slot.token]);
      if (text.size() == prefix.size() + rest.size() && text.starts_with(prefix) &&
          text.ends_with(rest))
        return at & mask;
    }
  }

  void grow() {
    std::vector<Slot> slots(slots_.size() * 2);
    slots_.swap(slots);
    for (const Slot& slot : slots) {
      if (slot.token == kEmpty) continue;
      const std::string_view text = text_of(tokens_[slot.token]);
      slots_[find_slot(hash_of(text), {}, text)] = slot;
    }
  }

  std::string pool_;
  std::vector<Token> tokens_;
  std::vector<Slot> slots_ = std::vector<Slot>(16);
  std::vector<std::uint32_t> by_id_;
  std::size_t longest_ = 0;
};

}  // namespace tokenizers
