// SPDX-License-Identifier: MIT
#pragma once
// The numbers of the experiment as tables of comma-separated values, one a file.
#include <cstddef>
#include <optional>
#include <string>
#include <vector>

#include "../dates/reading.hpp"  // Score
#include "measures.hpp"          // kMeasures
#include "pages.hpp"             // ranks, spearman
#include "results.hpp"           // Results

namespace pruning {

// "encoder 1 3; decoder 7": layers, and their heads counted from 1
[[nodiscard]] inline std::string head_list(const Results& results, const Order& heads) {
  std::string list;
  for (const std::size_t i : heads)
    list += (list.empty() ? "" : "; ") + results.layers[results.heads[i].layer] + ' ' +
            std::to_string(results.heads[i].index + 1);
  return list;
}

[[nodiscard]] inline std::string importance_csv(const Results& results) {
  Csv csv;
  csv.row("measure", "layer", "head", "split", "value", "rank", "accuracy_lost_without");
  for (std::size_t m = 0; m < kMeasures.size(); ++m)
    for (std::size_t s = 0; s < results.importance[m].size(); ++s) {
      std::vector<double> values = results.importance[m][s];
      const std::vector<double> original = values;
      if (kMeasures[m].is_high_important)
        for (double& value : values) value = -value;
      const std::vector<double> rank = ranks(values);  // 1: the most important
      for (std::size_t h = 0; h < values.size(); ++h)
        csv.row(kMeasures[m].name, results.layers[results.heads[h].layer],
                results.heads[h].index + 1, s + 1, original[h], rank[h], results.alone[s][h]);
    }
  return csv.str();
}

[[nodiscard]] inline std::string candidates_csv(const Results& results) {
  Csv csv;
  csv.row("order", "percent_pruned", "heads_pruned", "split", "accuracy", "accuracy_whole",
          "false_rejects", "false_accepts", "loss", "pruned");
  const auto add = [&](const std::string& order, int level, const Order& removed, std::size_t split,
                       const Quality& quality) {
    csv.row(order, level, removed.size(), split + 1, quality.accuracy(),
            results.whole[split].accuracy(), quality.score.false_reject_share(),
            quality.score.false_accept_share(), quality.loss, head_list(results, removed));
  };
  for (std::size_t s = 0; s < results.whole.size(); ++s) add("none", 0, {}, s, results.whole[s]);
  for (const Candidate& c : results.candidates)
    add(c.order, c.level, c.removed, c.split, c.quality);
  return csv.str();
}

[[nodiscard]] inline std::string speed_csv(const Results& results) {
  Csv csv;
  csv.row("what", "percent_pruned", "heads_left", "attention_parameters", "model_ms",
          "attention_ms");
  for (const Speed& row : results.speed) {
    const auto model = row.model > 0 ? std::optional(row.model) : std::nullopt;
    csv.row(row.what, row.level, row.heads, row.parameters, model, row.attention);
  }
  return csv.str();
}

[[nodiscard]] inline std::string fine_tuning_csv(const Results& results) {
  Csv csv;
  csv.row("order", "percent_pruned", "heads_pruned", "seed", "accuracy_before", "accuracy_after",
          "loss_before", "loss_after", "pruned");
  for (const Tuned& t : results.tuned)
    csv.row(t.order, t.level, t.removed.size(), t.seed + 1, t.before.accuracy(), t.after.accuracy(),
            t.before.loss, t.after.loss, head_list(results, t.removed));
  return csv.str();
}

// Spearman's correlation of the heads' importance: of one measure between two splits, and of two
// measures by their means over the splits. Empty where a measure is the same for all heads.
[[nodiscard]] inline std::string rank_correlation_csv(const Results& results) {
  Csv csv;
  csv.row("between", "measure", "other_measure", "split", "other_split", "spearman");
  for (std::size_t m = 0; m < kMeasures.size(); ++m)
    for (std::size_t s = 0; s < results.importance[m].size(); ++s)
      for (std::size_t t = s + 1; t < results.importance[m].size(); ++t)
        csv.row("splits", kMeasures[m].name, kMeasures[m].name, s + 1, t + 1,
                spearman(results.importance[m][s], results.importance[m][t]));
  for (std::size_t m = 0; m < kMeasures.size(); ++m)
    for (std::size_t k = m + 1; k < kMeasures.size(); ++k)
      csv.row("measures", kMeasures[m].name, kMeasures[k].name, "", "",
              spearman(results.oriented_importance(m), results.oriented_importance(k)));
  return csv.str();
}

}  // namespace pruning
