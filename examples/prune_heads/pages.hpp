// SPDX-License-Identifier: MIT
#pragma once
// What the report is made of, and shares with those of other programs.
#include "../pages/chart.hpp"          // Chart, Series, draw, legend
#include "../pages/csv.hpp"            // Csv
#include "../pages/head_grid.hpp"      // Head, draw_rank_grid
#include "../pages/head_measures.hpp"  // Measure, Evidence
#include "../pages/html.hpp"           // Table, section, page
#include "../pages/statistics.hpp"     // mean, ranks, spearman, tests
#include "../pages/time_in_turn.hpp"   // time_in_turn

namespace pruning {

using namespace pages;
namespace detail {
using namespace pages::detail;
}

}  // namespace pruning
