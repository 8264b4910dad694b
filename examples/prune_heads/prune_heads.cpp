// SPDX-License-Identifier: MIT
// Which heads of the dates model are important? Thirteen measures of it, the pruning by each of
// them at five levels beside chance and a greedy search, the speed, the fine-tuning after it, and a
// report of all that. Dive into Deep Learning, section 11.5, exercise 2.
#include <array>
#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <iostream>
#include <string>
#include <vector>

#include <eigenheads/io/file.hpp>
#include <eigenheads/io/safetensors.hpp>

#include "../command_line.hpp"
#include "../dates/checkpoint.hpp"
#include "../dates/shipped_weights.hpp"
#include "../writable.hpp"
#include "csv.hpp"
#include "experiment.hpp"
#include "findings.hpp"
#include "report.hpp"

namespace {

namespace eh = eigenheads;
using command_line::CommandLine, command_line::Option, command_line::Takes;
using std::filesystem::path;

constexpr std::array<Option, 7> kOptions{{
    {"--out", "FOLDER", "for report.html and the tables (out/prune_heads)"},
    {"--quick", "", "the same experiment on fewer phrases", Takes::nothing},
    {"--phrases", "N",
     "of each run that heads are measured on (800; quick: 80), and all others\nin proportion"},
    {"--steps", "N", "of each fine-tuning (400; quick: 40), and of the last ones three times that"},
    {"--seed", "N", "of the phrases, the random orders and the fine-tuning (1)"},
    {"--threads", "N", "any number gives the same numbers, but the times (2)"},
    {"--weights", "FILE", "another model than the one that comes with this program"},
}};

const std::array<std::string, 6> kFiles{"importance.csv",  "candidates.csv",       "speed.csv",
                                        "fine_tuning.csv", "rank_correlation.csv", "report.html"};

int run(const std::vector<std::string>& words) {
  if (!words.empty() && words[0] == "--help") {
    std::cout << "Usage: prune_heads [OPTION...]\n\n";
    command_line::print_options(std::cout, kOptions);
    return 0;
  }
  const CommandLine line(kOptions, words);
  pruning::Settings settings =
      line.has("--quick") ? pruning::Settings::quick() : pruning::Settings();
  if (line.has("--phrases")) settings.set_phrases(line.count("--phrases", 100'000));
  if (line.has("--steps")) settings.tuning.steps = line.count("--steps", 100'000);
  if (line.has("--seed"))
    settings.seed = static_cast<std::uint64_t>(line.count("--seed", 1'000'000));
  if (line.has("--threads")) settings.threads = line.count("--threads", 1024);
  const path folder = line.value("--out", "out/prune_heads");
  const pruning::Model model = dates::load_model(
      line.has("--weights")
          ? eh::read_safetensors(path(line.value("--weights")))
          : eh::parse_safetensors(dates::shipped_weights(), "the weights in this program"));
  require_writable(folder, kFiles);

  const pruning::Results results = pruning::Experiment(model, settings).run();
  const std::array texts{pruning::importance_csv(results),
                         pruning::candidates_csv(results),
                         pruning::speed_csv(results),
                         pruning::fine_tuning_csv(results),
                         pruning::rank_correlation_csv(results),
                         pruning::report(results)};
  for (std::size_t i = 0; i < kFiles.size(); ++i) eh::write_file(folder / kFiles[i], texts[i]);
  for (const std::string& finding : pruning::findings(results)) std::cout << finding << "\n\n";
  std::cout << "The report is " << (folder / kFiles.back()).string() << '\n';
  return 0;
}

}  // namespace

int main(int argc, char** argv) {
  return command_line::run_program("prune_heads", argc, argv, run);
}
