// SPDX-License-Identifier: MIT
// Sentences as vectors that are alike where the sentences mean alike: any BERT-like model in a folder
// of sentence-transformers, made of this library's layers; search by meaning; and what each of its
// heads looks at.
#include <algorithm>
#include <array>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <iostream>
#include <optional>
#include <set>
#include <stdexcept>
#include <string>
#include <string_view>
#include <system_error>
#include <thread>
#include <vector>

#include <eigenheads/eigenheads.hpp>
#include <eigenheads/io/npy.hpp>
#include <eigenheads/plot/attention_view.hpp>
#include <eigenheads/plot/heatmap.hpp>

#include "../command_line.hpp"
#include "../progress.hpp"
#include "../writable.hpp"
#include "head_experiment.hpp"
#include "head_page.hpp"
#include "kept_vectors.hpp"
#include "lines.hpp"
#include "look.hpp"
#include "model.hpp"
#include "pruned_folder.hpp"
#include "similarity.hpp"

namespace {

namespace eh = eigenheads;
using command_line::CommandLine, command_line::Option, command_line::Takes,
    command_line::take_words, command_line::UsageError;
using eh::Index;
using sentences::Model;
using std::filesystem::path;

constexpr const char* kUsage =
    "Usage: sentence_encoder embed [FILE...] [OPTION...]   (without a FILE: the lines of the "
    "input)\n"
    "       sentence_encoder similarity TEXT TEXT [OPTION...]\n"
    "       sentence_encoder search FILE... QUERY [OPTION...]\n"
    "       sentence_encoder attention TEXT [OPTION...]\n"
    "       sentence_encoder heads [MODEL] --text FILE [OPTION...]\n\n";

constexpr const char* kDefaultModel = "build/all-MiniLM-L6-v2";
constexpr Option kModel{"--model", "FOLDER",
                        "of sentence-transformers, or of a BERT-like encoder\n"
                        "(build/all-MiniLM-L6-v2)"};
constexpr Option kThreads{"--threads", "N",
                          "any number gives the same bits (as many as there are cores)"};

constexpr std::array<Option, 3> kEmbed{{
    {"--out", "FILE.npy", "one row a line (embeddings.npy)"},
    kModel,
    kThreads,
}};
constexpr std::array<Option, 1> kSimilarity{{kModel}};
constexpr std::array<Option, 4> kSearch{{
    {"--top", "N", "how many lines to show (10)"},
    {"--index", "FILE", "where vectors are kept for the next time (a file in ~/.cache/eigenheads)"},
    kModel,
    kThreads,
}};
constexpr std::array<Option, 5> kAttention{{
    {"--view", "FILE.html", "all heads of all layers, as a page to click through"},
    {"--heatmap", "FILE.svg", "the heads of one layer"},
    {"--layer", "N", "which one (the last)"},
    {"--tokens", "", "pieces of words, as the model reads them, each by itself", Takes::nothing},
    kModel,
}};

constexpr std::array<Option, 8> kHeads{{
    {"--text", "FILE", "your sentences, one a line", Takes::value, true},
    {"--out", "FOLDER", "for heads.html and the tables (out/sentence_heads)"},
    {"--keep", "N", "how many heads are to be left"},
    {"--loss", "X", "or what they may cost: 1 less the mean cosine to the whole (0.05)"},
    {"--save", "FOLDER", "a new one, for the pruned model"},
    {"--sentences", "N", "at most, from all over the file; half of them choose (500)"},
    kModel,
    kThreads,
}};

[[nodiscard]] bool is_blank(const std::string& text) {
  return text.find_first_not_of(" \t\v\f\r") == std::string::npos;
}

[[nodiscard]] Model load(const path& folder) {
  if (!exists(folder))
    throw std::runtime_error("there is no model in " + folder.string() +
                             "; `bash examples/sentence_encoder/get-model` gets one (83 MB), and "
                             "--model FOLDER names another");
  return Model(folder);
}
[[nodiscard]] Model load(const CommandLine& line) {
  return load(path(line.value("--model", kDefaultModel)));
}

[[nodiscard]] int threads_of(const CommandLine& line) {
  if (line.has("--threads")) return line.count("--threads", 1024);
  return static_cast<int>(std::clamp(std::thread::hardware_concurrency(), 1u, 1024u));
}

// With progress, if it takes some time.
[[nodiscard]] eh::Tensor<float, 2> encode(const Model& model, const std::vector<std::string>& texts,
                                          eh::Context& context) {
  constexpr std::size_t long_work = 50'000;  // tokens: about a second
  const auto start = std::chrono::steady_clock::now();
  const std::vector<sentences::Ids> ids = model.ids(texts, context);
  std::size_t tokens = 0;
  for (const sentences::Ids& of_text : ids) tokens += of_text.size();
  std::optional<Progress> progress;
  if (tokens > long_work) progress.emplace(static_cast<double>(tokens));
  auto vectors = model.encoder(ids, context, [&](std::size_t done) {
    if (progress) progress->add(static_cast<double>(done), std::to_string(texts.size()) + " texts");
  });
  progress.reset();
  const std::chrono::duration<double> passed = std::chrono::steady_clock::now() - start;
  if (!texts.empty())
    std::fprintf(stderr, "%zu texts of %zu tokens, %.0f texts a second\n", texts.size(), tokens,
                 static_cast<double>(texts.size()) / passed.count());
  return vectors;
}

// ---- embed -------------------------------------------------------------------------------------

int embed(std::vector<std::string> words) {
  const std::vector<std::string> files = take_words(words);
  const CommandLine line(kEmbed, words);
  const path out = line.value("--out", "embeddings.npy");
  eh::Context context(threads_of(line));
  const std::array names{out.filename().string()};
  require_writable(out.has_parent_path() ? out.parent_path() : path("."), names);
  const Model model = load(line);
  const sentences::Lines lines =
      files.empty() ? sentences::lines_of(std::cin) : sentences::lines_of(files);
  const auto vectors = encode(model, lines.texts, context);
  eh::save_npy(out, vectors);
  std::cout << "[" << vectors.dimension(0) << ", " << vectors.dimension(1) << "] in "
            << out.string() << '\n';
  return 0;
}

// ---- similarity and search ---------------------------------------------------------------------

int similarity(std::vector<std::string> words) {
  const std::vector<std::string> texts = take_words(words);
  const CommandLine line(kSimilarity, words);
  if (texts.size() != 2)
    throw UsageError("there are " + std::to_string(texts.size()) + " texts; expected two");
  const Model model = load(line);
  eh::Context context;
  const auto vectors = model.encoder(model.ids(texts, context), context);
  std::printf("%.4f\n", sentences::cosine(sentences::row(vectors, 0), sentences::row(vectors, 1)));
  return 0;
}

// One file for each set of files, wherever the program is started. Empty where there is no home.
[[nodiscard]] path default_index(const std::vector<std::string>& files) {
  const auto variable = [](const char* name) {
    const char* const value = std::getenv(name);
    return path(value == nullptr ? "" : value);
  };
  path folder = variable("XDG_CACHE_HOME");
  if (folder.empty() && !variable("HOME").empty()) folder = variable("HOME") / ".cache";
  if (folder.empty()) return {};
  std::string names;
  for (const std::string& file : files) names += absolute(path(file)).string() + '\n';
  std::array<char, 32> name{};
  std::snprintf(name.data(), name.size(), "%016llx.safetensors",
                static_cast<unsigned long long>(eh::random_stream(names)));
  return folder / "eigenheads" / name.data();
}

int search(std::vector<std::string> words) {
  std::vector<std::string> files = take_words(words);
  const CommandLine line(kSearch, words);
  if (files.size() < 2)
    throw UsageError("there are " + std::to_string(files.size()) +
                     " words before the options; expected files, and a query");
  const std::string query = files.back();
  files.pop_back();
  const auto top =
      static_cast<std::size_t>(line.has("--top") ? line.count("--top", 1'000'000) : 10);
  eh::Context context(threads_of(line));
  const sentences::Lines lines = sentences::lines_of(files);
  const Model model = load(line);
  std::vector<std::string> texts;    // lines with something on them
  std::vector<std::size_t> numbers;  // of each, among all lines
  for (std::size_t i = 0; i < lines.texts.size(); ++i)
    if (!is_blank(lines.texts[i])) {
      texts.push_back(lines.texts[i]);
      numbers.push_back(i);
    }
  const bool is_named = line.has("--index");
  sentences::KeptVectors kept(is_named ? path(line.value("--index")) : default_index(files),
                              !is_named, model);
  const auto vectors =
      kept(texts, [&](const auto& fresh) { return encode(model, fresh, context); });
  const auto asked = model.encoder(std::vector<sentences::Ids>{model.ids(query)}, context);
  for (const auto& [text, score] : sentences::nearest(vectors, sentences::row(asked, 0), top)) {
    const std::size_t number = numbers[text];
    const auto file = std::ranges::upper_bound(lines.first, number) - lines.first.begin() - 1;
    const std::size_t first = lines.first[static_cast<std::size_t>(file)];
    std::array<char, 32> shown{};
    std::snprintf(shown.data(), shown.size(), "%7.4f  ", score);
    std::cout << shown.data() << files[static_cast<std::size_t>(file)] << ':' << number - first + 1
              << ": " << texts[text] << '\n';
  }
  return 0;
}

// ---- attention ---------------------------------------------------------------------------------

int attention(std::vector<std::string> words) {
  const std::vector<std::string> texts = take_words(words);
  const CommandLine line(kAttention, words);
  if (texts.size() != 1)
    throw UsageError("there are " + std::to_string(texts.size()) + " texts; expected one");
  if (!line.has("--view") && !line.has("--heatmap"))
    throw UsageError("nothing is asked for; expected --view, --heatmap or both");
  if (line.has("--layer") && !line.has("--heatmap"))
    throw UsageError("--layer is that of a heat map; expected --heatmap");
  require_outputs(line, {"--view", "--heatmap"});
  const Model model = load(line);
  const auto layers_count = static_cast<int>(model.encoder.encoder.num_layers());
  const int shown = line.has("--layer") ? line.count("--layer", layers_count) : layers_count;
  eh::Context context;
  const auto layers = sentences::look(model, texts.front(), !line.has("--tokens"), context);
  if (line.has("--view"))
    eh::write_attention_view(path(line.value("--view")), layers, {.title = texts.front()});
  if (line.has("--heatmap")) {
    const auto& layer = layers[static_cast<std::size_t>(shown - 1)];
    const auto [H, Q, K] = eh::TensorView<float, 3>(layer.weights).dimensions();
    if (H == 0)
      throw std::runtime_error("layer " + std::to_string(shown) + " has no heads: all are pruned");
    eh::HeatmapOptions options{.title = "Layer " + std::to_string(shown) + ": " + texts.front(),
                               .titles = layer.head_names,
                               .xlabel = "Words looked at",
                               .ylabel = "Words",
                               .minimum = 0.0,
                               .maximum = 1.0};
    options.key_labels = layer.key_labels;
    options.query_labels = layer.query_labels;
    eh::write_heatmaps(path(line.value("--heatmap")),
                       eh::TensorView<float, 4>(layer.weights.data(), {1, H, Q, K}), options);
  }
  return 0;
}

// ---- heads -------------------------------------------------------------------------------------

// Different ones, at most `most`, from all over the texts.
[[nodiscard]] std::vector<sentences::Ids> different(std::vector<sentences::Ids> all,
                                                    std::size_t most) {
  std::set<sentences::Ids> seen;
  std::erase_if(all, [&](const sentences::Ids& ids) { return !seen.insert(ids).second; });
  std::vector<sentences::Ids> some;
  const std::size_t count = std::min(all.size(), most);
  for (std::size_t i = 0; i < count; ++i) some.push_back(std::move(all[i * all.size() / count]));
  return some;
}

int heads(std::vector<std::string> words) {
  const std::vector<std::string> models = take_words(words);
  const CommandLine line(kHeads, words);
  if (models.size() > 1 || (models.size() == 1 && line.has("--model")))
    throw UsageError("there are several models; expected one");
  if (line.has("--keep") && line.has("--loss"))
    throw UsageError("--keep and --loss both say how much is pruned; expected one of them");
  sentences::Wanted wanted;
  if (line.has("--keep")) wanted.heads = static_cast<std::size_t>(line.count("--keep", 1'000'000));
  wanted.distance = line.number("--loss", wanted.distance);
  if (!(wanted.distance >= 0 && wanted.distance <= 2))
    throw UsageError("--loss is " + line.value("--loss") + "; expected a number, 0 to 2");
  const int most = line.has("--sentences") ? line.count("--sentences", 20'000) : 500;
  const path folder = line.value("--out", "out/sentence_heads");
  const std::array<std::string, 5> files{"importance.csv", "pruning.csv", "curve.csv", "speed.csv",
                                         "heads.html"};
  if (line.has("--save")) sentences::require_new(path(line.value("--save")));
  require_writable(folder, files);

  eh::Context context(threads_of(line));
  sentences::Lines lines = sentences::lines_of({line.value("--text")});
  std::erase_if(lines.texts, [](const std::string& text) { return is_blank(text); });
  const Model model = models.empty() ? load(line) : load(path(models.front()));
  const auto texts = different(model.ids(lines.texts, context), static_cast<std::size_t>(most));
  if (texts.size() < 8)
    throw std::runtime_error(line.value("--text") + ": " + std::to_string(texts.size()) +
                             " different texts are too few; expected 8 or more");
  std::vector<sentences::Ids> choosing, judging;
  for (std::size_t i = 0; i < texts.size(); ++i)
    (i % 2 == 0 ? choosing : judging).push_back(texts[i]);
  const sentences::HeadResults results =
      sentences::HeadExperiment(model.encoder, choosing, judging, wanted, context).run();
  const std::array contents{sentences::head_importance_csv(results),
                            sentences::head_pruning_csv(results),
                            sentences::head_curve_csv(results), sentences::head_speed_csv(results),
                            sentences::head_page(results)};
  for (std::size_t i = 0; i < files.size(); ++i) eh::write_file(folder / files[i], contents[i]);
  for (const std::string& finding : sentences::head_findings(results))
    std::cout << finding << "\n\n";
  std::cout << "The page is " << (folder / files.back()).string() << '\n';
  if (line.has("--save")) {
    sentences::save_without(model, results.removed(), path(line.value("--save")));
    std::cout << "The pruned model is in " << line.value("--save") << '\n';
  }
  return 0;
}

int run(const std::vector<std::string>& words) {
  if (words.empty() || words[0] == "--help") {
    std::cout << kUsage << "embed:\n";
    command_line::print_options(std::cout, kEmbed);
    std::cout << "similarity:\n";
    command_line::print_options(std::cout, kSimilarity);
    std::cout << "search:\n";
    command_line::print_options(std::cout, kSearch);
    std::cout << "attention:\n";
    command_line::print_options(std::cout, kAttention);
    std::cout << "heads:\n";
    command_line::print_options(std::cout, kHeads);
    return words.empty() ? 2 : 0;
  }
  const std::vector<std::string> rest(words.begin() + 1, words.end());
  if (words[0] == "embed") return embed(rest);
  if (words[0] == "similarity") return similarity(rest);
  if (words[0] == "search") return search(rest);
  if (words[0] == "attention") return attention(rest);
  if (words[0] == "heads") return heads(rest);
  throw UsageError("there is no command '" + words[0] + "'");
}

}  // namespace

int main(int argc, char** argv) {
  return command_line::run_program("sentence_encoder", argc, argv, run);
}
