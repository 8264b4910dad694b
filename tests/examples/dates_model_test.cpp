// SPDX-License-Identifier: MIT
// The model of examples/dates: its gradient against finite differences, what it may not depend on,
// and that it learns.
#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <gtest/gtest.h>
#include <iterator>
#include <map>
#include <set>
#include <stdexcept>
#include <string>
#include <vector>

#include <eigenheads/context.hpp>

#include "dates/batch.hpp"
#include "dates/model.hpp"
#include "dates/reading.hpp"
#include "dates/train.hpp"

namespace {

using namespace dates;

constexpr ModelOptions kSmall{.num_hiddens = 8, .num_heads = 2, .inner = 12};

std::vector<Phrase> some_phrases(std::uint64_t first, std::uint64_t count) {
  const Phrases phrases(Split::train, 1);
  std::vector<Phrase> some;
  for (std::uint64_t i = first; i < first + count; ++i) some.push_back(phrases(i));
  return some;
}

// ---- Batches ------------------------------------------------------------------------------------

TEST(DatesBatch, HoldsTextsAndWhatIsToBeWritten) {
  const Batch batch = make_batch(
      {{"room 12", std::nullopt}, {"1 Mar 99", Date{1999, 3, 1}}, {"30.2.04", Date{2004, 2, 30}}});
  EXPECT_EQ(batch.length, 8);
  EXPECT_EQ(batch.text_lengths, (std::vector<Index>{7, 8, 7}));
  EXPECT_EQ(batch.tokens[7], kPadding);
  EXPECT_EQ(batch.tokens[8], token('1'));
  std::string written;
  for (const int target : batch.targets) written += kSymbols[static_cast<std::size_t>(target)];
  EXPECT_EQ(written, "----------1999-03-012004-02-30");
}

// Each phrase once, whatever came before; and of two lengths that differ little.
TEST(DatesBatch, BatchesAreAFunctionOfTheirIndex) {
  const Phrases phrases(Split::train, 3);
  constexpr Index size = 16, count = 2 * Batches::kPool;
  Batches forward(phrases, 3, size), backward(phrases, 3, size);
  std::map<Index, Batch> batches;
  for (Index i = count; i-- > 0;) batches[i] = backward(i);
  std::multiset<Index> lengths, expected;
  Index padded = 0, letters = 0;
  for (Index i = 0; i < count; ++i) {
    const Batch batch = forward(i);
    EXPECT_EQ(batch.tokens, batches[i].tokens);
    EXPECT_EQ(batch.targets, batches[i].targets);
    lengths.insert(batch.text_lengths.begin(), batch.text_lengths.end());
    padded += batch.size() * batch.length;
    for (const Index length : batch.text_lengths) letters += length;
  }
  for (Index i = 0; i < size * count; ++i)
    expected.insert(static_cast<Index>(phrases(static_cast<std::uint64_t>(i)).text.size()));
  EXPECT_EQ(lengths, expected);
  EXPECT_LT(static_cast<double>(padded), 1.2 * static_cast<double>(letters));
}

// ---- Gradients ----------------------------------------------------------------------------------

// Of every parameter some elements, by central differences in double; the batch has padding, and
// sequences of other lengths than the outputs.
TEST(DatesModel, GradientsAreThoseOfTheLoss) {
  Model<double> model(kSmall, 1);
  const Batch batch = make_batch(some_phrases(0, 4));
  ASSERT_NE(*std::ranges::min_element(batch.text_lengths), batch.length);
  eigenheads::Context context;
  Model<double>::Activations saved;
  Model<double>::Gradients gradients;
  const auto loss = [&] {
    return cross_entropy(model.forward(batch, saved, context), batch.targets,
                         static_cast<Tensor<double, 3>*>(nullptr));
  };
  Tensor<double, 3> dlogits;
  EXPECT_EQ(cross_entropy(model.forward(batch, saved, context), batch.targets, &dlogits), loss());
  model.backward(dlogits, saved, gradients, context);

  std::map<std::string, std::vector<double>> slopes;
  gradients.for_each_parameter([&](const auto& gradient) {
    auto& values = slopes[gradient.name()];
    values.resize(static_cast<std::size_t>(gradient.size()));
    gradient.copy_to(values);
  });
  std::size_t met = 0;
  model.for_each_parameter([&](const auto& parameter) {
    ++met;
    ASSERT_TRUE(slopes.contains(parameter.name())) << parameter.name();
    const std::vector<double>& slope = slopes.at(parameter.name());
    ASSERT_EQ(static_cast<Index>(slope.size()), parameter.size()) << parameter.name();
    EXPECT_TRUE(std::ranges::any_of(slope, [](double x) { return x != 0; })) << parameter.name();
    // The steepest, and others from end to end.
    const auto steepest =
        std::ranges::max_element(slope, {}, [](double x) { return std::abs(x); }) - slope.begin();
    std::set<Index> places{steepest, 0, parameter.size() - 1};
    for (Index i = 0; i < parameter.size(); i += parameter.size() / 12 + 1) places.insert(i);
    for (const Index i : places) {
      constexpr double h = 1e-5;
      const double x = parameter.get(i);
      parameter.set(i, x + h);
      const double above = loss();
      parameter.set(i, x - h);
      const double below = loss();
      parameter.set(i, x);
      // The error of the differences is of the order h^2 = 1e-10, and 1e-16 / h = 1e-11.
      EXPECT_NEAR(slope[static_cast<std::size_t>(i)], (above - below) / (2 * h), 1e-8)
          << parameter.name() << ' ' << i;
    }
  });
  EXPECT_EQ(met, slopes.size());
}

// ---- What nothing depends on --------------------------------------------------------------------

// Not on the texts beside it, nor on the padding that they make.
TEST(DatesModel, ATextIsReadAloneAsAmongOthers) {
  const Model<float> model({}, 1);
  eigenheads::Context context;
  std::vector<std::string> texts;
  for (const Phrase& phrase : some_phrases(10, 9)) texts.push_back(phrase.text);
  texts.push_back("x");
  const std::vector<Reading> together = read(model, texts, context);
  for (std::size_t i = 0; i < texts.size(); ++i) {
    const Reading alone = read(model, {texts[i]}, context)[0];
    EXPECT_EQ(alone.symbols, together[i].symbols) << texts[i];
    EXPECT_EQ(alone.confidence, together[i].confidence) << texts[i];
  }
}

template <class T>
std::vector<T> weights_of(const Model<T>& model) {
  std::vector<T> all;
  model.for_each_parameter([&](const auto& parameter) {
    std::vector<T> values(static_cast<std::size_t>(parameter.size()));
    parameter.copy_to(values);
    std::ranges::copy(values, std::back_inserter(all));
  });
  return all;
}

TEST(DatesTraining, HasTheSameBitsOnAnyNumberOfThreads) {
  const TrainOptions options{.steps = 12, .batch_size = 8, .warmup = 4};
  Trainer<float> one(options), three(options);
  eigenheads::Context alone, together(3);
  while (!one.is_done()) ASSERT_EQ(one.step(alone), three.step(together)) << one.step_count();
  EXPECT_EQ(weights_of(one.model), weights_of(three.model));
}

// Enough to know that a year is at the front and what a dash is.
TEST(DatesTraining, LossFalls) {
  Trainer<float> trainer({.steps = 60, .batch_size = 16, .warmup = 10, .model = kSmall});
  eigenheads::Context context(2);
  double first = 0, last = 0;
  while (!trainer.is_done()) {
    const Index i = trainer.step_count();
    const double loss = trainer.step(context);
    if (i < 10) first += loss;
    if (i >= 50) last += loss;
  }
  EXPECT_LT(last, 0.75 * first);
}

// ---- Scores -------------------------------------------------------------------------------------

TEST(DatesScore, CountsEachKindOfMistake) {
  const Phrase date{"1 Mar 99", Date{1999, 3, 1}}, none{"room 12", {}},
      impossible{"30.2.99", Date{1999, 2, 30}};
  Score score;
  score.add(date, {"1999-03-01"});
  score.add(date, {"1999-03-02"});
  score.add(date, {"1999-03-41"});
  score.add(date, {"----------"});
  score.add(none, {"----------"});
  score.add(none, {"2012-01-01"});
  score.add(impossible, {"1999-02-30"});
  score.add(impossible, {"1999-02-3-"});
  score.add(impossible, {"1999-02-20"});
  EXPECT_EQ(score.dates, 4);
  EXPECT_EQ(score.exact, 1);
  EXPECT_EQ(score.false_rejects, 2);
  EXPECT_EQ(score.others, 5);
  EXPECT_EQ(score.false_accepts, 2);
  EXPECT_EQ(score.impossible, 3);
  EXPECT_EQ(score.seen, 1);
}

TEST(DatesReading, IsWrittenWhereAllDigitsAre) {
  EXPECT_TRUE((Reading{"1999-02-30"}).is_written());
  EXPECT_FALSE((Reading{"1999-02-30"}).date());
  EXPECT_EQ((Reading{"1999-02-28"}).date(), (Date{1999, 2, 28}));
  for (const char* symbols : {"----------", "1999-02-3-", "1999002-30", "-999-02-30"})
    EXPECT_FALSE((Reading{symbols}).is_written()) << symbols;
}

TEST(DatesReading, HoldsNoDateInDoubt) {
  EXPECT_EQ((Reading{.symbols = "1999-02-28", .is_in_doubt = false}).date(), (Date{1999, 2, 28}));
  EXPECT_FALSE((Reading{.symbols = "1999-02-28", .is_in_doubt = true}).date());
}

TEST(DatesReading, AYearAndADayStandInTheirText) {
  for (const char* text : {"5 March 1999", "March 5, '99", "1999-03-05T12:30", "5.3.99", "19990305",
                           "05Mar1999", "99, 05"})
    EXPECT_TRUE(stands_in(text, "1999-03-05")) << text;
  for (const char* text : {"5 March 19990", "5 March 199", "March 1999", "5 March", "15 March 1999",
                           "1999030", "199903051", "19990306", "5 March 2099", ""})
    EXPECT_FALSE(stands_in(text, "1999-03-05")) << text;
  EXPECT_FALSE(stands_in("5 March 99", "1899-03-05"));
  EXPECT_FALSE(stands_in("5 March 99", "2099-03-05"));
  EXPECT_TRUE(stands_in("5 March 49", "2049-03-05"));
  EXPECT_TRUE(stands_in("30 February 1500", "1500-02-30"));
}

// There is no position for its last characters.
TEST(DatesReading, ATextThatIsTooLongIsRefused) {
  eigenheads::Context context;
  const Model<float> model(kSmall, 1);
  EXPECT_NO_THROW((void)read(model, {std::string(kMaxLength, 'a')}, context));
  EXPECT_THROW((void)read(model, {std::string(kMaxLength + 1, 'a')}, context),
               std::invalid_argument);
}

// What nobody has trained is sure of nothing.
TEST(DatesReading, IsInDoubtBelowEvenOdds) {
  eigenheads::Context context;
  const Reading reading = read(Model<float>(kSmall, 1), {"5 March 1999"}, context)[0];
  EXPECT_LT(reading.confidence, kLeastConfidence);
  EXPECT_TRUE(reading.is_in_doubt);
  EXPECT_FALSE(reading.date());
}

}  // namespace
