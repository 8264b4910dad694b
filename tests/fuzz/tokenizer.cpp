// SPDX-License-Identifier: MIT
// A tokenizer.json of any bytes, and, after its last zero byte, a text of any bytes: it is refused, or
// gives ids and spans that fit the text, as many as it may, and texts of those ids.
#include "tokenizers/tokenizer.hpp"

#include <cstddef>
#include <cstdint>
#include <optional>
#include <stdexcept>
#include <string>
#include <string_view>

#include "input.hpp"

namespace {

using tokenizers::Encoding, tokenizers::Tokenizer;

void check(const Tokenizer& tokenizer, const Encoding& encoding, std::string_view text) {
  fuzz::require(
      encoding.ids.size() == encoding.spans.size() && encoding.ids.size() == encoding.types.size(),
      "lists of different lengths");
  for (const tokenizers::Span& span : encoding.spans)
    fuzz::require(span.begin <= span.end && span.end <= text.size(), "a span beyond the text");
  for (const std::int32_t id : encoding.ids) {
    fuzz::require(id >= 0, "a negative id");
    if (const auto token = tokenizer.token(id))
      fuzz::require(tokenizer.id(*token).has_value(), "a token without an id");
  }
  std::string back;
  if (fuzz::succeeds<std::invalid_argument>([&] { back = tokenizer.decode(encoding.ids); }))
    fuzz::require(tokenizers::is_utf8(back), "a text that is no UTF-8");
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* bytes, std::size_t size) {
  const std::string_view all = fuzz::text_of(bytes, size);
  const std::size_t zero = all.rfind('\0');
  const std::string json(all.substr(0, zero));
  const std::string_view text = zero == all.npos ? "Hello, world! 12" : all.substr(zero + 1);
  std::optional<Tokenizer> tokenizer;
  if (!fuzz::succeeds<std::runtime_error>([&] { tokenizer = Tokenizer::parse(json); })) return 0;
  (void)tokenizer->max_tokens();
  const Encoding whole = tokenizer->encode(text);
  check(*tokenizer, whole, text);
  check(*tokenizer, tokenizer->encode(text, {.special_tokens = false}), text);
  check(*tokenizer, tokenizer->encode_pair(text, text), text);
  const std::size_t most = whole.ids.size() / 2;
  (void)fuzz::succeeds<std::invalid_argument>([&] {
    const Encoding cut = tokenizer->encode(text, {.max_tokens = most});
    fuzz::require(cut.ids.size() <= most, "more tokens than there may be");
    check(*tokenizer, cut, text);
  });
  return 0;
}
