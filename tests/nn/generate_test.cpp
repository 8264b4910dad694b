// SPDX-License-Identifier: MIT
#include <algorithm>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

#include <eigenheads/nn/generate.hpp>
#include <eigenheads/nn/left_padding.hpp>

#include "support.hpp"

namespace {

using namespace support;
using eh::GenerateOptions, eh::GeneratedText, eh::Generation, eh::Sequences, eh::StopReason;
using Ids = std::vector<Index>;
using Texts = std::vector<Ids>;

// Remembers what it was given, as a cache does. Of ended sequences its logits are NaN.
template <class T>
struct Model {
  Index vocabulary = 20;
  Texts texts{};
  Texts lengths{};  // of each call

  Tensor<T, 2> operator()(TensorView<Index, 1> ids, const Sequences& sequences) {
    texts.resize(static_cast<std::size_t>(sequences.count()));
    auto logits = constant_tensor(kNan<T>, sequences.count(), vocabulary);
    lengths.emplace_back();
    EXPECT_EQ(ids.dimension(0), sequences.rows());
    for (Index b = 0; b < sequences.count(); ++b) {
      lengths.back().push_back(sequences.length(b));
      if (sequences.length(b) == 0) continue;
      Ids& text = texts[static_cast<std::size_t>(b)];
      for (Index i = sequences.begin(b); i < sequences.begin(b + 1); ++i) text.push_back(ids(i));
      next(text, &logits(b, 0));
    }
    return logits;
  }
  // Depends on all of the text.
  void next(const Ids& text, T* logits) const {
    std::uint64_t hash = 1;
    for (const Index id : text) hash = hash * 31 + static_cast<std::uint64_t>(id);
    Numbers numbers(hash);
    for (Index id = 0; id < vocabulary; ++id) logits[id] = T(3) * numbers.symmetric<T>();
  }
};

// Counts: after n comes n + 1.
struct Counter {
  int calls = 0;

