// SPDX-License-Identifier: MIT
#pragma once
// Phrases as the model reads them, and the ten symbols that it is to write of each:
//   "Sat, 21st of Nov 2026" 2026-11-21     "Feb 30, 1999" 1999-02-30     "room 12" ----------
// What is no day is written as it stands: the calendar judges it, not the model.
#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include <eigenheads/tensor.hpp>  // Index

#include "alphabet.hpp"  // tokens, kPadding
#include "calendar.hpp"  // to_iso
#include "dice.hpp"      // Dice
#include "phrases.hpp"   // Phrases

namespace dates {

using eigenheads::Index;

inline constexpr std::string_view kSymbols = "0123456789-", kNoDate = "----------";
inline constexpr Index kOutputs = static_cast<Index>(kNoDate.size());
inline constexpr Index kClasses = static_cast<Index>(kSymbols.size());

struct Batch {
  Index length = 0;                 // of the longest text
  std::vector<Index> text_lengths;  // [B]
  std::vector<int> tokens;          // [B, length], kPadding behind a text's end
  std::vector<int> targets;         // [B, kOutputs], in kSymbols; empty: not known

  [[nodiscard]] Index size() const { return static_cast<Index>(text_lengths.size()); }
};

// Of 1 to kMaxLength ASCII characters each.
[[nodiscard]] inline Batch make_batch(const std::vector<std::string>& texts) {
  Batch batch;
  for (const std::string& text : texts) {
    batch.text_lengths.push_back(static_cast<Index>(text.size()));
    batch.length = (std::max)(batch.length, batch.text_lengths.back());
  }
  batch.tokens.assign(static_cast<std::size_t>(batch.size() * batch.length), kPadding);
  for (std::size_t i = 0; i < texts.size(); ++i)
    std::ranges::copy(tokens(texts[i]),
                      batch.tokens.begin() + static_cast<Index>(i) * batch.length);
  return batch;
}

[[nodiscard]] inline Batch make_batch(const std::vector<Phrase>& phrases) {
  std::vector<std::string> texts;
  for (const Phrase& phrase : phrases) texts.push_back(phrase.text);
  Batch batch = make_batch(texts);
  for (const Phrase& phrase : phrases)
    for (const char c : phrase.written ? to_iso(*phrase.written) : std::string(kNoDate))
      batch.targets.push_back(static_cast<int>(kSymbols.find(c)));
  return batch;
}

// Texts first to last - 1.
[[nodiscard]] inline Batch part_of(const Batch& batch, Index first, Index last) {
  const auto rows = [&]<class T>(const std::vector<T>& values, Index width) {
    return std::vector<T>(values.begin() + first * width, values.begin() + last * width);
  };
  return {batch.length, rows(batch.text_lengths, 1), rows(batch.tokens, batch.length),
          rows(batch.targets, kOutputs)};
}

// Batches of about the same length, so that little is padding: of every kPool of them the phrases
// are put in the order of their lengths, cut, and the pieces shuffled. Phrase i is in one of the
// batches of pool i / (kPool * batch_size), whatever the number of batches is.
class Batches {
 public:
  static constexpr Index kPool = 8;

  Batches(const Phrases& phrases, std::uint64_t seed, Index batch_size)
      : phrases_(&phrases), seed_(seed), batch_size_(batch_size) {}

  // A function of the phrases, the seed and the index; fast in the order of the indices.
  [[nodiscard]] Batch operator()(Index index) {
    if (index / kPool != pool_ || pieces_.empty()) fill(index / kPool);
    return make_batch(pieces_[static_cast<std::size_t>(index % kPool)]);
  }

 private:
  void fill(Index pool) {
    pool_ = pool;
    std::vector<Phrase> all;
    for (Index i = 0; i < kPool * batch_size_; ++i)
      all.push_back((*phrases_)(static_cast<std::uint64_t>(pool * kPool * batch_size_ + i)));
    std::ranges::stable_sort(all, {}, [](const Phrase& phrase) { return phrase.text.size(); });
    pieces_.clear();
    for (Index i = 0; i < kPool; ++i)
      pieces_.emplace_back(all.begin() + i * batch_size_, all.begin() + (i + 1) * batch_size_);
    Dice dice(seed_, kStream, static_cast<std::uint64_t>(pool));
    for (std::size_t i = kPool - 1; i > 0; --i)
      std::swap(pieces_[i], pieces_[static_cast<std::size_t>(dice.below(static_cast<int>(i) + 1))]);
  }

  static constexpr std::uint32_t kStream = 0xBA7C4;  // apart from the phrases' own
  const Phrases* phrases_;
  std::uint64_t seed_;
  Index batch_size_, pool_ = -1;
  std::vector<std::vector<Phrase>> pieces_;
};

}  // namespace dates
