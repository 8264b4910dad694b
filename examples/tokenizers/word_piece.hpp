// SPDX-License-Identifier: MIT
#pragma once
// BERT's model: a word is cut from the left into the longest pieces that are tokens; those that do not
// begin it carry a prefix ("##"). A word that cannot be cut so is unknown as a whole.
#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "text.hpp"        // Span
#include "vocabulary.hpp"  // Vocabulary

namespace tokenizers {

// A token in a word, or in a text.
struct Piece {
  std::int32_t id;
  Span span;
};

class WordPiece {
 public:
  struct Options {
    std::string continuing_prefix = "##";
    std::size_t max_characters = 100;  // of a word
    std::int32_t unknown = 0;
  };

  WordPiece() : WordPiece({}, {}) {}
  WordPiece(Vocabulary vocabulary, Options options)
      : vocabulary_(std::move(vocabulary)),
        options_(std::move(options)),
        continuing_(Vocabulary::hash_of(options_.continuing_prefix)),
        longest_(vocabulary_.longest()) {}

  [[nodiscard]] const Vocabulary& vocabulary() const { return vocabulary_; }

  // Adds the pieces of bytes `word` of the text.
  void operator()(std::string_view text, Span word, std::vector<Piece>& pieces) const {
    const std::size_t first_piece = pieces.size();
    const std::string_view bytes = part(text, word);
    if (bytes.size() > options_.max_characters &&
        count_characters(bytes) > options_.max_characters) {
      pieces.push_back({options_.unknown, word});
      return;
    }
    std::vector<Vocabulary::Hash> more;
    std::array<Vocabulary::Hash, 128> few;
    const std::size_t most = std::min(longest_, bytes.size());
    if (most > few.size()) more.resize(most);
    Vocabulary::Hash* const hashes = most > few.size() ? more.data() : few.data();
    for (std::size_t begin = 0; begin < bytes.size();) {
      const std::string_view rest = bytes.substr(begin, most);
      const std::string_view prefix =
          begin == 0 ? "" : std::string_view(options_.continuing_prefix);
      Vocabulary::Hash hash = begin == 0 ? Vocabulary::kStart : continuing_;
      for (std::size_t i = 0; i < rest.size(); ++i)
        hashes[i] = hash = Vocabulary::next(hash, rest[i]);
      std::size_t size = rest.size();
      std::int32_t id = kNoToken;
      for (; size > 0; --size) {
        id = vocabulary_.find(hashes[size - 1], prefix, rest.substr(0, size));
        if (id != kNoToken) break;
      }
      if (size == 0) {
        pieces.resize(first_piece);
        pieces.push_back({options_.unknown, word});
        return;
      }
      const auto at = static_cast<std::uint32_t>(word.begin + begin);
      pieces.push_back({id, {at, at + static_cast<std::uint32_t>(size)}});
      begin += size;
    }
  }

 private:
  Vocabulary vocabulary_;
  Options options_;
  Vocabulary::Hash continuing_;
  std::size_t longest_;
};

}  // namespace tokenizers
