// SPDX-License-Identifier: MIT
// Reads dates as people write them: a small model made of this library's layers, its training, and
// which characters each digit of an answer looked at.
#include <algorithm>
#include <array>
#include <cstdio>
#include <filesystem>
#include <iostream>
#include <optional>
#include <stdexcept>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include <eigenheads/eigenheads.hpp>
#include <eigenheads/io/file.hpp>
#include <eigenheads/plot/attention_view.hpp>
#include <eigenheads/plot/heatmap.hpp>

#include "../command_line.hpp"
#include "../loss_curve.hpp"
#include "../many_ranks.hpp"
#include "../progress.hpp"
#include "../writable.hpp"
#include "alphabet.hpp"
#include "checkpoint.hpp"
#include "evaluation.hpp"
#include "overlap.hpp"
#include "reading.hpp"
#include "shipped_weights.hpp"
#include "train.hpp"

namespace {

namespace eh = eigenheads;
using command_line::CommandLine, command_line::Option, command_line::Takes,
    command_line::take_words, command_line::UsageError;
using eh::Index;
using std::filesystem::path;

constexpr const char* kUsage =
    "Usage: dates translate [TEXT...] [OPTION...]   (without a text: the lines of the input)\n"
    "       dates evaluate [OPTION...]\n"
    "       dates train [OPTION...]                (mpirun -n 4 dates train: on four ranks)\n\n";

constexpr std::array<Option, 3> kTranslate{{
    {"--weights", "FILE", "another model than the one that comes with this program"},
    {"--heatmap", "FILE", "draw what each digit of the first answer looked at, as SVG"},
    {"--heads", "FILE", "all heads of all layers on the first text, as a page to click through"},
}};
constexpr std::array<Option, 3> kEvaluate{{
    {"--weights", "FILE", "another model than the one that comes with this program"},
    {"--count", "N",
     "of dates in seen and in new templates each, and a tenth of it of each\nkind of text without "
     "(20000)"},
    {"--errors", "", "show those of the test that are read wrong", Takes::nothing},
}};
constexpr std::array<Option, 6> kTrain{{
    {"--out", "FOLDER", "for weights.safetensors, loss.svg and checkpoints (out/dates)"},
    {"--seed", "N", "of the phrases and the first weights (1)"},
    {"--steps", "N", "all that are made (the number that the model was shipped after)"},
    {"--threads", "N", "any number gives the same weights (2)"},
    many_ranks::kShards,
    {"--resume", "", "go on from the checkpoint in FOLDER", Takes::nothing},
}};

[[nodiscard]] dates::Model<float> model_of(const CommandLine& line) {
  return dates::load_model(
      line.has("--weights")
          ? eh::read_safetensors(path(line.value("--weights")))
          : eh::parse_safetensors(dates::shipped_weights(), "the weights in this program"));
}

// ---- translate ---------------------------------------------------------------------------------

[[nodiscard]] std::string answer(const dates::Reading& reading) {
  if (reading.is_in_doubt || !reading.is_written()) return "no date";
  return (reading.date() ? "" : "no such day: ") + reading.symbols;
}

// What every head looked at. In the last layer the queries are the ten symbols of the answer.
[[nodiscard]] std::vector<eh::AttentionViewLayer<float>> look(const dates::Model<float>& model,
                                                              const std::string& text,
                                                              const std::string& symbols,
                                                              eh::Context& context) {
  dates::Model<float>::Activations saved;
  const dates::Batch batch = dates::make_batch(std::vector{text});
  static_cast<void>(model.forward(batch, saved, context));
  const auto letters = [](const std::string& word) {
    std::vector<std::string> labels;
    for (const char c : word) labels.emplace_back(1, c);
    return labels;
  };
  std::vector<eh::AttentionViewLayer<float>> layers;
  const auto add = [&](const std::string& name, const dates::Block<float>& block,
                       const dates::Block<float>::Activations& of, const dates::Rows<float>& memory,
                       const std::string& query_labels) {
    const auto heads = block.attention.with_weights(of.n, of.sequences, memory.x, memory.x,
                                                    memory.sequences, {}, context);
    layers.push_back({name, heads.weights.front(), letters(query_labels), letters(text), {}});
    for (const Index h : block.attention.original_heads())
      layers.back().head_names.push_back("Head " + std::to_string(h + 1));
  };
  for (std::size_t i = 0; i < model.encoder.size(); ++i)
    add("Characters " + std::to_string(i + 1), model.encoder[i], saved.encoder[i],
        {saved.encoder[i].n, saved.texts}, text);
  add("Answer", model.decoder, saved.decoder, {saved.memory, saved.texts}, symbols);
  return layers;
}

// One panel a head of the last layer: the ten symbols by the characters of the text.
void draw(const path& file, const eh::AttentionViewLayer<float>& layer, const std::string& title) {
  eh::HeatmapOptions options{.title = title,
                             .titles = layer.head_names,
                             .xlabel = "Characters",
                             .ylabel = "Answer",
                             .minimum = 0.0,
                             .maximum = 1.0,
                             .panel_size = 460.0};
  options.key_labels = layer.key_labels;
  options.query_labels = layer.query_labels;
  const auto [H, Q, K] = eh::TensorView<float, 3>(layer.weights).dimensions();
  eh::write_heatmaps(file, eh::TensorView<float, 4>(layer.weights.data(), {1, H, Q, K}), options);
}

int translate(std::vector<std::string> words) {
  std::vector<std::string> texts = take_words(words);
  const CommandLine line(kTranslate, words);
  require_outputs(line, {"--heatmap", "--heads"});
  const auto model = model_of(line);
  eh::Context context;
  bool is_first = true, is_drawn = !line.has("--heatmap") && !line.has("--heads");
  const auto read_one = [&](const std::string& text) {
    const std::string ascii = dates::fold(text);
    std::string said = "no date";
    if (ascii.size() > dates::kMaxLength) {
      said = "longer than " + std::to_string(dates::kMaxLength) + " characters";
    } else if (!ascii.empty()) {
      const auto reading = dates::read(model, {ascii}, context).front();
      said = answer(reading);
      if (is_first && !is_drawn) {
        const auto layers = look(model, ascii, reading.symbols, context);
        const std::string title = "\"" + ascii + "\" is " + reading.symbols;
        if (line.has("--heatmap")) draw(path(line.value("--heatmap")), layers.back(), title);
        if (line.has("--heads"))
          eh::write_attention_view(path(line.value("--heads")), layers, {.title = title});
        is_drawn = true;
      }
    }
    is_first = false;
    std::cout << text << " -> " << said << '\n';
  };
  for (const std::string& text : texts) read_one(text);
  if (texts.empty())
    for (std::string text; std::getline(std::cin, text);) {
      if (text.ends_with('\r')) text.pop_back();
      read_one(text);
    }
  if (texts.empty()) command_line::require_input_was_read();
  if (!is_drawn)
    throw std::runtime_error(
        "nothing is drawn, since the first text is not read; expected one of 1 to " +
        std::to_string(dates::kMaxLength) + " characters");
  return 0;
}

// ---- evaluate ----------------------------------------------------------------------------------

// "97.25 %", or "-" of nothing.
[[nodiscard]] std::string percent(Index part, Index whole) {
  if (whole == 0) return "-";
  std::array<char, 32> text{};
  std::snprintf(text.data(), text.size(), "%.2f %%",
                100 * static_cast<double>(part) / static_cast<double>(whole));
  return text.data();
}

void print_score(const dates::Model<float>& model, Index count, bool shows_errors,
                 eh::Context& context) {
  const dates::Phrases test(dates::Split::test, dates::kTestSeed);
  dates::Score score;
  dates::read_each(
      model, test, count,
      [&](const dates::Phrase& phrase, const dates::Reading& reading) {
        score.add(phrase, reading);
        if (shows_errors && reading.date() != phrase.date())
          std::cout << "  " << phrase.text << " -> " << answer(reading) << ", is "
                    << (phrase.date() ? to_iso(*phrase.date()) : "none") << '\n';
      },
      context);
  std::printf(
      "%ld phrases of the test, in templates and years that training has not seen:\n"
      "  dates read to the day          %s of %ld\n"
      "  dates read as none             %s\n"
      "  dates found where there is none %s of %ld\n",
      static_cast<long>(count), percent(score.exact, score.dates).c_str(),
      static_cast<long>(score.dates), percent(score.false_rejects, score.dates).c_str(),
      percent(score.false_accepts, score.others).c_str(), static_cast<long>(score.others));
}

void print_row(std::string_view name, const dates::Score& seen, const dates::Score& unseen) {
  std::printf("  %-34s %10s %12s   of %ld and %ld\n", std::string(name).c_str(),
              percent(seen.exact, seen.dates).c_str(), percent(unseen.exact, unseen.dates).c_str(),
              static_cast<long>(seen.dates), static_cast<long>(unseen.dates));
}

// What is said of dates in a format, or of texts that hold none.
void print_format(const dates::HeldOutFormat& format, const dates::Score& score) {
  if (format.holds_date)
    std::printf("  %-34s %10s read, %8s refused, %8s misread\n", std::string(format.name).c_str(),
                percent(score.exact, score.dates).c_str(),
                percent(score.false_rejects, score.dates).c_str(),
                percent(score.misread(), score.dates).c_str());
  else
    std::printf("  %-34s %10s refused, as they should be, %8s misread\n",
                std::string(format.name).c_str(),
                percent(score.others - score.false_accepts, score.others).c_str(),
                percent(score.false_accepts, score.others).c_str());
}

void print_tables(const dates::Model<float>& model, Index count, eh::Context& context) {
  const dates::SplitScores seen = score_split(model, dates::Split::train, count, context);
  const dates::SplitScores unseen = score_split(model, dates::Split::test, count, context);
  std::printf("\nDates read to the day, in templates  %-10s %s\n", "seen", "unseen");
  for (int century = 0; century < dates::kCenturies; ++century) {
    const int first = dates::kFirstYear + 100 * century;
    const auto place = static_cast<std::size_t>(century);
    print_row(std::to_string(first) + " to " + std::to_string(first + 99), seen.centuries[place],
              unseen.centuries[place]);
  }
  print_row("all years of four digits", seen.four_digits, unseen.four_digits);
  print_row("years of two digits", seen.two_digits, unseen.two_digits);
  for (std::size_t i = 0; i < dates::kLocaleNames.size(); ++i)
    print_row(dates::kLocaleNames[i], seen.languages[i], unseen.languages[i]);

  std::printf("\nDates found where there is none\n");
  for (std::size_t i = 1; i < dates::kKindNames.size(); ++i)
    std::printf("  %-34s %10s %12s   of %ld each\n", std::string(dates::kKindNames[i]).c_str(),
                percent(seen.kinds[i].false_accepts, seen.kinds[i].others).c_str(),
                percent(unseen.kinds[i].false_accepts, unseen.kinds[i].others).c_str(),
                static_cast<long>(unseen.kinds[i].others));

  const std::vector<dates::Score> formats = score_formats(model, count / 10, context);
  for (const auto& [set, title] :
       {std::pair{dates::HeldOut::first,
                  "that training never meets, but whoever wrote its templates had seen"},
        std::pair{dates::HeldOut::second,
                  "that training never meets, written before its templates"}}) {
    std::printf("\nFormats %s, %ld texts each\n", title, static_cast<long>(count / 10));
    for (std::size_t i = 0; i < formats.size(); ++i)
      if (dates::kHeldOutFormats[i].set == set) print_format(dates::kHeldOutFormats[i], formats[i]);
  }
}

int evaluate(const std::vector<std::string>& words) {
  const CommandLine line(kEvaluate, words);
  const auto model = model_of(line);
  eh::Context context(2);
  const Index count = line.has("--count") ? line.count("--count", 10'000'000) : 20'000;
  print_score(model, count, line.has("--errors"), context);
  print_tables(model, count, context);
  return 0;
}

// ---- train -------------------------------------------------------------------------------------

void print_overlap(std::uint64_t seed) {
  constexpr std::uint64_t count = 50'000;
  const auto overlap =
      dates::count_overlap(dates::Phrases(dates::Split::train, seed),
                           dates::Phrases(dates::Split::test, dates::kTestSeed), count);
  std::cout << "Of " << count << " phrases each, training and test share " << overlap.templates
            << " templates, " << overlap.years << " years and " << overlap.texts << " texts.\n";
}

int train_on(eh::mpi::Ranks* ranks, const std::vector<std::string>& words) {
  const CommandLine line(kTrain, words);
  dates::TrainOptions options;
  if (line.has("--seed"))
    options.seed = static_cast<std::uint64_t>(line.count("--seed", 1'000'000'000));
  if (line.has("--steps")) options.steps = line.count("--steps", 1'000'000);
  options.warmup = std::min(options.warmup, options.steps);
  const path folder = line.value("--out", "out/dates");
  const path checkpoint = folder / "checkpoint.safetensors";
  eh::Context context(line.has("--threads") ? line.count("--threads", 1024) : 2);
  std::optional<eh::Safetensors> begun;
  training_state::on_first(ranks, [&] { require_writable(folder, training_state::kFiles); });
  if (line.has("--resume")) begun = training_state::read(checkpoint, ranks);
  options.shards = many_ranks::shards_of(line, begun, ranks);

  dates::Trainer<float> trainer(options, ranks);
  if (begun) dates::load_checkpoint(*begun, trainer);
  const bool speaks = many_ranks::is_first(ranks);
  if (speaks) print_overlap(options.seed);
  std::vector<double> losses;
  std::optional<Progress> progress;
  if (speaks)
    progress.emplace(static_cast<double>(options.steps), static_cast<double>(trainer.step_count()));
  const std::string of_all = " of " + std::to_string(options.steps) + "  loss ";
  while (!trainer.is_done()) {
    losses.push_back(trainer.step(context));
    if (speaks)
      progress->add(1, "step " + std::to_string(trainer.step_count()) + of_all +
                           std::to_string(losses.back()));
    if (trainer.step_count() % 500 == 0) dates::save_checkpoint(checkpoint, trainer);
  }
  training_state::on_first(ranks, [&] {
    dates::save_model(folder / "weights.safetensors", trainer.model, options.model);
    eh::write_file(folder / "loss.svg", loss_curve(losses, "Loss: cross entropy of a symbol"));
  });
  if (!speaks) return 0;
  print_score(trainer.model, 20'000, false, context);
  std::cout << "The weights are in " << (folder / "weights.safetensors").string() << '\n';
  return 0;
}

int train(const std::vector<std::string>& words) {
  return many_ranks::run_on_ranks([&](eh::mpi::Ranks* ranks) { return train_on(ranks, words); });
}

int run(const std::vector<std::string>& words) {
  if (words.empty() || words[0] == "--help") {
    std::cout << kUsage << "translate:\n";
    command_line::print_options(std::cout, kTranslate);
    std::cout << "evaluate:\n";
    command_line::print_options(std::cout, kEvaluate);
    std::cout << "train:\n";
    command_line::print_options(std::cout, kTrain);
    return words.empty() ? 2 : 0;
  }
  const std::vector<std::string> rest(words.begin() + 1, words.end());
  if (words[0] == "translate") return translate(rest);
  if (words[0] == "evaluate") return evaluate(rest);
  if (words[0] == "train") return train(rest);
  throw UsageError("unknown command '" + words[0] + "'");
}

}  // namespace

int main(int argc, char** argv) { return command_line::run_program("dates", argc, argv, run); }