  Tensor<float, 2> operator()(TensorView<Index, 1> ids, const Sequences& sequences) {
    ++calls;
    auto logits = constant_tensor(0.0f, sequences.count(), 100);
    for (Index b = 0; b < sequences.count(); ++b)
      if (sequences.length(b) > 0) logits(b, ids(sequences.begin(b + 1) - 1) + 1) = 1;
    return logits;
  }
};
constexpr eh::SamplingOptions kGreedy{.temperature = 0};

[[nodiscard]] Texts ids_of(const std::vector<GeneratedText>& texts) {
  Texts ids;
  for (const GeneratedText& text : texts) ids.push_back(text.ids);
  return ids;
}
[[nodiscard]] std::vector<StopReason> reasons_of(const std::vector<GeneratedText>& texts) {
  std::vector<StopReason> reasons;
  for (const GeneratedText& text : texts) reasons.push_back(text.reason);
  return reasons;
}

template <class T>
class Generate : public testing::Test {};
TYPED_TEST_SUITE(Generate, Scalars, ScalarNames);

TYPED_TEST(Generate, ASequenceWritesTheSameAloneInAnyBatchAndPlainly) {
  using T = TypeParam;
  const Texts prompts{{3}, {1, 2, 3, 4, 5}, {7, 7}, {0, 19, 4}};
  const GenerateOptions options{.sampling = {.temperature = 0.9,
                                             .top_k = 12,
                                             .top_p = 0.9,
                                             .repetition_penalty = 1.1,
                                             .seed = 6},
                                .max_new_tokens = 30,
                                .stop_ids = {11},
                                .first_sequence = 40};
  Model<T> model;
  const auto together = eh::generate(model, prompts, options);
  for (const int threads : {2, 3}) {
    eh::Context context(threads, kAnyWork);
    EXPECT_EQ(ids_of(eh::generate(Model<T>(), prompts, options, context)), ids_of(together));
  }
  bool has_stopped = false, has_filled = false;
  for (std::size_t b = 0; b < prompts.size(); ++b) {
    GenerateOptions own = options;
    own.first_sequence = 40 + b;
    EXPECT_EQ(eh::generate(Model<T>(), {prompts[b]}, own).front().ids, together[b].ids);

    // The loop that one would write for one sequence.
    const eh::Sampler sampler(options.sampling);
    Ids text = prompts[b];
    while (std::ssize(text) < std::ssize(prompts[b]) + 30 &&
           (text.size() == prompts[b].size() || text.back() != 11)) {
      Tensor<T, 1> logits(20);
      model.next(text, logits.data());
      text.push_back(
          sampler(logits, {.sequence = 40 + b, .position = std::ssize(text), .seen = text}));
    }
    EXPECT_EQ(Ids(text.begin() + std::ssize(prompts[b]), text.end()), together[b].ids);
    has_stopped = has_stopped || together[b].reason == StopReason::stop_id;
    has_filled = has_filled || together[b].reason == StopReason::max_new_tokens;
    // The last token is nobody's prompt.
    text.pop_back();
    EXPECT_EQ(model.texts[b], text);
  }
  EXPECT_TRUE(has_stopped);
  EXPECT_TRUE(has_filled);
}

// T1.06
TYPED_TEST(Generate, PromptsPaddedOnTheLeftWriteTheSameOnceThePaddingIsGone) {
  using T = TypeParam;
  Tensor<Index, 2> ids(2, 5), mask(2, 5);
  ids.setValues({{9, 9, 9, 3, 4}, {1, 2, 3, 4, 5}});
  mask.setValues({{0, 0, 0, 1, 1}, {1, 1, 1, 1, 1}});
  const GenerateOptions options{.max_new_tokens = 10};
  const auto packed = eh::remove_padding(ids, mask);
  EXPECT_EQ(ids_of(eh::generate(Model<T>(), packed.rows, packed.sequences, options)),
            ids_of(eh::generate(Model<T>(), {{3, 4}, {1, 2, 3, 4, 5}}, options)));
  mask.setValues({{0, 0, 0, 0, 0}, {1, 1, 1, 1, 1}});
  const auto empty = eh::remove_padding(ids, mask);
  EXPECT_EQ(refusal([&] { return eh::generate(Model<T>(), empty.rows, empty.sequences, options); }),
            "eigenheads: prompts: sequence 0 is empty; expected one token or more");
}

TEST(Generate, EachSequenceEndsForItsOwnReason) {
  Counter counter;
  const auto texts = eh::generate(
      counter, {{1}, {4, 9}, {50, 30, 27}, {80}},
      {.sampling = kGreedy,
       .max_new_tokens = 6,
       .stop_ids = {99, 12},
       .stops = [](Index b, std::span<const Index> text) { return b == 2 && text.size() == 5; }});
  EXPECT_EQ(ids_of(texts),
            (Texts{{2, 3, 4, 5, 6, 7}, {10, 11, 12}, {28, 29}, {81, 82, 83, 84, 85, 86}}));
  using enum StopReason;
  EXPECT_EQ(reasons_of(texts), (std::vector{max_new_tokens, stop_id, condition, max_new_tokens}));
  EXPECT_EQ(counter.calls, 6);
}

TEST(Generate, TheModelIsGivenWhatIsNewToItAndNothingOnceAllHaveEnded) {
  Model<float> model;
  Generation generation(TensorView<Index, 1>(Ids{5, 6, 7, 8}.data(), {4}), {3, 1},
                        {.sampling = kGreedy,
                         .max_new_tokens = 3,
                         .stops = [](Index b, std::span<const Index>) { return b == 1; }});
  while (generation.step(model)) {
  }
  EXPECT_EQ(model.lengths, (Texts{{3, 1}, {1, 0}, {1, 0}}));
  EXPECT_TRUE(generation.is_done());
  EXPECT_FALSE(generation.step(model));
  EXPECT_EQ(model.lengths.size(), 3u);
  EXPECT_EQ(generation.new_ids(0).size(), 3u);
  EXPECT_EQ(generation.new_ids(1).size(), 1u);
  EXPECT_EQ(generation.text(0).size(), 6u);
}

TEST(Generate, EveryTokenIsToldOfInOrderTheLastOneToo) {
  std::vector<std::pair<Index, Index>> told;
  const auto texts =
      eh::generate(Counter(), {{1}, {6}},
                   {.sampling = kGreedy,
                    .max_new_tokens = 3,
                    .stop_ids = {7},
                    .on_token = [&](Index b, Index id) { told.emplace_back(b, id); }});
  EXPECT_EQ(told, (std::vector<std::pair<Index, Index>>{{0, 2}, {1, 7}, {0, 3}, {0, 4}}));
  EXPECT_EQ(texts[1].reason, StopReason::stop_id);
}

TEST(Generate, NoPromptsAreNoCalls) {
  Counter counter;
  EXPECT_TRUE(eh::generate(counter, Texts{}, {.max_new_tokens = 3}).empty());
  EXPECT_EQ(counter.calls, 0);
}

TEST(Generate, WhatCannotBeBegunIsRefusedBeforeTheModelIsCalled) {
  Counter counter;
  EXPECT_EQ(refusal([&] { return eh::generate(counter, {{1}, {}, {2}}, {.max_new_tokens = 3}); }),
            "eigenheads: prompts: sequence 1 is empty; expected one token or more");
  for (const Index n : {0, -1})
    EXPECT_EQ(
        refusal([&] { return eh::generate(counter, Texts{{1}}, {.max_new_tokens = n}); }),
        "eigenheads: generate: max_new_tokens is " + std::to_string(n) + "; expected 1 or more");
  EXPECT_EQ(refusal([&] {
              return eh::generate(counter, Texts{{1}},
                                  {.sampling = {.temperature = -1}, .max_new_tokens = 3});
            }),
            "eigenheads: Sampler: temperature is -1; expected 0 or more");
  const Ids ids{1, 2, 3};
  EXPECT_EQ(refusal([&] {
              return eh::generate(counter, TensorView<Index, 1>(ids.data(), {3}), {1, 1},
                                  {.max_new_tokens = 3});
            }),
            "eigenheads: prompts has 3 rows; expected 2, those of its 2 sequences");
  EXPECT_EQ(refusal([&] {
              return eh::generate(counter, TensorView<Index, 1>(nullptr, {3}), {3},
                                  {.max_new_tokens = 3});
            }),
            "eigenheads: prompts has shape [3] but its data pointer is null");
  EXPECT_EQ(counter.calls, 0);
}

TEST(Generate, LogitsOfAnotherShapeOrNanAreRefusedAndNothingIsWritten) {
  const Ids ids{1, 2};
  Generation generation(TensorView<Index, 1>(ids.data(), {2}), {1, 1}, {.max_new_tokens = 2});
  const auto refused = [&](Tensor<float, 2> logits) {
    const std::string sentence = refusal([&] {
      return generation.step([&](auto, const auto&) -> const Tensor<float, 2>& { return logits; });
    });
    EXPECT_TRUE(generation.new_ids(0).empty() && generation.new_ids(1).empty());
    return sentence;
  };
  EXPECT_EQ(refused(Tensor<float, 2>(3, 5)),
            "eigenheads: logits has shape [3, 5]; expected [B, vocabulary] = [2, *]");
  auto logits = constant_tensor(0.0f, 2, 5);
  logits(1, 3) = kNan<float>;
  EXPECT_EQ(refused(logits), "eigenheads: logits[1, 3] is NaN; expected a number");
  EXPECT_FALSE(generation.is_done());
}

struct Stop : std::runtime_error {
  Stop() : std::runtime_error("stop") {}
};

// Whichever call of whichever callback throws, going on writes the same, and tells of each token once
// (of the one that was being told of, it was).
TEST(Generate, GoesOnAfterAnExceptionAsIfThereHadBeenNone) {
  const Texts prompts{{3}, {1, 2, 3, 4, 5}, {7, 7}};
  const auto expected = eh::generate(Model<float>(), prompts, {.max_new_tokens = 4});
  for (const char* where : {"model", "stops", "on_token"})
    for (int number = 0; number < 14; ++number) {
      int left = number;
      const auto may_throw = [&](const char* here) {
        if (std::string(here) == where && left-- == 0) throw Stop();
      };
      Texts told(3);
      Ids ids, lengths;
      for (const Ids& prompt : prompts) {
        ids.insert(ids.end(), prompt.begin(), prompt.end());
        lengths.push_back(std::ssize(prompt));
      }
      Generation generation(TensorView<Index, 1>(ids.data(), {std::ssize(ids)}), Sequences(lengths),
                            {.max_new_tokens = 4,
                             .stops =
                                 [&](Index, std::span<const Index>) {
                                   may_throw("stops");
                                   return false;
                                 },
                             .on_token =
                                 [&](Index b, Index id) {
                                   told[static_cast<std::size_t>(b)].push_back(id);
                                   may_throw("on_token");
                                 }});
      Model<float> model;
      const auto call = [&](TensorView<Index, 1> new_ids, const Sequences& sequences) {
        may_throw("model");
        return model(new_ids, sequences);
      };
      int thrown = 0;
      while (!generation.is_done()) try {
          (void)generation.step(call);
        } catch (const Stop&) {
          ++thrown;
        }
      const int calls = std::string(where) == "model" ? 4 : std::string(where) == "stops" ? 9 : 12;
      EXPECT_EQ(thrown, number < calls ? 1 : 0) << where << ' ' << number;
      EXPECT_EQ(told, ids_of(expected)) << where << ' ' << number;
      for (Index b = 0; b < 3; ++b)
        EXPECT_TRUE(std::ranges::equal(generation.new_ids(b), told[static_cast<std::size_t>(b)]));
    }
}

}  // namespace
