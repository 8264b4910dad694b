// SPDX-License-Identifier: MIT
#include <algorithm>
#include <cmath>
#include <limits>
#include <string>
#include <utility>
#include <vector>

#include <eigenheads/nn/beam_search.hpp>
#include <eigenheads/nn/log_softmax.hpp>

#include "support.hpp"

namespace {

using namespace support;
using eh::Beam, eh::BeamSearch, eh::BeamSearchOptions;
using Ids = std::vector<Index>;

// A model that is a function of the sequence's number and all of its text.
template <class T>
[[nodiscard]] Tensor<T, 2> log_probs_of(Index b, const Ids& text, Index V) {
  std::uint64_t hash = static_cast<std::uint64_t>(b) + 17;
  for (const Index id : text) hash = hash * 1000003 + static_cast<std::uint64_t>(id);
  Tensor<T, 2> x = random_tensor<T>(hash, 1, V);
  for (Index i = 0; i < V; ++i) x(0, i) *= T(2);
  return eh::log_softmax(x);
}

struct Text {
  Ids ids;
  double log_probability, score;
};

// All texts that end with a stop id or have the full length, the best first.
template <class T>
void enumerate(Index b, Index V, const BeamSearchOptions& options, const Text& text,
               std::vector<Text>& all) {
  const bool has_ended =
      !text.ids.empty() &&
      std::ranges::find(options.stop_ids, text.ids.back()) != options.stop_ids.end();
  if (has_ended || std::ssize(text.ids) == options.max_length) {
    all.push_back(text);
    return;
  }
  const Tensor<T, 2> x = log_probs_of<T>(b, text.ids, V);
  for (Index id = 0; id < V; ++id) {
    Text next = text;
    next.ids.push_back(id);
    next.log_probability += static_cast<double>(x(0, id));
    next.score = next.log_probability /
                 std::pow(static_cast<double>(next.ids.size()), options.length_penalty);
    enumerate<T>(b, V, options, next, all);
  }
}
template <class T>
[[nodiscard]] std::vector<Text> all_texts(Index b, Index V, const BeamSearchOptions& options) {
  std::vector<Text> all;
  enumerate<T>(b, V, options, {{}, 0, 0}, all);
  std::ranges::stable_sort(all, std::greater(), &Text::score);
  return all;
}

// What the model says of every row; of those that bring no token, NaN.
template <class T>
[[nodiscard]] Tensor<T, 2> log_probs_of(const BeamSearch& search, Index V) {
  const Index n = search.options().num_beams;
  auto x = constant_tensor(kNan<T>, search.count() * n, V);
  for (Index b = 0; b < search.count(); ++b)
    for (Index rank = 0; rank < n; ++rank)
      if (search.beams(b)[static_cast<std::size_t>(rank)].goes_on()) {
        const Tensor<T, 2> row = log_probs_of<T>(b, search.ids(b, rank), V);
        std::copy_n(row.data(), V, &x(b * n + rank, 0));
      }
  return x;
}

template <class T>
class BeamSearches : public testing::Test {};
TYPED_TEST_SUITE(BeamSearches, Scalars, ScalarNames);

TYPED_TEST(BeamSearches, WithRoomForAllTextsFindTheBestOfAll) {
  using T = TypeParam;
  constexpr Index V = 3, B = 3;
  for (const double length_penalty : {0.0, 0.75, 1.0, 2.0, -0.5})
    for (const Index max_length : {1, 2, 4})
      for (const Ids& stop_ids : {Ids{}, Ids{1}, Ids{0, 2}}) {
        const BeamSearchOptions options{.num_beams = 81,
                                        .length_penalty = length_penalty,
                                        .stop_ids = stop_ids,
                                        .max_length = max_length};
        BeamSearch search(B, options);
        while (!search.is_done()) search.advance(log_probs_of<T>(search, V));
        for (Index b = 0; b < B; ++b) {
          const auto all = all_texts<T>(b, V, options);
          EXPECT_EQ(search.ids(b), all[0].ids) << length_penalty << ' ' << max_length;
          EXPECT_EQ(search.beams(b)[0].log_probability, all[0].log_probability);
          // A power within a few ulp.
          EXPECT_LE(std::abs(search.beams(b)[0].score - all[0].score),
                    -32 * Limits<double>::epsilon() * all[0].score);
        }
      }
}

// Without the decision that ends a search early, all texts in their order.
TYPED_TEST(BeamSearches, StepsRankAllTexts) {
  using T = TypeParam;
  constexpr Index V = 3, L = 4, n = 81;
  for (const double length_penalty : {0.0, 0.75}) {
    const BeamSearchOptions options{
        .num_beams = n, .length_penalty = length_penalty, .stop_ids = {1}, .max_length = L};
    std::vector<Beam> beams(n), next(n);
    std::vector<Ids> texts(n), next_texts(n);
    beams[0] = {.log_probability = 0, .score = 0};
    for (Index step = 0; step < L; ++step) {
      auto x = constant_tensor(kNan<T>, n, V);
      for (std::size_t row = 0; row < beams.size(); ++row)
        if (beams[row].goes_on())
          std::copy_n(log_probs_of<T>(0, texts[row], V).data(), V, &x(static_cast<Index>(row), 0));
      eh::next_beams(std::span(next), x, std::span<const Beam>(beams), options);
      for (std::size_t row = 0; row < next.size(); ++row) {
        next_texts[row] = texts[static_cast<std::size_t>(next[row].parent)];
        if (next[row].token >= 0) next_texts[row].push_back(next[row].token);
      }
      beams = next;
      texts = next_texts;
    }
    const auto all = all_texts<T>(0, V, options);
    ASSERT_LT(all.size(), beams.size());
    for (std::size_t i = 0; i < beams.size(); ++i) {
      ASSERT_EQ(beams[i].log_probability > Beam::none, i < all.size());
      if (i < all.size()) {
        ASSERT_EQ(texts[i], all[i].ids) << i;
      }
    }
  }
}

// One step beside a sorted list of all candidates, where many are equal.
TYPED_TEST(BeamSearches, OfEqualOnesTakeTheLowerParentAndThenTheLowerId) {
  using T = TypeParam;
  Numbers numbers(4);
  for (int trial = 0; trial < 200; ++trial) {
    const Index n = numbers.between(1, 5), B = 2, V = numbers.between(1, 6);
    Tensor<T, 2> x(B * n, V);
    for (Index i = 0; i < x.size(); ++i) x.data()[i] = static_cast<T>(-numbers.between(0, 3));
    std::vector<Beam> beams(static_cast<std::size_t>(B * n)), next = beams;
    for (Beam& beam : beams) {
      beam.log_probability = beam.score = -static_cast<double>(numbers.between(0, 3));
      beam.length = 2;
      beam.has_ended = numbers.between(0, 3) == 0;
      if (numbers.between(0, 3) == 0) beam = {};
    }
    const BeamSearchOptions options{.num_beams = n, .stop_ids = {V - 1}};
    eh::next_beams(std::span(next), x, std::span<const Beam>(beams), options);
    for (Index b = 0; b < B; ++b) {
      struct Candidate {
        double score;
        Index parent, token;
      };
      std::vector<Candidate> all;
      for (Index row = b * n; row < (b + 1) * n; ++row) {
        const Beam& beam = beams[static_cast<std::size_t>(row)];
        if (beam.log_probability == Beam::none) continue;
        if (beam.has_ended) all.push_back({beam.score, row, -1});
        for (Index id = 0; id < V && !beam.has_ended; ++id)
          all.push_back({beam.log_probability + static_cast<double>(x(row, id)), row, id});
      }
      std::ranges::stable_sort(all, std::greater(), &Candidate::score);
      for (Index i = 0; i < n; ++i) {
        const Beam& beam = next[static_cast<std::size_t>(b * n + i)];
        if (i >= std::ssize(all)) {
          EXPECT_FALSE(beam.goes_on());
          EXPECT_EQ(beam.score, Beam::none);
          EXPECT_TRUE(beam.parent >= b * n && beam.parent < (b + 1) * n);
          continue;
        }
        const Candidate& expected = all[static_cast<std::size_t>(i)];
        EXPECT_EQ(beam.score, expected.score);
        EXPECT_EQ(beam.parent, expected.parent);
        EXPECT_EQ(beam.token, expected.token);
        EXPECT_EQ(beam.has_ended, expected.token == -1 || expected.token == V - 1);
        EXPECT_EQ(beam.length, expected.token == -1 ? 2 : 3);
      }
    }
  }
}

TYPED_TEST(BeamSearches, OfASequenceDoNotDependOnTheOthers) {
  using T = TypeParam;
  constexpr Index V = 9;
  const BeamSearchOptions options{
      .num_beams = 3, .length_penalty = 0.75, .stop_ids = {2}, .max_length = 12};
  BeamSearch search(4, options);
  while (!search.is_done()) search.advance(log_probs_of<T>(search, V));
  BeamSearch first(1, options);
  while (!first.is_done()) first.advance(log_probs_of<T>(first, V));
  for (Index rank = 0; rank < 3; ++rank) EXPECT_EQ(search.ids(0, rank), first.ids(0, rank));
}

TYPED_TEST(BeamSearches, OfOneBeamAreGreedy) {
  using T = TypeParam;
  BeamSearch search(1, {.num_beams = 1, .max_length = 8});
  Ids text;
  while (!search.is_done()) {
    const Tensor<T, 2> x = log_probs_of<T>(0, text, 7);
    text.push_back(std::max_element(x.data(), x.data() + 7) - x.data());
    search.advance(x);
  }
  EXPECT_EQ(text.size(), 8u);
  EXPECT_EQ(search.ids(0), text);
}

TEST(BeamSearch, SaysWhichRowsGoOnFromWhichAndWhatTheyBring) {
  constexpr float none = -kInf<float>;
  BeamSearch search(2, {.num_beams = 2, .stop_ids = {0}});
  Tensor<float, 2> x(4, 3);
  EXPECT_EQ(search.parents(), (Ids{0, 0, 2, 2}));  // no row is that of another sequence
  x.setValues({{-1, -2, -3}, {none, none, none}, {none, -1, none}, {none, none, none}});
  search.advance(x);
  EXPECT_EQ(search.parents(), (Ids{0, 0, 2, 2}));
  EXPECT_EQ(search.ids(0, 0), Ids{0});
  EXPECT_EQ(search.ids(0, 1), Ids{1});
  // The best text of sequence 0 has ended, and none can overtake it; of sequence 1 there is one text.
  EXPECT_TRUE(search.is_done(0));
  EXPECT_FALSE(search.is_done());
  EXPECT_EQ(search.tokens(), Ids{1});
  EXPECT_EQ(search.sequences(), (eh::Sequences{0, 0, 1, 0}));
  x.setValues({{1, 1, 1}, {1, 1, 1}, {-2, -1, -1}, {1, 1, 1}});  // rows 0, 1 and 3 are not read
  search.advance(x);
  EXPECT_EQ(search.parents(), (Ids{0, 1, 2, 2}));
  EXPECT_EQ(search.ids(0), Ids{0});
  EXPECT_EQ(search.ids(1, 0), (Ids{1, 1}));
  EXPECT_EQ(search.ids(1, 1), (Ids{1, 2}));
  EXPECT_EQ(search.sequences(), (eh::Sequences{0, 0, 1, 1}));
}

// By the penalty of 1 scores are means.
TEST(BeamSearch, GoesOnWhileALongerTextMayOvertakeOneThatHasEnded) {
  Tensor<float, 2> x(2, 2);
  BeamSearch search(1, {.num_beams = 2, .length_penalty = 1, .stop_ids = {0}});
  x.setValues({{-0.75f, -1.5f}, {1, 1}});
  search.advance(x);
  EXPECT_EQ(search.ids(0), Ids{0});
  EXPECT_FALSE(search.is_done());
  EXPECT_EQ(search.tokens(), Ids{1});
  x.setValues({{1, 1}, {-2, -0.5f}});
  search.advance(x);
  EXPECT_EQ(search.ids(0), Ids{0});  // -0.75, and -2 / 2
  EXPECT_FALSE(search.is_done());
  x.setValues({{1, 1}, {-0.125f, -2}});
  search.advance(x);
  EXPECT_EQ(search.ids(0), (Ids{1, 1, 0}));  // -2.125 / 3
  EXPECT_EQ(search.ids(0, 1), Ids{0});
  EXPECT_TRUE(search.is_done());
}

TEST(BeamSearch, RefusesWhatAreNoLogarithmsOfProbabilitiesAndChangesNothing) {
  BeamSearch search(1, {.num_beams = 2});
  Tensor<float, 2> x(2, 3);
  x.setValues({{-1, kNan<float>, -3}, {0, 0, 0}});
  EXPECT_EQ(
      refusal([&] {
        search.advance(x);
        return 0;
      }),
      "eigenheads: log_probs[0, 1] is nan; expected the logarithm of a probability, 0 or less");
  x(0, 1) = 0.5f;
  EXPECT_EQ(
      refusal([&] {
        search.advance(x);
        return 0;
      }),
      "eigenheads: log_probs[0, 1] is 0.5; expected the logarithm of a probability, 0 or less");
  EXPECT_EQ(
      refusal([&] {
        search.advance(Tensor<float, 2>(3, 3));
        return 0;
      }),
      "eigenheads: log_probs has shape [3, 3]; expected [B * num_beams, vocabulary] = [2, *]");
  const std::vector<eh::Beam> beams(2);
  const auto refused = [&](Index num_beams, std::size_t count) {
    std::vector<eh::Beam> next(count);
    EXPECT_EQ(refusal([&] {
                eh::next_beams(next, constant_tensor(-1.0f, 2, 3), beams, {.num_beams = num_beams});
                return 0;
              }),
              "eigenheads: next_beams: there are 2 beams and " + std::to_string(count) +
                  " next ones; expected as many, num_beams = " + std::to_string(num_beams) +
                  " a sequence");
  };
  refused(2, 1);
  refused(0, 2);
  refused(3, 2);
  EXPECT_TRUE(search.ids(0).empty());
  EXPECT_TRUE(search.beams(0)[0].goes_on());
  x(0, 1) = -0.5f;
  search.advance(x);
  EXPECT_EQ(search.ids(0), Ids{1});
  EXPECT_EQ(refusal([&] { return search.ids(0, 2); }),
            "eigenheads: BeamSearch: there is no text 2 of sequence 0; there are 2 of 1");
}

TEST(BeamSearch, RefusesInvalidOptions) {
  EXPECT_EQ(refusal([] { return BeamSearch(1, {.num_beams = 0}); }),
            "eigenheads: BeamSearch: num_beams is 0; expected 1 or more");
  EXPECT_EQ(refusal([] { return BeamSearch(-1, {}); }),
            "eigenheads: BeamSearch: B is -1; expected 0 or more");
  EXPECT_EQ(refusal([] { return BeamSearch(1, {.max_length = -1}); }),
            "eigenheads: BeamSearch: max_length is -1; expected 1 or more, or 0 for any length");
  EXPECT_EQ(refusal([] { return BeamSearch(1, {.length_penalty = kNan<double>}); }),
            "eigenheads: BeamSearch: length_penalty is nan; expected a finite number");
  for (const double penalty : {-400.0, 400.0})
    EXPECT_EQ(refusal([&] { return BeamSearch(1, {.length_penalty = penalty}); }),
              "eigenheads: BeamSearch: length_penalty is " + std::to_string(std::lround(penalty)) +
                  "; expected -32 to 32");
  constexpr Index most = std::numeric_limits<Index>::max();
  for (const Index n : {most / 2 + 1, most})
    EXPECT_NE(
        refusal([&] { return BeamSearch(4, {.num_beams = n}); }).find("more than memory can hold"),
        std::string::npos);
  const BeamSearch one(1, {});
  for (const Index b : {-1, 1, 7}) {
    const std::string expected =
        "eigenheads: BeamSearch: there is no sequence " + std::to_string(b) + "; there are 1";
    EXPECT_EQ(refusal([&] { return one.beams(b).size(); }), expected);
    EXPECT_EQ(refusal([&] { return one.is_done(b); }), expected);
  }
  EXPECT_TRUE(BeamSearch(0, {}).is_done());
}

TEST(BeamSearch, ATextWithoutProbabilityIsRefused) {
  BeamSearch search(1, {.num_beams = 3});
  EXPECT_EQ(search.ids(0), Ids{});  // of no tokens
  EXPECT_EQ(refusal([&] { return search.ids(0, 1); }),
            "eigenheads: BeamSearch: text 1 of sequence 0 has probability 0");
  Tensor<float, 2> x(3, 2);
  x.setConstant(-1);
  search.advance(x);
  EXPECT_EQ(search.ids(0, 1), Ids{1});
  EXPECT_EQ(refusal([&] { return search.ids(0, 2); }),
            "eigenheads: BeamSearch: text 2 of sequence 0 has probability 0");
  x.setConstant(-kInf<float>);
  search.advance(x);
  EXPECT_TRUE(search.is_done());
  EXPECT_EQ(refusal([&] { return search.ids(0); }),
            "eigenheads: BeamSearch: text 0 of sequence 0 has probability 0");
}

}  // namespace
