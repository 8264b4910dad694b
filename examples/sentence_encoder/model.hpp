// SPDX-License-Identifier: MIT
#pragma once
// A folder of sentence-transformers, or of a BERT-like encoder alone, as a function from texts to
// vectors.
#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include <eigenheads/context.hpp>  // Context
#include <eigenheads/random.hpp>   // random_stream
#include <eigenheads/tensor.hpp>   // Tensor

#include "../tokenizers/tokenizer.hpp"  // Tokenizer
#include "encoder_weights.hpp"          // load_weights
#include "sentence_encoder.hpp"         // SentenceEncoder

namespace sentences {

// Everything but the special tokens is cut off from the end of a text that is too long.
[[nodiscard]] inline tokenizers::Encoding tokens_of(const tokenizers::Tokenizer& tokenizer,
                                                    std::string_view text, Index most) {
  return tokenizer.encode(text, {.max_tokens = static_cast<std::size_t>(most)});
}

class Model {
 public:
  // Throws std::runtime_error, with a sentence, for what is missing in the folder, cannot be read or
  // does not fit together.
  explicit Model(const path& folder)
      : folder_(folder), tokenizer(tokenizers::Tokenizer::load(folder)), encoder(read(folder)) {
    const Index vocab_size = encoder.encoder.config().vocab_size;
    if (static_cast<Index>(tokenizer.vocabulary_size()) > vocab_size)
      throw std::runtime_error(folder.string() + ": the tokenizer has " +
                               std::to_string(tokenizer.vocabulary_size()) +
                               " tokens and the encoder " + std::to_string(vocab_size));
  }

 private:
  path folder_;

 public:
  tokenizers::Tokenizer tokenizer;
  SentenceEncoder encoder;

  [[nodiscard]] const path& folder() const { return folder_; }

  [[nodiscard]] Ids ids(std::string_view text) const {
    const auto encoding = tokens_of(tokenizer, text, encoder.pipeline.max_tokens);
    return {encoding.ids.begin(), encoding.ids.end()};
  }
  // Of all texts, on all threads.
  [[nodiscard]] std::vector<Ids> ids(const std::vector<std::string>& texts,
                                     Context& context) const {
    constexpr std::size_t at_once = 16;
    std::vector<Ids> result(texts.size());
    const auto tasks = static_cast<Index>((texts.size() + at_once - 1) / at_once);
    context.parallel_for(tasks, [&](Index task) {
      const std::size_t first = static_cast<std::size_t>(task) * at_once;
      for (std::size_t i = first; i < (std::min)(first + at_once, texts.size()); ++i)
        result[i] = ids(texts[i]);
    });
    return result;
  }

  // Changes with every file that it was read from: of each, the size and the time of its last change.
  [[nodiscard]] std::uint64_t fingerprint() const {
    std::string text;
    for (const char* name :
         {"config.json", "model.safetensors", "model.safetensors.index.json", "modules.json",
          "1_Pooling/config.json", "sentence_bert_config.json", "tokenizer.json",
          "tokenizer_config.json", "vocab.txt", "vocab.json", "merges.txt"}) {
      std::error_code error;
      const path file = folder_ / name;
      const auto size = std::filesystem::file_size(file, error);
      if (error) continue;
      const auto time = std::filesystem::last_write_time(file, error).time_since_epoch().count();
      text += std::string(name) + ' ' + std::to_string(size) + ' ' + std::to_string(time) + '\n';
    }
    return eigenheads::random_stream(text);  // FNV-1a
  }

 private:
  [[nodiscard]] static SentenceEncoder read(const path& folder) {
    const EncoderConfig config = read_config(folder / "config.json");
    Pipeline pipeline = read_pipeline(folder, config);
    Encoder encoder(config);
    load_weights(encoder, folder);
    return {std::move(encoder), std::move(pipeline)};
  }
};

}  // namespace sentences
