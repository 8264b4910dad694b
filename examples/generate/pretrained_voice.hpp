// SPDX-License-Identifier: MIT
#pragma once
// A language model of another library with the tokenizer that lies beside it.
#include <cstdint>
#include <filesystem>
#include <memory>
#include <string>
#include <utility>

#include "../tokenizers/tokenizer.hpp"  // Tokenizer
#include "pretrained.hpp"               // load_pretrained
#include "voice.hpp"                    // Voice

namespace language_model {

// For the prompt and `more` tokens after it. Throws std::runtime_error for files that cannot be read or
// are not known.
[[nodiscard]] inline Voice pretrained_voice(const std::filesystem::path& folder,
                                            const std::string& prompt, Index more) {
  const auto tokenizer =
      std::make_shared<const tokenizers::Tokenizer>(tokenizers::Tokenizer::load(folder));
  const auto ids_of = [tokenizer](const std::string& text) {
    const auto encoding = tokenizer->encode(text);
    return Ids(encoding.ids.begin(), encoding.ids.end());
  };
  Pretrained pretrained = load_pretrained(folder, std::ssize(ids_of(prompt)) + more);
  const auto bytes_of = [tokenizer](Index id) {
    // A model may have more rows than there are tokens, for the sake of round sizes.
    const auto token = static_cast<std::int32_t>(id);
    if (!tokenizer->token(token)) return std::string();
    return tokenizer->decode({&token, 1}, {.skips_special_tokens = false, .repairs = false});
  };
  return {.model = std::move(pretrained.model),
          .ids_of = ids_of,
          .bytes_of = bytes_of,
          .stop_ids = std::move(pretrained.end_ids)};
}

}  // namespace language_model
