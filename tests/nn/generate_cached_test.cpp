// SPDX-License-Identifier: MIT
// Texts of a model that attends through a cache are those of one that reads all of the text again.
#include <algorithm>
#include <cstdint>
#include <numeric>
#include <string>
#include <vector>

#include <eigenheads/kv_cache.hpp>
#include <eigenheads/linear.hpp>
#include <eigenheads/multi_head_attention.hpp>
#include <eigenheads/nn/beam_search.hpp>
#include <eigenheads/nn/embedding.hpp>
#include <eigenheads/nn/generate.hpp>
#include <eigenheads/nn/left_padding.hpp>
#include <eigenheads/nn/log_softmax.hpp>
#include <eigenheads/rotary.hpp>

#include "support.hpp"

namespace {

using namespace support;
using eh::GenerateOptions, eh::Sequences;
using Ids = std::vector<Index>;

constexpr Index kVocabulary = 30, kSize = 24;

template <class T>
struct Model {
  eh::Embedding<T> embedding{{.num_embeddings = kVocabulary, .embedding_dim = kSize}, 1};
  eh::MultiHeadAttention<T> attention{{.num_hiddens = kSize,
                                       .num_heads = 4,
                                       .query_size = kSize,
                                       .key_size = kSize,
                                       .value_size = kSize,
                                       .num_kv_heads = 2},
                                      2};
  eh::Linear<T> head{{.in_features = kSize, .out_features = kVocabulary}, 3};

