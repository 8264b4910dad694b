// SPDX-License-Identifier: MIT
#pragma once
// The report: one page of HTML that is made of the results, and of nothing else.
#include <array>
#include <cstddef>
#include <string>

#include "findings.hpp"  // findings
#include "pages.hpp"     // page, section
#include "results.hpp"   // Results
#include "sections.hpp"

namespace pruning {

[[nodiscard]] inline std::string report(const Results& results) {
  using namespace detail;
  const Settings& s = results.settings;
  const std::string title = "Which heads are important?";
  std::string body =
      "<header>\n<h1>" + title + "</h1>\n<p class=\"quiet\">" +
      escaped(std::to_string(results.heads.size()) + " heads of attention in " +
              counted(results.layers.size(), "layer") + ", pruned by " +
              counted(kMeasures.size(), "measure") + ". Seed " + std::to_string(s.seed) + ", " +
              (s.is_quick ? "the quick experiment, " : "") + fixed(results.seconds, 0) + " s on " +
              counted(static_cast<std::size_t>(s.threads), "thread") + ".") +
      "</p>\n<nav aria-label=\"Sections\">";
  constexpr std::array<std::array<const char*, 2>, 8> links{{{"method", "Method"},
                                                             {"importance", "Importance"},
                                                             {"pruning", "Pruning"},
                                                             {"chance", "Chance"},
                                                             {"threshold", "Threshold"},
                                                             {"tuning", "Fine-tuning"},
                                                             {"speed", "Speed"},
                                                             {"agreement", "Agreement"}}};
  for (const auto& [id, name] : links)
    body += std::string("<a href=\"#") + id + "\">" + name + "</a> ";
  body += "</nav>\n</header>\n<main>\n<div class=\"summary\">\n" + list(findings(results)) +
          "</div>\n" + method_section(results) + importance_section(results) +
          pruning_section(results) + chance_section(results) + threshold_section(results) +
          tuning_section(results) + speed_section(results) + agreement_section(results);
  body +=
      section("files", "The numbers",
              paragraph("All of them are in the tables beside this page: importance.csv, "
                        "candidates.csv, speed.csv, fine_tuning.csv and rank_correlation.csv.")) +
      "</main>\n";
  return page(title, body);
}

}  // namespace pruning
