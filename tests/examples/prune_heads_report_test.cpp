// SPDX-License-Identifier: MIT
// The report and the tables of examples/prune_heads, from results that are made up: they hold the
// numbers, the sentences turn with them, and the page is well-formed and whole by itself.
#include <algorithm>
#include <cstddef>
#include <gtest/gtest.h>
#include <string>
#include <string_view>
#include <vector>

#include "prune_heads/csv.hpp"
#include "prune_heads/report.hpp"

namespace {

using namespace pruning;

constexpr std::size_t kSplits = 5, kHeads = 8;

Quality quality_of(int exact) {  // of 1000 dates
  Quality quality;
  quality.score.dates = 1000;
  quality.score.exact = exact;
  quality.score.others = 100;
  return quality;
}

// Every order reads `by_measure` dates in a thousand at every level, and a random one `by_chance`.
Results some_results(int by_measure, int by_chance) {
  Results results;
  results.layers = {"<encoder & 1>", "decoder"};
  for (std::size_t h = 0; h < kHeads; ++h)
    results.heads.push_back({h / 4, static_cast<Index>(h % 4)});
  for (std::size_t m = 0; m < kMeasures.size(); ++m) {
    results.importance.emplace_back(kSplits);
    for (std::size_t s = 0; s < kSplits; ++s)
      for (std::size_t h = 0; h < kHeads; ++h)
        results.importance[m][s].push_back(0.125 * static_cast<double>((h * 3 + m) % kHeads));
  }
  results.alone.assign(kSplits, {0.3125, 0, 0, 0.002, 0.004, 0, 0, 0});
  results.gradient_of_few.assign(kSplits, 0.25);
  results.whole_validation = quality_of(990);
  std::vector<std::string> orders{"random", "oracle"};
  for (const Measure& measure : kMeasures) orders.emplace_back(measure.name);
  for (std::size_t s = 0; s < kSplits; ++s) {
    results.whole.push_back(quality_of(987));
    for (const std::string& order : orders)
      for (const int level : kLevels) {
        Order removed = random_order(kHeads, s);
        removed.resize(results.count_at(level));
        const int exact = (order == "random" ? by_chance : by_measure) + static_cast<int>(s);
        results.candidates.push_back({order, level, s, removed, quality_of(exact)});
      }
  }
  results.sweep.assign(kMeasures.size(), std::vector<double>(kHeads - 1, 0.5));
  results.threshold.measure = measure_index("entropy");
  results.threshold.order = random_order(kHeads, 0);
  results.threshold.count = 3;
  results.threshold.tuned_count = 5;
  results.threshold.tuned_lost = {0.001, 0.002, 0.003, 0.5, 0.6};
  results.threshold.test_lost = {0.0061, 0.0061, 0.0061, 0.0061, 0.0061};
  results.threshold.tuned_same = {0.0042, 0.0042, 0.0042, 0.0042, 0.0042};
  results.threshold.tuned_larger = {0.0523, 0.0523, 0.0523, 0.0523, 0.0523};
  for (std::size_t s = 0; s < 2; ++s)
    for (const char* order : {kGradient, "random"})
      for (const int level : kLevels)
        results.tuned.push_back({order, level, s, {0, 1}, quality_of(111), quality_of(888)});
  results.tuned.push_back({"none", 0, 0, {}, quality_of(987), quality_of(988)});
  results.speed = {{"dates model", 0, 8, 12345, 10.0, 5.0},
                   {"dates model", 50, 4, 6000, 7.5, 2.25},
                   {"large layer", 0, 12, 2359296, 0, 40.0},
                   {"large layer", 50, 6, 1179648, 0, 21.2}};
  return results;
}

std::string all_findings(const Results& results) {
  std::string text;
  for (const std::string& finding : findings(results)) text += finding + '\n';
  return text;
}

void expect_in(const std::string& text, const std::string& part) {
  EXPECT_NE(text.find(part), text.npos) << part;
}
void expect_not_in(const std::string& text, const std::string& part) {
  EXPECT_EQ(text.find(part), text.npos) << part;
}

TEST(Findings, HoldTheNumbers) {
  const std::string text = all_findings(some_results(900, 300));
  expect_in(text, "3 of the 8 heads (38\u00A0%)");
  expect_in(text, "in the order of entropy");
  expect_in(text, "0.61\u00A0\u00B1\u00A00.00\u00A0points: the threshold holds.");
  expect_in(text, "loses 0.42\u00A0\u00B1\u00A00.00\u00A0points");
  expect_in(text, "allows 5 heads to go, which costs 5.23");
  expect_in(text, "that threshold does not hold");
  expect_in(text, "98.70\u00A0% for the whole model. Every measure is above chance.");
  expect_in(text, "<encoder & 1>, head 1: without it the test accuracy falls by 31.2");
  expect_in(text, "5 of the 8 heads cost less than 0.1");
  expect_in(text, "forward pass takes 75\u00A0% of its time");
  expect_in(text, "its layers of attention 45\u00A0%, and a large layer (768 wide, 12 heads) 53");
}

// 5 against 5, all above: 2 of the 252 ways. And what if it came out otherwise.
TEST(Findings, TurnWithTheResults) {
  const std::string better = all_findings(some_results(900, 300));
  expect_in(better,
            "Does the gradient of the margin (margin_gradient) choose better than chance? Yes. ");
  expect_in(better, "60.0\u00A0points");
  expect_in(better, "exact p\u00A0=\u00A00.008");
  expect_in(better, "ahead at 10\u00A0%, 30\u00A0%, 50\u00A0%, 70\u00A0% and 90\u00A0% pruned");

  const std::string worse = all_findings(some_results(300, 900));
  expect_in(worse, "No: it chooses worse. ");
  expect_in(worse, "\u221260.0\u00A0points");
  expect_in(worse, "It is behind at 10\u00A0%");
  expect_in(worse, "Below chance: l2_norm, entropy");

  const std::string equal = all_findings(some_results(500, 500));
  expect_in(equal, "The samples do not tell. ");
  expect_in(equal, "level with it throughout");
  expect_in(equal, "Every measure is above chance.");

  Results results = some_results(900, 300);
  results.threshold.count = results.threshold.tuned_count = 0;
  expect_in(all_findings(results), "no measure lets even one of the 8 heads go");
  results.threshold.count = 3;
  results.threshold.test_lost = {0.02, 0.03, 0.02, 0.03, 0.02};
  expect_in(all_findings(results), "the threshold does not hold");
}

TEST(Report, HoldsTheNumbersAndEscapesText) {
  const std::string html = report(some_results(900, 300));
  expect_in(html, "90.20 \u00B1 0.16");  // 900 to 904 of 1000
  expect_in(html, "2\u2009359\u2009296");
  expect_in(html, "&lt;encoder &amp; 1&gt;");
  expect_not_in(html, "<encoder");
  expect_not_in(html, "& 1");
  expect_not_in(html, "nan");
  expect_not_in(html, "inf ");
  for (const Measure& measure : kMeasures) expect_in(html, measure.name);
}

// Nothing is fetched from anywhere, and every element that is opened is closed.
TEST(Report, IsWholeByItself) {
  const std::string html = report(some_results(900, 300));
  EXPECT_EQ(html.substr(0, 15), "<!DOCTYPE html>");
  for (const char* word : {"<script", "<link", "<img", "src=", "url(", "@import", "href=\"http"})
    expect_not_in(html, word);
  std::vector<std::string> open;
  for (std::size_t at = html.find('<', 1); at != html.npos; at = html.find('<', at + 1)) {
    const std::size_t end = html.find('>', at);
    ASSERT_NE(end, html.npos);
    const std::string tag = html.substr(at + 1, end - at - 1);
    const std::string name = tag.substr(0, tag.find_first_of(" /", 1));
    if (tag.front() == '/') {
      ASSERT_FALSE(open.empty());
      ASSERT_EQ(open.back(), tag.substr(1));
      open.pop_back();
    } else if (name != "meta" && tag.back() != '/') {
      open.push_back(name);
    }
  }
  EXPECT_TRUE(open.empty());
}

// A model of one layer and one head has no pair to rank, and no split to tell apart.
TEST(Report, OfOneHead) {
  Results results = some_results(900, 300);
  results.layers = {"decoder"};
  results.heads = {{0, 0}};
  for (auto& measure : results.importance)
    for (auto& split : measure) split = {0.5};
  for (auto& split : results.alone) split = {0.9};
  for (auto& lost : results.sweep) lost.clear();
  for (Candidate& c : results.candidates) c.removed.assign(results.count_at(c.level), 0);
  for (Tuned& t : results.tuned) t.removed = {};
  results.threshold.count = 0;
  results.threshold.tuned_lost = {0.001};
  const std::string html = report(results);
  expect_in(html, "no measure lets even one of the 1 head go");
  expect_not_in(html, "nan");
}

TEST(Csv, QuotesWhatNeedsIt) {
  Csv csv;
  csv.row("plain", "a,b", "say \"no\"", 0.1, 3, std::string("two\nlines"));
  EXPECT_EQ(csv.str(), "plain,\"a,b\",\"say \"\"no\"\"\",0.1,3,\"two\nlines\"\r\n");
}

TEST(Csv, HasARowForEachNumber) {
  const Results results = some_results(900, 300);
  const auto rows = [](const std::string& csv) { return std::ranges::count(csv, '\n') - 1; };
  EXPECT_EQ(rows(importance_csv(results)), kMeasures.size() * kSplits * kHeads);
  EXPECT_EQ(rows(candidates_csv(results)),
            kSplits + (kMeasures.size() + 2) * kSplits * kLevels.size());
  EXPECT_EQ(rows(speed_csv(results)), 4);
  EXPECT_EQ(rows(fine_tuning_csv(results)), 2 * 2 * kLevels.size() + 1);
  EXPECT_EQ(rows(rank_correlation_csv(results)),
            kMeasures.size() * 10 + kMeasures.size() * (kMeasures.size() - 1) / 2);
  expect_in(importance_csv(results), "entropy,<encoder & 1>,1,1,0.125,2,0.3125\r\n");
  expect_in(candidates_csv(results), "none,0,0,1,0.987,0.987,0,0,0,\r\n");
  expect_in(speed_csv(results), "large layer,50,6,1179648,,21.2\r\n");
}

TEST(Chart, LabelsDoNotCoverEachOther) {
  std::vector<pruning::detail::LineLabel> labels;
  for (const double y : {50.0, 51.0, 49.0, 95.0, 99.0}) labels.push_back({"", "c1", 0, y, y});
  push_apart(labels, 0, 100, 15);
  for (std::size_t i = 0; i < labels.size(); ++i) {
    EXPECT_GE(labels[i].y, 0);
    EXPECT_LE(labels[i].y, 100);
    if (i > 0) {
      EXPECT_GE(labels[i].y - labels[i - 1].y, 15);
    }
  }
}

TEST(Chart, LogarithmicAxesEndAtTheirFloor) {
  const Axis axis{"", 0.01, 100, true};
  EXPECT_EQ(axis.at(0), 0);
  EXPECT_EQ(axis.at(-1), 0);
  EXPECT_DOUBLE_EQ(axis.at(1), 0.5);
  EXPECT_EQ(axis.at(1000), 1);
  ASSERT_EQ(axis.ticks().size(), 5u);
  EXPECT_EQ(axis.ticks().front().text, "\u2264 0.01");
  EXPECT_EQ(axis.ticks()[1].text, "0.1");
  EXPECT_EQ((Axis{"", 1e-5, 1, true}).ticks().front().text, "\u2264 10\u207B\u2075");
}

}  // namespace
