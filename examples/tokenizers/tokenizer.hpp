// SPDX-License-Identifier: MIT
#pragma once
// Texts as ids, and back: the tokenizers of BERT (WordPiece), and of GPT-2 and Llama 3 (byte-level
// BPE), from the files that Hugging Face's tokenizers write, and with their ids.
//   the text -> added tokens cut out of it -> normalizer -> pre-tokenizer: words -> model: pieces
//     -> truncation -> special tokens around it
// Their ids differ in what is listed here only: fewer tokens asked for than the special ones are refused
// (tokenizers cut nothing then); added tokens keep the ids of the file (tokenizers number them anew if
// there is a gap, with a warning); decoding leaves out special tokens also where a normalizer changes
// their text. Spans hold the blanks that tokens begin with (tokenizers can trim them).
// What the file says of truncation and padding is not done unasked, as in transformers: a limit is an
// option of encode, and packed sequences need no padding.
#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <limits>
#include <optional>
#include <span>
#include <stdexcept>
#include <string>
#include <string_view>
#include <utility>
#include <variant>
#include <vector>

#include "tokenizer_file.hpp"  // Parts, read_parts

namespace tokenizers {

struct EncodeOptions {
  bool special_tokens = true;  // around the text
  // With the special tokens, which are never cut off. Of two texts the longer one is cut first.
  std::size_t max_tokens = std::numeric_limits<std::size_t>::max();
};

struct DecodeOptions {
  bool skips_special_tokens = true;
  // What is no UTF-8 becomes U+FFFD. Without it, the beginning of a character can be told from one
  // that is broken when tokens come one by one.
  bool repairs = true;
};

struct Encoding {
  std::vector<std::int32_t> ids;
  std::vector<Span> spans;  // the bytes of its text that a token stands for; special: {0, 0}
  std::vector<std::int32_t> types;  // token_type_ids: 1 for the second of two texts, in BERT
};

// Any number of threads may use one at the same time.
class Tokenizer {
 public:
  using Options = EncodeOptions;

  // A folder that holds tokenizer.json, vocab.txt or vocab.json (with merges.txt),
  // tokenizer_config.json beside it or not, or one of these files. Throws std::runtime_error, with a
  // sentence, for what cannot be read or is not known.
  [[nodiscard]] static Tokenizer load(const std::filesystem::path& folder_or_file) {
    return Tokenizer(read_parts(folder_or_file));
  }
  // The same from what a tokenizer.json holds.
  [[nodiscard]] static Tokenizer parse(const std::string& json) {
    return Tokenizer(detail::parts_of_json(json));
  }

  // Throws std::invalid_argument for fewer tokens than the special ones, and for texts over 256 MiB;
  // std::runtime_error for a file whose normalizer makes a text 64 times as long, and a MiB longer.
  [[nodiscard]] Encoding encode(std::string_view text, const Options& options = {}) const {
    const std::vector<Piece> pieces = pieces_of(text);
    const Template& around = options.special_tokens ? parts_.single : detail::kPlain;
    const std::size_t most = room(around, options);
    return encoding(around, kept(pieces, std::min(pieces.size(), most)), {});
  }
  // Two texts, as one sequence.
  [[nodiscard]] Encoding encode_pair(std::string_view first, std::string_view second,
                                     const Options& options = {}) const {
    const std::vector<Piece> one = pieces_of(first), two = pieces_of(second);
    const Template& around = options.special_tokens ? parts_.pair : detail::kPlainPair;
    const auto [m, n] = longest_first(one.size(), two.size(), room(around, options));
    return encoding(around, kept(one, m), kept(two, n));
  }

  // Throws std::invalid_argument for an id that no token has.
  [[nodiscard]] std::string decode(std::span<const std::int32_t> ids,
                                   const DecodeOptions& options = {}) const {
    std::string text;
    bool is_first = true;
    for (const std::int32_t id : ids) {
      if (options.skips_special_tokens && is_special(id)) continue;
      const AddedToken* added = added_of(id);
      const std::optional<std::string_view> word =
          added != nullptr ? added->normalized : vocabulary().token(id);
      if (!word)
        throw std::invalid_argument("no token has the id " + std::to_string(id) +
                                    "; the vocabulary has " + std::to_string(vocabulary_size()) +
                                    " tokens");
      parts_.decoder.add(*word, std::exchange(is_first, false), text);
    }
    return options.repairs && !is_utf8(text) ? text_of(text).bytes : text;
  }

