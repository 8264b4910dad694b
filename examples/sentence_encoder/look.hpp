// SPDX-License-Identifier: MIT
#pragma once
// What every head of an encoder looks at in a text, from token to token or from word to word.
#include <algorithm>
#include <cstddef>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include <eigenheads/context.hpp>              // Context
#include <eigenheads/plot/attention_view.hpp>  // AttentionViewLayer
#include <eigenheads/tensor.hpp>               // Tensor

#include "model.hpp"  // Model, tokens_of

namespace sentences {

// Tokens [first, end) of a text, and what stands there.
struct Word {
  std::size_t first = 0, end = 0;
  std::string label{};
};

// A piece that goes on with a word is "##" and letters in WordPiece, and in byte-level BPE, where
// words begin with a space (U+0120), whatever follows without a gap.
[[nodiscard]] inline std::vector<Word> words_of(const Model& model, std::string_view text,
                                                bool joins) {
  const auto encoding = tokens_of(model.tokenizer, text, model.encoder.pipeline.max_tokens);
  const bool is_bytes = model.encoder.encoder.config().first_position > 0;
  std::vector<Word> words;
  for (std::size_t i = 0; i < encoding.ids.size(); ++i) {
    const auto [begin, end] = encoding.spans[i];
    const std::string_view token = model.tokenizer.token(encoding.ids[i]).value_or("");
    const bool is_special = begin == end;
    const bool follows = i > 0 && !is_special && begin == encoding.spans[i - 1].end && begin > 0;
    const bool goes_on =
        is_bytes ? follows && !token.starts_with("\u0120") : token.starts_with("##");
    if (joins && goes_on && !words.empty()) {
      words.back().end = i + 1;
      words.back().label += text.substr(begin, end - begin);
    } else {
      words.push_back(
          {i, i + 1, std::string(is_special ? token : text.substr(begin, end - begin))});
    }
  }
  return words;
}

// weights: [H, L, L], of tokens -> [H, W, W], of words: to a word the sum over its tokens, from a word
// the mean over them (Clark et al., "What Does BERT Look At?", 2019, section 4.1).
[[nodiscard]] inline Tensor<float, 3> of_words(const Tensor<float, 3>& weights,
                                               const std::vector<Word>& words) {
  Tensor<float, 3> result(weights.dimension(0), std::ssize(words), std::ssize(words));
  for (Index h = 0; h < result.dimension(0); ++h)
    for (Index q = 0; q < result.dimension(1); ++q)
      for (Index k = 0; k < result.dimension(2); ++k) {
        const Word &from = words[static_cast<std::size_t>(q)],
                   &to = words[static_cast<std::size_t>(k)];
        double sum = 0;
        for (std::size_t i = from.first; i < from.end; ++i)
          for (std::size_t j = to.first; j < to.end; ++j)
            sum += static_cast<double>(weights(h, static_cast<Index>(i), static_cast<Index>(j)));
        result(h, q, k) = static_cast<float>(sum / static_cast<double>(from.end - from.first));
      }
  return result;
}

// One layer after the other. Heads are counted from 1, in the model before heads were pruned.
[[nodiscard]] inline std::vector<eigenheads::AttentionViewLayer<float>> look(const Model& model,
                                                                             std::string_view text,
                                                                             bool joins_words,
                                                                             Context& context) {
  const std::vector<Word> words = words_of(model, text, joins_words);
  std::vector<std::string> labels;
  for (const Word& word : words) labels.push_back(word.label);
  const Encoder& encoder = model.encoder.encoder;
  const Ids ids = model.ids(text);
  const Sequences one{std::ssize(ids)};
  Tensor<float, 2> x = encoder.embed(ids, one, context);
  std::vector<eigenheads::AttentionViewLayer<float>> layers;
  for (std::size_t l = 0; l < encoder.num_layers(); ++l) {
    const auto& layer = encoder.stack.layers[l];
    const auto heads = layer.self_attention.with_weights(x, one, {}, {.context = context});
    layers.push_back({.weights = of_words(heads.weights.front(), words),
                      .query_labels = labels,
                      .key_labels = labels});
    for (const Index h : encoder.heads_left(l))
      layers.back().head_names.push_back("Head " + std::to_string(h + 1));
    x = layer(x, one, {}, {.context = context});
  }
  return layers;
}

}  // namespace sentences
