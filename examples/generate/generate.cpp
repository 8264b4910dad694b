// SPDX-License-Identifier: MIT
// Writes on from a prompt, byte by byte: a small language model made of this library's layers, its
// training on any text, and what it looked at.
#include <algorithm>
#include <array>
#include <chrono>
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <filesystem>
#include <iostream>
#include <optional>
#include <span>
#include <stdexcept>
#include <string>
#include <string_view>
#include <vector>

#include <eigenheads/eigenheads.hpp>
#include <eigenheads/io/file.hpp>
#include <eigenheads/plot/attention_view.hpp>

#include "../command_line.hpp"
#include "../loss_curve.hpp"
#include "../many_ranks.hpp"
#include "../progress.hpp"
#include "../writable.hpp"
#include "byte_writing.hpp"
#include "checkpoint.hpp"
#include "shipped_weights.hpp"
#include "stories.hpp"
#include "train.hpp"
#include "utf8.hpp"
#include "voice.hpp"
#include "writing.hpp"
#ifdef GENERATE_HAS_TOKENIZERS
#include "pretrained_voice.hpp"
#endif

namespace {

namespace eh = eigenheads;
using byte_model::Model, language_model::Ids, language_model::Voice;
using command_line::CommandLine, command_line::Option, command_line::Takes,
    command_line::take_words, command_line::UsageError;
using eh::Index;
using std::filesystem::path;

constexpr const char* kUsage =
    "Usage: generate [MODEL] PROMPT [OPTION...]   (without a MODEL: the one in this program;\n"
    "                                             a folder: GPT-2's or Llama's, of Hugging Face)\n"
    "       generate train [FILE] [OPTION...]     (without a FILE: stories that it makes itself;\n"
    "                                             of a FILE, the last twentieth is held out;\n"
    "                                             mpirun -n 4 generate train: on four ranks)\n"
    "       generate evaluate [MODEL] [OPTION...]\n"
    "       generate stories [OPTION...]\n\n";

constexpr std::array<Option, 10> kWrite{{
    {"--tokens", "N", "how many to write, which are bytes if the model has no others (200)"},
    {"--stop", "TEXT", "end once this is written"},
    {"--temperature", "T", "0 writes the likeliest byte, 1 as the model learnt (0.8)"},
    {"--top-k", "K", "only the K likeliest bytes"},
    {"--top-p", "P", "only the likeliest bytes that have P of the probability"},
    {"--min-p", "P", "only bytes that are at least P times as likely as the likeliest"},
    {"--penalty", "R", "bytes of the text are less likely by this (1: not)"},
    {"--seed", "N", "of the choices (1)"},
    {"--beams", "N", "no choices: the likeliest line that a search with N beams finds"},
    {"--attention", "FILE",
     "all heads on the last 256 tokens of the text, as a page to click through"},
}};
constexpr std::array<Option, 6> kTrain{{
    {"--out", "FOLDER", "for weights.safetensors, loss.svg and checkpoints (out/generate)"},
    {"--seed", "N", "of the pieces of the text and the first weights (1)"},
    {"--steps", "N", "all that are made (the number that the model was shipped after)"},
    {"--threads", "N", "any number gives the same weights (2)"},
    many_ranks::kShards,
    {"--resume", "", "go on from the checkpoint in FOLDER", Takes::nothing},
}};
constexpr std::array<Option, 3> kEvaluate{{
    {"--count", "N", "of stories (1000)"},
    {"--temperature", "T", "of the choices (1)"},
    {"--errors", "", "show the stories that are wrong", Takes::nothing},
}};
constexpr std::array<Option, 2> kStories{{
    {"--count", "N", "of stories (10)"},
    {"--seed", "N", "of their dice (1)"},
}};

constexpr std::uint64_t kTextSeed = 1;
constexpr std::uint64_t kTextStories = 30'000;  // 4 MB
constexpr std::uint64_t kHeldOutSeed = 2, kHeldOutStories = 120;
constexpr Index kHeldOutEvery = 500;  // steps

[[nodiscard]] Index count(const CommandLine& line, const std::string& name, int most,
                          Index otherwise) {
  return line.has(name) ? line.count(name, most) : otherwise;
}

[[nodiscard]] Index tokens_of(const CommandLine& line) {
  return count(line, "--tokens", 100'000, 200);
}

[[nodiscard]] Model<float> shipped() {
  const std::string name = "the weights in this program";
  return byte_model::load_model(eh::parse_safetensors(byte_model::shipped_weights(), name), name);
}

// ---- write -------------------------------------------------------------------------------------

[[nodiscard]] Voice find_voice(const std::vector<std::string>& words, Index tokens) {
  if (words.size() == 1) return byte_model::voice_of(shipped());
  const path model = words.front();
  if (!std::filesystem::is_directory(model))
    return byte_model::voice_of(byte_model::load_model(model));
#ifdef GENERATE_HAS_TOKENIZERS
  return language_model::pretrained_voice(model, words.back(), tokens);
#else
  static_cast<void>(tokens);
  throw std::runtime_error(model.string() +
                           ": a folder, whose words this program cannot read: it was built without "
                           "utf8proc");
#endif
}

void require_prompt(const std::string& prompt) {
  if (prompt.empty()) throw UsageError("the prompt is empty; expected one character or more");
  const std::size_t broken = byte_model::find_broken(prompt);
  if (broken != std::string::npos)
    throw UsageError("the prompt is no UTF-8 from byte " + std::to_string(broken + 1) + " on");
}

// Says tokens as they come: whole characters, and nothing of what ends a text.
class Speaker {
 public:
  explicit Speaker(const Voice& voice) : voice_(voice) {}

  void say(Index id) {
    if (std::ranges::find(voice_.stop_ids, id) != voice_.stop_ids.end()) return;
    for (const char c : voice_.bytes_of(id)) std::cout << stream_.add(c);
    std::cout << std::flush;
  }
  void finish() { std::cout << stream_.finish() << '\n'; }

 private:
  const Voice& voice_;
  byte_model::Utf8Stream stream_;
};

// Writes on from a prompt, whose text is shown first, as it draws. Returns what was written.
[[nodiscard]] Ids write_drawn(const Voice& voice, const std::string& text, const Ids& prompt,
                              const CommandLine& line, eh::Context& context) {
  Speaker speaker(voice);
  eh::GenerateOptions options{
      .sampling = {.temperature = line.number("--temperature", 0.8),
                   .top_k = count(line, "--top-k", 10'000'000, 0),
                   .top_p = line.number("--top-p", 1),
                   .min_p = line.number("--min-p", 0),
                   .repetition_penalty = line.number("--penalty", 1),
                   .seed = static_cast<std::uint64_t>(count(line, "--seed", 1'000'000'000, 1))},
      .max_new_tokens = tokens_of(line),
      .stop_ids = voice.stop_ids,
      .on_token = [&](Index, Index id) { speaker.say(id); }};
  if (line.has("--stop"))
    options.stops = [&, stop = line.value("--stop")](Index, std::span<const Index> all) {
      return language_model::has_said(voice, all.subspan(prompt.size()), stop);
    };
  static_cast<void>(eh::Sampler(options.sampling));  // what it refuses comes before the prompt
  std::cout << text << std::flush;
  Ids written =
      std::move(language_model::write_after(voice.model, {prompt}, options, context).front());
  speaker.finish();
  return written;
}

[[nodiscard]] Ids write_likeliest(const Voice& voice, const std::string& text, const Ids& prompt,
                                  const CommandLine& line, eh::Context& context) {
  for (const char* name :
       {"--temperature", "--top-k", "--top-p", "--min-p", "--penalty", "--seed", "--stop"})
    if (line.has(name))
      throw UsageError("--beams finds the likeliest line; expected no " + std::string(name));
  // A line is what it looks for, where nothing else ends a text.
  const Ids stops = voice.stop_ids.empty() ? Ids{byte_model::to_id('\n')} : voice.stop_ids;
  const auto texts = language_model::search_after(
      voice.model, prompt,
      {.beams = line.count("--beams", 64), .most = tokens_of(line), .stop_ids = stops}, context);
  std::cout << text;
  Speaker speaker(voice);
  for (const Index id : texts.front().ids)
    if (std::ranges::find(stops, id) == stops.end()) speaker.say(id);
  speaker.finish();
  std::fprintf(stderr, "Probability %.3g; the next has %.3g\n",
               std::exp(texts.front().log_probability),
               texts.size() > 1 ? std::exp(texts[1].log_probability) : 0.0);
  return texts.front().ids;
}

void show_attention(const path& file, const Voice& voice, Ids ids, eh::Context& context) {
  constexpr std::ptrdiff_t most = 256;
  ids.erase(ids.begin(), ids.end() - (std::min)(std::ssize(ids), most));
  std::vector<std::string> labels;
  for (const Index id : ids) labels.push_back(language_model::label_of(voice, id));
  eh::write_attention_view(file, language_model::look(voice.model, ids, labels, context),
                           {.title = "What a language model looked at"});
}

int write(std::vector<std::string> words) {
  const std::vector<std::string> texts = take_words(words);
  const CommandLine line(kWrite, words);
  if (texts.empty() || texts.size() > 2)
    throw UsageError("there are " + std::to_string(texts.size()) +
                     " words before the options; expected a prompt, or a model and a prompt");
  require_prompt(texts.back());
  const Voice voice = find_voice(texts, tokens_of(line));
  const std::string& text = texts.back();
  Ids prompt = voice.ids_of(text);
  const Index longest = voice.model.language_options().longest;
  if (std::ssize(prompt) + tokens_of(line) > longest)
    throw UsageError("the prompt has " + std::to_string(prompt.size()) + " tokens; with " +
                     std::to_string(tokens_of(line)) + " more expected " + std::to_string(longest) +
                     " at most");
  eh::Context context;
  const auto start = std::chrono::steady_clock::now();
  const Ids written = line.has("--beams") ? write_likeliest(voice, text, prompt, line, context)
                                          : write_drawn(voice, text, prompt, line, context);
  const double seconds =
      std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
  std::fprintf(stderr, "%zu tokens, %.0f a second\n", written.size(),
               static_cast<double>(written.size()) / seconds);
  if (line.has("--attention")) {
    prompt.insert(prompt.end(), written.begin(), written.end());
    show_attention(path(line.value("--attention")), voice, std::move(prompt), context);
  }
  return 0;
}

// ---- train -------------------------------------------------------------------------------------

int train_on(eh::mpi::Ranks* ranks, std::vector<std::string> words) {
  const std::vector<std::string> files = take_words(words);
  const CommandLine line(kTrain, words);
  if (files.size() > 1)
    throw UsageError("there are " + std::to_string(files.size()) + " files; expected one");
  byte_model::TrainOptions options;
  options.seed = static_cast<std::uint64_t>(count(line, "--seed", 1'000'000'000, 1));
  options.steps = count(line, "--steps", 10'000'000, options.steps);
  options.warmup = (std::min)(options.warmup, options.steps);
  const path folder = line.value("--out", "out/generate");
  const path checkpoint = folder / "checkpoint.safetensors";
  eh::Context context(line.has("--threads") ? line.count("--threads", 1024) : 2);
  std::optional<eh::Safetensors> begun;
  if (line.has("--resume")) begun = training_state::read(checkpoint, ranks);
  options.shards = many_ranks::shards_of(line, begun, ranks);
  byte_model::Trainer<float> trainer(
      options,
      files.empty() ? byte_model::Texts{byte_model::stories(kTextSeed, kTextStories),
                                        byte_model::stories(kHeldOutSeed, kHeldOutStories)}
                    : byte_model::split(training_state::read_bytes(path(files.front()), ranks)),
      ranks);
  training_state::on_first(ranks, [&] { require_writable(folder, training_state::kFiles); });
  if (begun) byte_model::load_checkpoint(*begun, trainer);
  const bool speaks = many_ranks::is_first(ranks);
  std::vector<double> losses;
  std::vector<LossAt> held_out;
  std::optional<Progress> progress;
  if (speaks)
    progress.emplace(static_cast<double>(options.steps), static_cast<double>(trainer.step_count()));
  const std::string of_all = " of " + std::to_string(options.steps) + "  loss ";
  while (!trainer.is_done()) {
    losses.push_back(trainer.step(context));
    if (speaks)
      progress->add(1, "step " + std::to_string(trainer.step_count()) + of_all +
                           std::to_string(losses.back()));
    if (trainer.step_count() % 100 == 0) byte_model::save_checkpoint(checkpoint, trainer);
    if (speaks && (trainer.step_count() % kHeldOutEvery == 0 || trainer.is_done()))
      held_out.push_back({losses.size() - 1, trainer.held_out_loss(context)});
  }
  training_state::on_first(ranks, [&] {
    byte_model::save_model(folder / "weights.safetensors", trainer.model);
    eh::write_file(
        folder / "loss.svg",
        loss_curve(losses, "Loss: cross entropy of a byte (points: held out)", held_out));
  });
  if (!speaks) return 0;
  if (!losses.empty())
    std::printf("Loss of a byte: %.3f, of text that is held out %.3f\n", losses.back(),
                held_out.back().loss);
  std::cout << "The weights are in " << (folder / "weights.safetensors").string() << '\n';
  return 0;
}

int train(const std::vector<std::string>& words) {
  return many_ranks::run_on_ranks([&](eh::mpi::Ranks* ranks) { return train_on(ranks, words); });
}

// ---- evaluate ----------------------------------------------------------------------------------

int evaluate(std::vector<std::string> words) {
  const std::vector<std::string> files = take_words(words);
  const CommandLine line(kEvaluate, words);
  if (files.size() > 1)
    throw UsageError("there are " + std::to_string(files.size()) + " models; expected one");
  const Model<float> model =
      files.empty() ? shipped() : byte_model::load_model(path(files.front()));
  eh::Context context(2);
  const byte_model::Score score = byte_model::score_stories(
      model, count(line, "--count", 1'000'000, 1000),
      {.temperature = line.number("--temperature", 1)},
      [&](const std::string& story, const byte_model::Verdict& verdict) {
        if (line.has("--errors") && !verdict.is_right()) std::cout << "  " << story;
      },
      context);
  std::printf("%ld stories that the model ends after openings of new ones:\n",
              static_cast<long>(score.count));
  const auto print = [&](const char* what, Index count) {
    std::printf("  %-36s %6.2f %%\n", what,
                100 * static_cast<double>(count) / static_cast<double>(score.count));
  };
  print("begin, go on and end as stories do", score.formed);
  print("and the names are the same", score.names);
  print("and the pronouns are theirs", score.pronouns);
  print("and the things are the same", score.things);
  print("and the sums are right", score.sums);
  print("all of that", score.right);
  return 0;
}

int run(const std::vector<std::string>& words) {
  if (words.empty() || words[0] == "--help") {
    std::cout << kUsage << "PROMPT:\n";
    command_line::print_options(std::cout, kWrite);
    std::cout << "train:\n";
    command_line::print_options(std::cout, kTrain);
    std::cout << "evaluate:\n";
    command_line::print_options(std::cout, kEvaluate);
    std::cout << "stories:\n";
    command_line::print_options(std::cout, kStories);
    return words.empty() ? 2 : 0;
  }
  const std::vector<std::string> rest(words.begin() + 1, words.end());
  if (words[0] == "train") return train(rest);
  if (words[0] == "evaluate") return evaluate(rest);
  if (words[0] == "stories") {
    const CommandLine line(kStories, rest);
    std::cout << byte_model::stories(
        static_cast<std::uint64_t>(count(line, "--seed", 1'000'000'000, 1)),
        static_cast<std::uint64_t>(count(line, "--count", 10'000'000, 10)));
    return 0;
  }
  return write(words);
}

}  // namespace

int main(int argc, char** argv) { return command_line::run_program("generate", argc, argv, run); }
