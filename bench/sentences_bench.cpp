// SPDX-License-Identifier: MIT
// Measures the sentence encoder of examples/ with a model's folder, from texts to vectors. peers/
// sentences.py asks for each repetition, so that those of everybody go in turns:
//   sentences_bench MODEL --export=DIRECTORY   the texts, and the vectors of them
//   sentences_bench MODEL --threads=1          answers lines of its input, "vectors 0": milliseconds of
//     vectors   of the case's tokens, which are there already
//     texts     the same from its texts
//     tokens    of its texts
#include <cstddef>
#include <exception>
#include <filesystem>
#include <fstream>
#include <iostream>
#include <stdexcept>
#include <string>
#include <vector>

#include <eigenheads/context.hpp>  // Context
#include <eigenheads/io/npy.hpp>   // save_npy

#include "../examples/sentence_encoder/model.hpp"  // Model
#include "options.hpp"                             // parse, milliseconds
#include "sentence_texts.hpp"                      // sentence_cases

namespace bench {
namespace {

namespace eh = eigenheads;

void write_all(const sentences::Model& model, const std::vector<SentenceCase>& cases,
               const std::filesystem::path& directory) {
  std::filesystem::create_directories(directory);
  std::ofstream names(directory / "names.txt");
  eh::Context context;
  for (std::size_t i = 0; i < cases.size(); ++i) {
    names << cases[i].name << '\n';
    std::ofstream texts(directory / (std::to_string(i) + ".txt"));
    for (const std::string& text : cases[i].texts) texts << text << '\n';
    eh::save_npy(directory / (std::to_string(i) + ".npy"),
                 model.encoder(model.ids(cases[i].texts, context), context));
    if (!texts.flush()) throw std::runtime_error("cannot write to " + directory.string());
  }
  if (!names.flush()) throw std::runtime_error("cannot write to " + directory.string());
}

void answer(const sentences::Model& model, const std::vector<SentenceCase>& cases,
            const Options& options) {
  eh::Context context(options.threads.at(0));
  std::string what;
  for (std::size_t number = 0; std::cin >> what >> number;) {
    const std::vector<std::string>& texts = cases.at(number).texts;
    const auto ids = model.ids(texts, context);
    std::size_t count = 0;  // read, so that nothing is left out
    const auto run = [&] {
      if (what == "tokens")
        count += model.ids(texts, context).size();
      else if (what == "texts")
        count += static_cast<std::size_t>(
            model.encoder(model.ids(texts, context), context).dimension(0));
      else
        count += static_cast<std::size_t>(model.encoder(ids, context).dimension(0));
    };
    run();
    std::cout << milliseconds(run, options.min_time) << std::endl;
    if (count % texts.size() != 0) throw std::logic_error("vectors are missing");
  }
}

int run(int argc, char** argv) {
  if (argc < 2) throw std::runtime_error("expected the folder of a model");
  const Options options = parse(argc - 1, argv + 1);
  const sentences::Model model(argv[1]);
  const std::vector<SentenceCase> cases = sentence_cases(model.tokenizer);
  if (!options.directory.empty())
    write_all(model, cases, options.directory);
  else
    answer(model, cases, options);
  return 0;
}

}  // namespace
}  // namespace bench

int main(int argc, char** argv) {
  try {
    return bench::run(argc, argv);
  } catch (const std::exception& error) {
    std::cerr << argv[0] << ": " << error.what() << '\n';
    return 1;
  }
}