  // Of what follows each sequence's last token, which is not itself; of sequences without any, of
  // nothing.
  Tensor<T, 2> logits(TensorView<Index, 1> ids, const Tensor<T, 2>& rows,
                      const Sequences& sequences) const {
    auto last = constant_tensor(T(0), sequences.count(), kSize);
    for (Index b = 0; b < sequences.count(); ++b)
      if (sequences.length(b) > 0)
        for (Index e = 0; e < kSize; ++e) last(b, e) = T(8) * rows(sequences.begin(b + 1) - 1, e);
    Tensor<T, 2> logits = head(last);
    for (Index b = 0; b < sequences.count(); ++b)
      if (sequences.length(b) > 0) logits(b, ids(sequences.begin(b + 1) - 1)) = -kInf<T>;
    return logits;
  }
  eh::KvCache<T> cache(Index B) const {
    return eh::KvCache<T>(
        {.batch_size = B, .num_kv_heads = 2, .head_size = kSize / 4, .capacity = 100});
  }
  Tensor<T, 2> step(TensorView<Index, 1> ids, const Sequences& sequences,
                    eh::KvCache<T>& cache) const {
    return logits(ids, attention.step(embedding(ids), sequences, cache), sequences);
  }
  Tensor<T, 2> whole(const Ids& text) const {
    const Sequences one{std::ssize(text)};
    const Tensor<T, 2> x = embedding(text);
    return logits(TensorView<Index, 1>(text.data(), {std::ssize(text)}),
                  attention(x, one, {.causal = eh::Causal::top_left}), one);
  }
};

template <class T>
class GenerateCached : public testing::Test {};
TYPED_TEST_SUITE(GenerateCached, Scalars, ScalarNames);

// T1.06: prompts of 2, 5 and 1 tokens, padded on the left.
TYPED_TEST(GenerateCached, WritesWhatReadingAllAgainWrites) {
  using T = TypeParam;
  const Model<T> model;
  Tensor<Index, 2> padded(3, 5), mask(3, 5);
  padded.setValues({{0, 0, 0, 3, 4}, {1, 2, 3, 4, 5}, {0, 0, 0, 0, 29}});
  mask.setValues({{0, 0, 0, 1, 1}, {1, 1, 1, 1, 1}, {0, 0, 0, 0, 1}});
  const auto prompts = eh::remove_padding(padded, mask);
  const GenerateOptions options{
      .sampling = {.temperature = 0.8, .top_p = 0.9, .repetition_penalty = 1.1, .seed = 3},
      .max_new_tokens = 25,
      .stop_ids = {7}};
  eh::KvCache<T> cache = model.cache(3);
  const auto texts = eh::generate(
      [&](auto ids, const auto& sequences) { return model.step(ids, sequences, cache); },
      prompts.rows, prompts.sequences, options);
  for (Index b = 0; b < 3; ++b) {
    const Ids& written = texts[static_cast<std::size_t>(b)].ids;
    EXPECT_EQ(cache.length(b), prompts.sequences.length(b) + std::ssize(written) - 1);
    const Ids prompt(prompts.rows.data() + prompts.sequences.begin(b),
                     prompts.rows.data() + prompts.sequences.begin(b + 1));
    GenerateOptions own = options;
    own.first_sequence = static_cast<std::uint64_t>(b);
    Ids text;
    const auto alone = eh::generate(
        [&](auto ids, const auto&) {
          text.insert(text.end(), ids.data(), ids.data() + ids.size());
          return model.whole(text);
        },
        {prompt}, own);
    EXPECT_EQ(alone.front().ids, written) << b;
  }
}

// T1.06: prompts of 2, 5 and 0 tokens, and what follows them, of which each sees its own alone: turned
// by their places, or with a learnt position added, from 0 on.
TYPED_TEST(GenerateCached, PromptsPaddedOnTheLeftStandWhereTheyWouldAlone) {
  using T = TypeParam;
  Tensor<Index, 2> padded(3, 5), mask(3, 5);
  padded.setValues({{9, 9, 9, 3, 4}, {1, 2, 3, 4, 5}, {9, 9, 9, 9, 9}});
  mask.setValues({{0, 0, 0, 1, 1}, {1, 1, 1, 1, 1}, {0, 0, 0, 0, 0}});
  const auto prompts = eh::remove_padding(padded, mask);
  ASSERT_EQ(prompts.sequences, (Sequences{2, 5, 0}));
  const std::vector<Ids> later{{7, 8, 9}, {1, 1, 1}, {0, 2, 4}, {20, 21, 22}};  // of each sequence
  const eh::Embedding<T> tokens({.num_embeddings = kVocabulary, .embedding_dim = kSize}, 1),
      positions({.num_embeddings = 20, .embedding_dim = kSize}, 2);
  for (const bool are_learnt : {false, true}) {
    eh::MultiHeadAttentionOptions options{.num_hiddens = kSize,
                                          .num_heads = 4,
                                          .query_size = kSize,
                                          .key_size = kSize,
                                          .value_size = kSize};
    if (!are_learnt) options.rotary = eh::RotaryOptions{.max_positions = 20};
    const eh::MultiHeadAttention<T> attention(options, 3);
    // The rows of tokens that stand at places `first` and on.
    const auto rows_of = [&](const Ids& ids, Index first) {
      Tensor<T, 2> x = tokens(ids);
      Ids places(ids.size());
      std::iota(places.begin(), places.end(), first);
      if (!are_learnt) return x;
      const Tensor<T, 2> added = positions(places);
      for (Index i = 0; i < x.size(); ++i) x.data()[i] += added.data()[i];
      return x;
    };
    eh::KvCache<T> cache(
        {.batch_size = 3, .num_kv_heads = 4, .head_size = kSize / 4, .capacity = 10});
    std::vector<Ids> texts(3);
    Tensor<T, 2> y;
    for (std::size_t step = 0; step <= later.size(); ++step) {
      const Sequences news = step == 0 ? prompts.sequences : Sequences{1, 1, 1};
      Tensor<T, 2> x(news.rows(), kSize);
      for (Index b = 0; b < 3; ++b) {
        Ids ids;
        for (Index i = 0; i < news.length(b); ++i)
          ids.push_back(step == 0 ? prompts.rows(news.begin(b) + i)
                                  : later[step - 1][static_cast<std::size_t>(b)]);
        const Tensor<T, 2> rows = rows_of(ids, cache.length(b));
        std::copy_n(rows.data(), rows.size(), x.data() + news.begin(b) * kSize);
        auto& text = texts[static_cast<std::size_t>(b)];
        text.insert(text.end(), ids.begin(), ids.end());
      }
      y = attention.step(x, news, cache);
      for (Index b = 0; b < 3; ++b) {
        const Ids& text = texts[static_cast<std::size_t>(b)];
        const Index length = std::ssize(text), n = news.length(b);
        const Tensor<T, 2> alone =
            attention(rows_of(text, 0), Sequences{length}, {.causal = eh::Causal::top_left});
        for (Index i = 0; i < n; ++i)
          EXPECT_TRUE(same_bits(row(y, news.begin(b) + i), row(alone, length - n + i)))
              << "step " << step << ", sequence " << b;
      }
    }
  }
  mask.setValues({{0, 0, 0, 1, 1}, {1, 0, 1, 1, 1}, {0, 0, 0, 0, 0}});
  EXPECT_NE(refusal([&] { return eh::remove_padding(padded, mask); }).find("row 1 has padding"),
            std::string::npos);
}

// Beams that share a prompt, read once.
TYPED_TEST(GenerateCached, FindsTheBeamsThatReadingAllAgainFinds) {
  using T = TypeParam;
  constexpr Index n = 3;
  const Model<T> model;
  const std::vector<Ids> prompts{{3, 4}, {1, 2, 3, 4, 5}};
  const eh::BeamSearchOptions options{
      .num_beams = n, .length_penalty = 0.75, .stop_ids = {7, 8, 9}, .max_length = 15};
  eh::BeamSearch cached(2, options), plain(2, options);
  eh::KvCache<T> cache = model.cache(2 * n);
  cached.advance(eh::log_softmax(model.step(
      TensorView<Index, 1>(Ids{3, 4, 1, 2, 3, 4, 5}.data(), {7}), {2, 0, 0, 5, 0, 0}, cache)));
  int moved = 0;  // beams that go on from another row
  while (!cached.is_done()) {
    const Ids parents = cached.parents();
    cache.reorder(parents);
    for (Index row = 0; row < 2 * n; ++row) moved += parents[static_cast<std::size_t>(row)] != row;
    const Ids tokens = cached.tokens();
    cached.advance(eh::log_softmax(model.step(
        TensorView<Index, 1>(tokens.data(), {std::ssize(tokens)}), cached.sequences(), cache)));
  }
  while (!plain.is_done()) {
    auto logits = constant_tensor(T(0), 2 * n, kVocabulary);
    for (Index row = 0; row < 2 * n; ++row) {
      if (!plain.beams(row / n)[static_cast<std::size_t>(row % n)].goes_on()) continue;
      Ids text = prompts[static_cast<std::size_t>(row / n)];
      const Ids written = plain.ids(row / n, row % n);
      text.insert(text.end(), written.begin(), written.end());
      std::copy_n(model.whole(text).data(), kVocabulary, &logits(row, 0));
    }
    plain.advance(eh::log_softmax(logits));
  }
  for (Index b = 0; b < 2; ++b)
    for (Index rank = 0; rank < n; ++rank) {
      EXPECT_EQ(cached.ids(b, rank), plain.ids(b, rank));
      EXPECT_EQ(cached.beams(b)[static_cast<std::size_t>(rank)].score,
                plain.beams(b)[static_cast<std::size_t>(rank)].score);
    }
  EXPECT_GT(moved, 4);
}

}  // namespace