  // With the added tokens.
  [[nodiscard]] std::size_t vocabulary_size() const { return vocabulary().size() + num_new_; }
  [[nodiscard]] std::optional<std::int32_t> id(std::string_view token) const {
    const auto added = std::ranges::find(parts_.added, token, &AddedToken::content);
    if (added != parts_.added.end()) return added->id;
    const std::int32_t found = vocabulary().find(token);
    return found == kNoToken ? std::nullopt : std::optional(found);
  }
  // As the file writes it.
  [[nodiscard]] std::optional<std::string_view> token(std::int32_t id) const {
    const AddedToken* added = added_of(id);
    if (added != nullptr) return added->content;
    return vocabulary().token(id);
  }
  [[nodiscard]] bool is_special(std::int32_t id) const {
    const AddedToken* added = added_of(id);
    return added != nullptr && added->is_special;
  }
  // How many special tokens encode puts around a text.
  [[nodiscard]] std::size_t num_special_tokens() const { return parts_.single.count_specials(); }
  // The limit that tokenizer.json speaks of, if it does.
  [[nodiscard]] std::optional<std::size_t> max_tokens() const { return parts_.max_tokens; }

 private:
  explicit Tokenizer(Parts parts) : parts_(std::move(parts)) {
    std::ranges::stable_sort(parts_.added, {}, &AddedToken::id);
    for (AddedToken& token : parts_.added) {
      token.normalized =
          token.is_normalized ? parts_.normalizer(text_of(token.content)).bytes : token.content;
      (token.is_normalized ? normalized_ : raw_).add(token.normalized, token);
      if (vocabulary().find(token.content) == kNoToken) ++num_new_;
    }
    raw_.sort();
    normalized_.sort();
  }

  [[nodiscard]] const Vocabulary& vocabulary() const {
    return std::visit([](const auto& model) -> const Vocabulary& { return model.vocabulary(); },
                      parts_.model);
  }
  [[nodiscard]] const AddedToken* added_of(std::int32_t id) const {
    const auto at = std::ranges::lower_bound(parts_.added, id, {}, &AddedToken::id);
    return at != parts_.added.end() && at->id == id ? &*at : nullptr;
  }

  [[nodiscard]] std::vector<Piece> pieces_of(std::string_view bytes) const {
    constexpr std::size_t most = std::size_t{1} << 28;  // so that spans hold what it grows to
    if (bytes.size() > most)
      throw std::invalid_argument("the text has " + std::to_string(bytes.size()) +
                                  " bytes; expected at most " + std::to_string(most));
    std::vector<Piece> pieces;
    for_each_section(raw_, text_of(bytes), pieces, [&](Text raw) {
      for_each_section(normalized_, parts_.normalizer(std::move(raw)), pieces, [&](Text text) {
        const Words words = parts_.pre_tokenizer(text);
        const std::size_t first = pieces.size();
        std::visit(
            [&](const auto& model) {
              for (const Span word : words) model(text.bytes, word, pieces);
            },
            parts_.model);
        for (std::size_t i = first; i < pieces.size(); ++i)
          pieces[i].span = text.source(pieces[i].span);
      });
    });
    return pieces;
  }

  // Tokens of the matcher become pieces, what lies between them is visited.
  template <class Visit>
  static void for_each_section(const TokenMatcher& matcher, Text text, std::vector<Piece>& pieces,
                               const Visit& visit) {
    std::vector<Section> sections;
    matcher.split(text.bytes, sections);
    if (sections.size() == 1 && sections[0].id == kNoToken) return visit(std::move(text));
    for (const Section& section : sections) {
      if (section.id == kNoToken)
        visit(part(text, section.span));
      else
        pieces.push_back({section.id, text.source(section.span)});
    }
  }

  // How many tokens of texts there may be.
  [[nodiscard]] static std::size_t room(const Template& around, const Options& options) {
    const std::size_t specials = around.count_specials();
    if (options.max_tokens < specials)
      throw std::invalid_argument("max_tokens is " + std::to_string(options.max_tokens) +
                                  "; expected at least " + std::to_string(specials) +
                                  ", the special tokens");
    return options.max_tokens - specials;
  }

  [[nodiscard]] std::span<const Piece> kept(std::span<const Piece> pieces,
                                            std::size_t count) const {
    return parts_.cuts_left ? pieces.last(count) : pieces.first(count);
  }

  [[nodiscard]] static Encoding encoding(const Template& around, std::span<const Piece> first,
                                         std::span<const Piece> second) {
    Encoding result;
    const std::size_t count = first.size() + second.size() + around.count_specials();
    result.ids.reserve(count);
    result.spans.reserve(count);
    result.types.reserve(count);
    const auto add = [&](std::int32_t id, Span span, std::int32_t type) {
      result.ids.push_back(id);
      result.spans.push_back(span);
      result.types.push_back(type);
    };
    for (const Template::Item& item : around.items) {
      if (item.kind == Template::Item::special) {
        add(item.id, {}, item.type);
        continue;
      }
      for (const Piece& piece : item.kind == Template::Item::first ? first : second)
        add(piece.id, piece.span, item.type);
    }
    return result;
  }

  Parts parts_;
  TokenMatcher raw_, normalized_;
  std::size_t num_new_ = 0;  // added tokens that the model's vocabulary does not hold
};

}  // namespace tokenizers
