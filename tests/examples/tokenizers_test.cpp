// SPDX-License-Identifier: MIT
// examples/tokenizers: the ids that Hugging Face's tokenizers give (tests/golden/make_tokenizers.py
// asked them), what others got wrong, and what is refused.
#include <algorithm>
#include <charconv>
#include <clocale>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <gtest/gtest.h>
#include <iterator>
#include <random>
#include <sstream>
#include <stdexcept>
#include <string>
#include <string_view>
#include <sys/stat.h>  // mkfifo
#include <vector>

#include "tokenizers/tokenizer.hpp"

namespace {

using tokenizers::BertNormalizer;
using tokenizers::Encoding;
using tokenizers::Span;
using tokenizers::Tokenizer;
using Ids = std::vector<std::int32_t>;
namespace fs = std::filesystem;

const fs::path kGolden = fs::path(EIGENHEADS_SOURCE_DIR) / "tests/golden/tokenizers";

[[nodiscard]] std::string read(const fs::path& path) {
  std::ifstream file(path, std::ios::binary);
  EXPECT_TRUE(file) << path;
  return {std::istreambuf_iterator<char>(file), {}};
}

[[nodiscard]] std::vector<std::string> lines_of(const fs::path& path) {
  std::istringstream text(read(path));
  std::vector<std::string> lines;
  for (std::string line; std::getline(text, line);) lines.push_back(line);
  return lines;
}

// "@3 ab\x0a": three times ab and a newline.
[[nodiscard]] std::string plain(std::string_view line) {
  int count = 1;
  if (line.starts_with("@")) {
    const std::size_t blank = line.find(' ');
    std::from_chars(line.data() + 1, line.data() + blank, count);
    line.remove_prefix(blank + 1);
  }
  std::string once, text;
  for (std::size_t at = 0; at < line.size(); ++at)
    if (line[at] == '\\') {
      int byte = 0;
      std::from_chars(line.data() + at + 2, line.data() + at + 4, byte, 16);
      once += static_cast<char>(byte);
      at += 3;
    } else {
      once += line[at];
    }
  for (int i = 0; i < count; ++i) text += once;
  return text;
}

[[nodiscard]] const std::vector<std::string>& golden_lines() {
  static const std::vector<std::string> lines = [] {
    std::vector<std::string> texts = lines_of(kGolden / "lines.txt");
    for (std::string& text : texts) text = plain(text);
    return texts;
  }();
  return lines;
}

[[nodiscard]] std::string hash_of(std::string_view bytes) {
  std::uint32_t hash = 0x811C9DC5u;
  for (const char byte : bytes) hash = (hash ^ static_cast<unsigned char>(byte)) * 0x01000193u;
  std::string text(8, '0');
  for (std::size_t i = 0; i < 8; ++i, hash >>= 4) text[7 - i] = "0123456789abcdef"[hash & 15];
  return text;
}
[[nodiscard]] std::string hash_of(const Ids& ids) {
  std::string bytes;
  for (const std::int32_t id : ids)
    for (int byte = 0; byte < 4; ++byte)
      bytes += static_cast<char>(static_cast<std::uint32_t>(id) >> 8 * byte & 0xFFu);
  return hash_of(bytes);
}

// The lines of <model>.ids say what is asked for here.
void expect_golden_ids(const Tokenizer& tokenizer, const std::string& model) {
  const std::vector<std::string> expected = lines_of(kGolden / (model + ".ids"));
  const std::vector<std::string>& lines = golden_lines();
  ASSERT_EQ(lines.size(), 5000u);
  ASSERT_EQ(expected.size(), lines.size());
  int wrong = 0;
  for (std::size_t i = 0; i < lines.size() && wrong < 5; ++i) {
    const Ids ids = tokenizer.encode(lines[i]).ids;
    std::string text = hash_of(ids);
    if (i % 10 == 0) text += " " + hash_of(tokenizer.decode(ids));
    if (i % 100 == 0)
      for (const std::int32_t id : ids) text += " " + std::to_string(id);
    EXPECT_EQ(text, expected[i]) << "line " << i << " of " << model << ": "
                                 << lines[i].substr(0, 200);
    wrong += text != expected[i];
  }
}

// ---- 5,000 lines --------------------------------------------------------------------------------

class TokenizersGolden : public testing::TestWithParam<const char*> {};

TEST_P(TokenizersGolden, HaveTheIdsOfHuggingFaceOn5000Lines) {
  expect_golden_ids(Tokenizer::load(kGolden / (std::string(GetParam()) + ".json")), GetParam());
}

INSTANTIATE_TEST_SUITE_P(Models, TokenizersGolden,
                         testing::Values("bert_cased", "bert_uncased", "gpt2", "llama3",
                                         "normalizers", "qwen2", "roberta"));

// Of the folder that examples/sentence_encoder/get-model fetches, if it is there.
TEST(Tokenizers, HaveTheIdsOfMiniLM) {
  const char* given = std::getenv("EIGENHEADS_MINILM");
  const fs::path folder = given != nullptr
                              ? fs::path(given)
                              : fs::path(EIGENHEADS_SOURCE_DIR) / "build/all-MiniLM-L6-v2";
  if (!fs::exists(folder / "tokenizer.json")) GTEST_SKIP() << "no model in " << folder;
  const Tokenizer tokenizer = Tokenizer::load(folder);
  expect_golden_ids(tokenizer, "minilm");
  const Tokenizer of_words = Tokenizer::load(folder / "vocab.txt");
  for (std::size_t i = 0; i < golden_lines().size(); i += 7)
    ASSERT_EQ(of_words.encode(golden_lines()[i]).ids, tokenizer.encode(golden_lines()[i]).ids);
}

TEST(Tokenizers, SayWhereTokensComeFrom) {
  const auto parts = [](const char* model, std::string_view text) {
    const Tokenizer tokenizer = Tokenizer::load(kGolden / (std::string(model) + ".json"));
    std::string joined;
    for (const Span span : tokenizer.encode(text).spans)
      joined += std::string(part(text, span)) + "|";
    return joined;
  };
  EXPECT_EQ(parts("bert_uncased", "  \xff A\u0301t [SEP]\u0130 \u4e2d"),
            "|A\u0301t|[SEP]|\u0130|\u4e2d||");
  EXPECT_EQ(parts("bert_uncased", "a <lr> b<l><r>  \n"), "|a| <lr> |b|<l>|<r>  \n||");
  EXPECT_EQ(parts("roberta", "\u00a0x<mask>"), "||\u00a0|x|<mask>||");
}

TEST(Tokenizers, SpansOfByteLevelTokensAreAllOfTheText) {
  const Tokenizer tokenizer = Tokenizer::load(kGolden / "gpt2.json");
  for (const std::string& line : golden_lines()) {
    std::uint32_t end = 0;
    for (const Span span : tokenizer.encode(line).spans) {
      ASSERT_LE(span.begin, end);
      ASSERT_LT(span.begin, span.end);
      end = std::max(end, span.end);
    }
    ASSERT_EQ(end, line.size());
  }
}

TEST(Tokenizers, SpansLieInTheText) {
  for (const char* model : {"bert_uncased", "normalizers", "qwen2", "roberta"}) {
    const Tokenizer tokenizer = Tokenizer::load(kGolden / (std::string(model) + ".json"));
    for (const std::string& line : golden_lines())
      for (const Span span : tokenizer.encode(line).spans) {
        ASSERT_LE(span.begin, span.end);
        ASSERT_LE(span.end, line.size());
      }
  }
}

TEST(Tokenizers, BytesGoThroughByteLevelTokensUnchanged) {
  for (const char* model : {"gpt2", "llama3"}) {
    const Tokenizer tokenizer = Tokenizer::load(kGolden / (std::string(model) + ".json"));
    for (const std::string& line : golden_lines()) {
      const Ids ids = tokenizer.encode(line, {.special_tokens = false}).ids;
      ASSERT_EQ(tokenizer.decode(ids, {.skips_special_tokens = false}),
                tokenizers::text_of(line).bytes);
    }
  }
}

TEST(Tokenizers, DecodeTokenByTokenIfBytesAreNotRepaired) {
  const Tokenizer tokenizer = Tokenizer::load(kGolden / "gpt2.json");
  const std::string text = "na\u00efve \U0001F600 \u4e2d";
  std::string joined;
  for (const std::int32_t id : tokenizer.encode(text).ids)
    joined += tokenizer.decode(Ids{id}, {.repairs = false});
  EXPECT_EQ(joined, text);
  EXPECT_EQ(tokenizer.decode(Ids{*tokenizer.id("\u00f0")}), "\uFFFD");  // byte F0
}

TEST(Tokenizers, KnowTheirTokens) {
  const Tokenizer tokenizer = Tokenizer::load(kGolden / "bert_uncased.json");
  EXPECT_EQ(tokenizer.id("[CLS]"), 2);
  EXPECT_EQ(tokenizer.token(2), "[CLS]");
  EXPECT_TRUE(tokenizer.is_special(2));
  const std::int32_t last = static_cast<std::int32_t>(tokenizer.vocabulary_size()) - 1;
  EXPECT_EQ(tokenizer.token(last), "<r>");
  EXPECT_FALSE(tokenizer.is_special(last));
  EXPECT_EQ(tokenizer.token(last + 1), std::nullopt);
  EXPECT_EQ(tokenizer.id("no such token"), std::nullopt);
  EXPECT_EQ(tokenizer.num_special_tokens(), 2u);
  EXPECT_EQ(tokenizer.max_tokens(), 128u);
  EXPECT_EQ(Tokenizer::load(kGolden / "gpt2.json").max_tokens(), std::nullopt);
  EXPECT_THROW(static_cast<void>(tokenizer.decode(Ids{last + 1})), std::invalid_argument);
  EXPECT_THROW(static_cast<void>(tokenizer.decode(Ids{-1})), std::invalid_argument);
}

// ---- What others got wrong ----------------------------------------------------------------------

[[nodiscard]] std::string normalized(std::string_view text, const BertNormalizer& normalizer) {
  return normalizer(tokenizers::text_of(text)).bytes;
}
constexpr BertNormalizer kUncased{};
constexpr BertNormalizer kCased{.strips_accents = false, .lowers = false};

TEST(TokenizersEdgeCases, T601LowerCaseGoesCharacterByCharacter) {
  EXPECT_EQ(normalized("\u03a3\u039f\u03a6\u039f\u03a3", kUncased),
            "\u03c3\u03bf\u03c6\u03bf\u03c3");
}

TEST(TokenizersEdgeCases, T602LowerCaseIsOfNoLocale) {
  const std::string before = std::setlocale(LC_ALL, nullptr);
  for (const char* locale : {"C", "tr_TR.UTF-8"}) {
    std::setlocale(LC_ALL, locale);  // stays as it is where there is no Turkish one
    EXPECT_EQ(normalized("\u0130stanbul", kUncased), "istanbul");
    EXPECT_EQ(normalized("I\u0131", kUncased), "i\u0131");
    EXPECT_EQ(normalized("\u00dfTRASSE\u1e9e", kUncased), "\u00dftrasse\u00df");
    EXPECT_EQ(normalized("\u0130stanbul", {.strips_accents = false}), "i\u0307stanbul");
  }
  std::setlocale(LC_ALL, before.c_str());
}

TEST(TokenizersEdgeCases, T603AccentsAreMnOfTheCanonicalDecomposition) {
  EXPECT_EQ(normalized("na\u00efve", kCased), "na\u00efve");
  EXPECT_EQ(normalized("\u30b6\u3067", kUncased), "\u30b5\u3066");
  EXPECT_EQ(normalized("x\u20dd", kUncased), "x\u20dd");
  EXPECT_EQ(normalized("\u0903k", kUncased), "\u0903k");
  EXPECT_EQ(normalized("\u0e33", kUncased), "\u0e33");
}

TEST(TokenizersEdgeCases, T604IdeographsAreSetApartAndKanaAreNot) {
  EXPECT_EQ(normalized("A\u4e2dB", kUncased), "a \u4e2d b");
  EXPECT_EQ(normalized("\u3400x", kUncased), " \u3400 x");
  EXPECT_EQ(normalized("\U00020000y", kUncased), " \U00020000 y");
  EXPECT_EQ(normalized("\uf900z", kUncased), " \u8c48 z");
  EXPECT_EQ(normalized("\u3042a", kUncased), "\u3042a");
}

// The tokenizer.json of a list of tokens.
[[nodiscard]] std::string small_bert(std::string_view direction = "Right") {
  const char* tokens[] = {"[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "un",    "##aff",  "##able",
                          "##a",   "a",     "hello", "##s",   "##ly",   "tok",   "\u4e2d", "##b",
                          "b",     "mask",  "[",     "]",     "he",     "##llo", "x"};
  std::string vocabulary, added;
  int id = 0;
  for (const char* token : tokens) {
    const std::string number = std::to_string(id);
    vocabulary += (id > 0 ? ",\"" : "\"") + std::string(token) + "\":" + number;
    if (id < 5)
      added += std::string(id > 0 ? "," : "") + R"({"special":true,"content":")" + token +
               R"(","id":)" + number + "}";
    ++id;
  }
  return R"({"truncation":{"max_length":9,"direction":")" + std::string(direction) +
         R"("},"added_tokens":[)" + added + R"(],
"normalizer":{"type":"BertNormalizer","clean_text":true,"handle_chinese_chars":true,
              "strip_accents":null,"lowercase":true},
"pre_tokenizer":{"type":"BertPreTokenizer"},
"post_processor":{"type":"BertProcessing","sep":["[SEP]",3],"cls":["[CLS]",2]},
"decoder":{"type":"WordPiece","prefix":"##","cleanup":true},
"model":{"type":"WordPiece","unk_token":"[UNK]","continuing_subword_prefix":"##",
         "max_input_chars_per_word":100,"vocab":{)" +
         vocabulary + "}}}";
}

[[nodiscard]] std::string times(int count, std::string_view text) {
  std::string result;
  for (int i = 0; i < count; ++i) result += text;
  return result;
}

TEST(TokenizersEdgeCases, T605TheLongestWordIsCountedInCharactersAfterNormalization) {
  const Tokenizer tokenizer = Tokenizer::parse(small_bert());
  const auto ids = [&](const std::string& text) {
    return tokenizer.encode(text, {.special_tokens = false}).ids;
  };
  Ids hundred(100, 8);
  hundred[0] = 9;
  EXPECT_EQ(ids(times(100, "a")), hundred);
  EXPECT_EQ(ids(times(101, "a")), Ids{1});
  EXPECT_EQ(ids(times(100, "a\u0301")), hundred);
  EXPECT_EQ(ids(times(101, "a\u0301")), Ids{1});
  EXPECT_EQ(ids("unaffablez"), Ids{1});
  EXPECT_EQ(ids("unaffable"), (Ids{5, 6, 7}));
}

TEST(TokenizersEdgeCases, T606SpecialTokensAreCutOutFirst) {
  const Tokenizer tokenizer = Tokenizer::parse(small_bert());
  EXPECT_EQ(tokenizer.encode("a[MASK]b").ids, (Ids{2, 9, 4, 16, 3}));
  EXPECT_EQ(tokenizer.encode("un[MASK]aff").ids, (Ids{2, 5, 4, 1, 3}));
  EXPECT_EQ(tokenizer.encode("[mask]").ids, (Ids{2, 18, 17, 19, 3}));
  EXPECT_EQ(tokenizer.encode("[MASK").ids, (Ids{2, 18, 17, 3}));
  EXPECT_EQ(tokenizer.encode("hello[SEP]hello").ids, (Ids{2, 10, 3, 10, 3}));
}

TEST(TokenizersEdgeCases, T607TruncationKeepsTheSpecialTokens) {
  const Tokenizer tokenizer = Tokenizer::parse(small_bert());
  const auto ids = [&](std::size_t most) {
    return tokenizer.encode("hello hello hello", {.max_tokens = most}).ids;
  };
  EXPECT_EQ(ids(5), (Ids{2, 10, 10, 10, 3}));
  EXPECT_EQ(ids(3), (Ids{2, 10, 3}));
  EXPECT_EQ(ids(2), (Ids{2, 3}));
  EXPECT_THROW(static_cast<void>(ids(1)), std::invalid_argument);
  EXPECT_THROW(static_cast<void>(ids(0)), std::invalid_argument);
  const auto pair = [&](std::size_t most) {
    return tokenizer.encode_pair("a b x a", "hello hello", {.max_tokens = most});
  };
  EXPECT_EQ(pair(5).ids, (Ids{2, 9, 3, 10, 3}));
  EXPECT_EQ(pair(6).ids, (Ids{2, 9, 16, 3, 10, 3}));
  EXPECT_EQ(pair(6).types, (Ids{0, 0, 0, 0, 1, 1}));
  EXPECT_EQ(Tokenizer::parse(small_bert("Left")).encode("a b x hello", {.max_tokens = 4}).ids,
            (Ids{2, 22, 10, 3}));
}

// Byte-level BPE of these tokens, numbered from 0.
[[nodiscard]] std::string small_bpe(const std::vector<std::string>& tokens,
                                    const std::vector<std::string>& merges,
                                    const std::string& options = "") {
  std::string vocabulary, pairs;
  for (std::size_t i = 0; i < tokens.size(); ++i)
    vocabulary += (i > 0 ? ",\"" : "\"") + tokens[i] + "\":" + std::to_string(i);
  for (const std::string& merge : merges) pairs += (pairs.empty() ? "\"" : ",\"") + merge + "\"";
  return R"({"pre_tokenizer":{"type":"ByteLevel","add_prefix_space":false},
"decoder":{"type":"ByteLevel"},
"model":{"type":"BPE",)" +
         options + R"("vocab":{)" + vocabulary + R"(},"merges":[)" + pairs + "]}}";
}

TEST(TokenizersEdgeCases, T608TheFirstMergeGoesFirstThenTheLeftmost) {
  const Tokenizer doubles = Tokenizer::parse(small_bpe({"a", "b", "aa", "ab"}, {"a a", "a b"}));
  EXPECT_EQ(doubles.encode("aaa").ids, (Ids{2, 0}));
  EXPECT_EQ(doubles.encode("aaaaa").ids, (Ids{2, 2, 0}));
  EXPECT_EQ(doubles.encode("aaab").ids, (Ids{2, 3}));
  Ids many(500, 2);  // as many as are merged by a queue
  EXPECT_EQ(doubles.encode(times(1000, "a")).ids, many);
  many.push_back(0);
  EXPECT_EQ(doubles.encode(times(1001, "a")).ids, many);
  const std::vector<std::string> tokens{"a", "b", "c", "bc", "ab", "abc"}, merges{"b c", "a b"};
  EXPECT_EQ(Tokenizer::parse(small_bpe(tokens, merges)).encode("abc").ids, (Ids{0, 3}));
  EXPECT_EQ(
      Tokenizer::parse(small_bpe(tokens, merges, R"("ignore_merges":true,)")).encode("abc").ids,
      Ids{5});
}

[[nodiscard]] std::vector<std::string> cut(std::string_view text, const tokenizers::Scanner& scan) {
  std::vector<std::string> words;
  for (std::size_t at = 0; at < text.size();) {
    const std::size_t end = scan(text, at);
    words.emplace_back(text.substr(at, end - at));
    at = end;
  }
  return words;
}

TEST(TokenizersEdgeCases, T609WordsOfGpt2AndLlama3) {
  using Words = std::vector<std::string>;
  using tokenizers::Scanner;
  const Scanner gpt2{Scanner::gpt2}, llama3{Scanner::llama3, 3};
  EXPECT_EQ(cut("a  b", gpt2), (Words{"a", " ", " b"}));
  EXPECT_EQ(cut("a  b", llama3), (Words{"a", " ", " b"}));
  EXPECT_EQ(cut("a\tb", gpt2), (Words{"a", "\t", "b"}));
  EXPECT_EQ(cut("a\tb", llama3), (Words{"a", "\tb"}));
  EXPECT_EQ(cut("\n\nfoo", gpt2), (Words{"\n", "\n", "foo"}));
  EXPECT_EQ(cut("\n\nfoo", llama3), (Words{"\n\n", "foo"}));
  EXPECT_EQ(cut("DON'T", gpt2), (Words{"DON", "'", "T"}));
  EXPECT_EQ(cut("DON'T", llama3), (Words{"DON", "'T"}));
  EXPECT_EQ(cut("x'store", gpt2), (Words{"x", "'s", "tore"}));
  EXPECT_EQ(cut("x'store", llama3), (Words{"x", "'s", "tore"}));
  EXPECT_EQ(cut("1234567", gpt2), (Words{"1234567"}));
  EXPECT_EQ(cut("1234567", llama3), (Words{"123", "456", "7"}));
  EXPECT_EQ(cut("1234", {Scanner::llama3, 1}), (Words{"1", "2", "3", "4"}));
  EXPECT_EQ(cut("cafe\u0301", gpt2), (Words{"cafe", "\u0301"}));
  EXPECT_EQ(cut("cafe\u0301", llama3), (Words{"cafe", "\u0301"}));
}

// ---- Decoding, and bytes that are no token ------------------------------------------------------

TEST(Tokenizers, DecodeCleansUpAsHuggingFaceDoes) {
  const Tokenizer tokenizer = Tokenizer::parse(small_bert());
  const Ids ids = tokenizer.encode("unaffable [MASK] a b").ids;
  EXPECT_EQ(tokenizer.decode(ids), "unaffable a b");
  EXPECT_EQ(tokenizer.decode(ids, {.skips_special_tokens = false}),
            "[CLS] unaffable [MASK] a b [SEP]");
  EXPECT_EQ(tokenizer.decode(Ids{}), "");
}

TEST(Tokenizers, BytesThatAreNoTokenAreLeftOutOrUnknown) {
  const std::vector<std::string> tokens{"a", "b", "ab", "?"};
  EXPECT_EQ(Tokenizer::parse(small_bpe(tokens, {"a b"})).encode("azzb").ids, Ids{2});
  EXPECT_EQ(Tokenizer::parse(small_bpe(tokens, {"a b"}, R"("unk_token":"?",)")).encode("azzb").ids,
            (Ids{0, 3, 3, 1}));
  EXPECT_EQ(Tokenizer::parse(small_bpe(tokens, {"a b"}, R"("unk_token":"?","fuse_unk":true,)"))
                .encode("azzb")
                .ids,
            (Ids{0, 3, 1}));
}

// ---- What is refused ----------------------------------------------------------------------------

[[nodiscard]] std::string refusal(const std::string& json) {
  try {
    static_cast<void>(Tokenizer::parse(json));
  } catch (const std::runtime_error& error) {
    return error.what();
  }
  return "";
}
[[nodiscard]] std::string with(std::string text, std::string_view old, std::string_view fresh) {
  const std::size_t at = text.find(old);
  EXPECT_NE(at, text.npos) << old;
  return text.replace(at, old.size(), fresh);
}

TEST(TokenizersRefusals, NameTheComponentThatIsNotKnown) {
  const std::string bert = small_bert(), bpe = small_bpe({"a", "b", "ab"}, {"a b"});
  EXPECT_EQ(refusal(bert), "");
  EXPECT_EQ(refusal(bpe), "");
  EXPECT_EQ(
      refusal(with(bert, "\"BertNormalizer\"", "\"Nmt\"")),
      "normalizer.type is \"Nmt\"; expected BertNormalizer, Lowercase, StripAccents, NFC, NFD, "
      "NFKC, NFKD, Prepend, Replace or Sequence");
  EXPECT_EQ(refusal(with(bert, "\"BertPreTokenizer\"", "\"Metaspace\"")),
            "pre_tokenizer.type is \"Metaspace\"; expected BertPreTokenizer, ByteLevel, Split, "
            "WhitespaceSplit or Sequence");
  EXPECT_EQ(refusal(with(bert, "\"BertProcessing\"", "\"Other\"")),
            "post_processor.type is \"Other\"; expected TemplateProcessing, BertProcessing, "
            "RobertaProcessing, ByteLevel or Sequence");
  EXPECT_EQ(refusal(with(bert, "\"type\":\"WordPiece\",\"prefix\"", "\"type\":\"CTC\",\"prefix\"")),
            "decoder.type is \"CTC\"; expected WordPiece or ByteLevel");
  EXPECT_EQ(refusal(with(bert, "\"WordPiece\",\"unk", "\"Unigram\",\"unk")),
            "model.type is \"Unigram\"; expected WordPiece or BPE");
  EXPECT_EQ(
      refusal(with(bpe, R"({"type":"ByteLevel","add_prefix_space":false})",
                   R"({"type":"Split","pattern":{"Regex":"\\w+"},"behavior":"Isolated"})")),
      "pre_tokenizer.pattern.Regex is \"\\\\w+\"; expected the expression of GPT-2, Llama 3 or "
      "Qwen 2");
  EXPECT_EQ(refusal(with(bpe, "\"type\":\"BPE\"", "\"type\":\"BPE\",\"byte_fallback\":true")),
            "model.byte_fallback is true; expected false: all bytes are tokens");
  EXPECT_EQ(refusal(with(bpe, "\"type\":\"BPE\"", "\"type\":\"BPE\",\"dropout\":0.1")),
            "model.dropout is 0.1; expected none: it makes ids random");
}

TEST(TokenizersRefusals, NameTheValueThatDoesNotFit) {
  const std::string bert = small_bert(), bpe = small_bpe({"a", "b", "ab"}, {"a b"});
  EXPECT_EQ(refusal("{"), "it is not JSON");
  EXPECT_EQ(refusal("[]"), "the file is array; expected an object");
  EXPECT_EQ(refusal("{}"), "model is null; expected an object");
  EXPECT_EQ(refusal(with(bert, "\"un\":5", "\"un\":-5")),
            "model.vocab.un is -5; expected an id, 0 to 2147483647");
  EXPECT_EQ(refusal(with(bert, "\"un\":5", "\"un\":6")),
            "two tokens of model.vocab have the id 6; expected one");
  EXPECT_EQ(
      refusal(with(bert, "\"content\":\"[SEP]\",\"id\":3", "\"content\":\"[SEP]\",\"id\":30")),
      "added_tokens give \"[SEP]\" the id 30; expected 3, as in model.vocab");
  EXPECT_EQ(refusal(with(bert, "\"unk_token\":\"[UNK]\"", "\"unk_token\":\"[OOV]\"")),
            "model.unk_token is \"[OOV]\"; expected a token of the vocabulary");
  EXPECT_EQ(refusal(with(bert, "\"clean_text\":true", "\"clean_text\":1")),
            "normalizer.clean_text is 1; expected true or false");
  EXPECT_EQ(refusal(with(bpe, "a b", "a c")),
            "what model.merges make is \"ac\"; expected a token of the vocabulary");
  EXPECT_EQ(
      refusal(with(bpe, "a b", "ab")),
      "model.merges holds \"ab\"; expected two tokens with a blank between them, or a list of "
      "the two");
}

// Sentences show a value that does not fit, whole or cut short, and it may be of any depth.
TEST(TokenizersRefusals, SurviveAnyNesting) {
  for (const std::string_view bracket : {"[", "{\"a\":"})
    for (const std::string_view file : {"", "{\"model\":", "{\"model\":{\"type\":"})
      for (const std::string_view end : {"", "]", "}"})
        EXPECT_NE(refusal(std::string(file) + times(200'000, bracket) +
                          (end.empty() ? "" : times(200'000, end) + "}}")),
                  "");
}

// Whatever a file says, it is read or refused, and what is read can be used.
void expect_read_or_refused(const std::string& json, const std::vector<std::string>& texts) {
  try {
    const Tokenizer tokenizer = Tokenizer::parse(json);
    for (const std::string& text : texts) {
      const Encoding encoding = tokenizer.encode(text);
      ASSERT_EQ(encoding.spans.size(), encoding.ids.size());
      for (const Span span : encoding.spans) ASSERT_LE(span.end, text.size());
      try {
        static_cast<void>(tokenizer.decode(encoding.ids));
      } catch (const std::invalid_argument&) {  // a template may name an id that no token has
      }
      try {
        static_cast<void>(tokenizer.encode_pair(text, "a b", {.max_tokens = 3}));
      } catch (const std::invalid_argument&) {  // or more tokens than three
      }
    }
  } catch (const std::runtime_error& error) {
    ASSERT_GT(std::string_view(error.what()).size(), 10u);
  }
}

TEST(TokenizersRefusals, JsonIsNotNestedDeeply) {
  const auto nested = [](std::size_t depth) {
    return with(small_bert(), "\"clean_text\":true",
                "\"clean_text\":" + std::string(depth, '[') + std::string(depth, ']'));
  };
  EXPECT_EQ(refusal(nested(60)).substr(0, 27), "normalizer.clean_text is [[");
  EXPECT_EQ(refusal(nested(1'000'000)), "it is JSON that is nested too deeply");
  EXPECT_EQ(refusal(with(small_bert(), "\"clean_text\":true",
                         "\"clean_text\":true,\"" + std::string(100, '[') + "\\\"[\":1")),
            "");
}

TEST(TokenizersRefusals, StepsThatDoubleATextTakeNotAllMemory) {
  std::string steps;
  for (int i = 0; i < 40; ++i)
    steps += std::string(i > 0 ? "," : "") +
             R"({"type":"Replace","pattern":{"String":"a"},"content":"aa"})";
  const std::string doubling =
      R"({"normalizer":{"type":"Sequence","normalizers":[)" + steps +
      R"(]},"pre_tokenizer":{"type":"WhitespaceSplit"},"model":{"type":"WordPiece","vocab":{"[UNK]":0}}})";
  const Tokenizer tokenizer = Tokenizer::parse(doubling);
  try {
    static_cast<void>(tokenizer.encode("a"));
    ADD_FAILURE() << "not refused";
  } catch (const std::runtime_error& error) {
    EXPECT_STREQ(error.what(), "the text grew over 1048640 bytes as it was normalized");
  }
  EXPECT_EQ(tokenizer.encode("b").ids, std::vector<std::int32_t>{0});
}

TEST(TokenizersRefusals, MutatedFilesAreReadOrRefused) {
  std::mt19937 random(14);
  const auto below = [&](std::size_t end) { return random() % end; };
  const std::vector<std::string> values{"null",
                                        "true",
                                        "-1",
                                        "0",
                                        "2",
                                        "2147483648",
                                        "1e300",
                                        "\"\"",
                                        "\"a\"",
                                        "\"\\u0120\"",
                                        "[]",
                                        "[[[[0]]]]",
                                        "{}",
                                        R"({"type":"Sequence"})",
                                        R"({"type":"NFKC"})",
                                        R"({"type":"Sequence","normalizers":[{"type":"NFC"}]})"};
  const std::vector<std::string> texts{"", "a [MASK]b hello <|endoftext|> 12\u00e9\u4e2d\xff",
                                       times(60, "ab\u0301") + "  aa"};
  std::vector<std::string> files{small_bert(), small_bpe({"a", "b", "ab"}, {"a b"})};
  for (const char* model : {"bert_uncased", "llama3", "normalizers", "roberta"}) {
    // Those parts of a golden file that are not lists of words.
    nlohmann::json file = nlohmann::json::parse(read(kGolden / (std::string(model) + ".json")));
    nlohmann::json& vocabulary = file["model"]["vocab"];
    for (auto token = vocabulary.begin(); token != vocabulary.end();)
      token = token.key().size() > 2 && token.value() > 8 ? vocabulary.erase(token) : ++token;
    if (file["model"].contains("merges"))
      file["model"]["merges"] = {"a b"}, vocabulary["ab"] = 9999;
    files.push_back(file.dump());
    EXPECT_EQ(refusal(files.back()), "") << model;
  }
  for (int i = 0; i < 1000; ++i) {
    std::string file = files[below(files.size())];
    if (i % 4 == 0) {  // bytes
      for (std::size_t n = 1 + below(3); n > 0; --n)
        file[below(file.size())] = "0123456789\"{}[],:ab\\ "[below(22)];
    } else {  // values, at their place in the tree
      nlohmann::json tree = nlohmann::json::parse(file);
      for (std::size_t n = 1 + below(2); n > 0; --n) {
        nlohmann::json* node = &tree;
        while (node->is_structured() && !node->empty() && (node == &tree || below(8) > 0))
          node = &*std::next(node->begin(), static_cast<std::ptrdiff_t>(below(node->size())));
        *node = nlohmann::json::parse(values[below(values.size())]);
      }
      file = tree.dump();
    }
    expect_read_or_refused(file, texts);
  }
  for (const std::string& file : {files[0], files[1]})
    for (std::size_t size = 0; size < file.size(); size += 7)
      EXPECT_NE(refusal(file.substr(0, size)), "");
}

TEST(Tokenizers, TakeAnyBytes) {
  std::mt19937 random(5);
  std::vector<Tokenizer> all;
  for (const char* model : {"bert_cased", "normalizers", "llama3", "gpt2", "roberta"})
    all.push_back(Tokenizer::load(kGolden / (std::string(model) + ".json")));
  for (int i = 0; i < 500; ++i) {
    std::string text(random() % 40, '\0');
    for (char& byte : text) {
      byte = static_cast<char>(random() % 256);
      if (random() % 2 == 0) byte = "\xe2\x80\xcc\xf0 a'\n"[random() % 8];
    }
    for (const Tokenizer& tokenizer : all) {
      const Encoding encoding = tokenizer.encode(text);
      ASSERT_TRUE(tokenizers::is_utf8(tokenizer.decode(encoding.ids)));
      ASSERT_EQ(encoding.ids, tokenizer.encode(tokenizers::text_of(text).bytes).ids);
    }
  }
}

// ---- Files --------------------------------------------------------------------------------------

class TokenizersFiles : public testing::Test {
 protected:
  TokenizersFiles() { fs::create_directories(folder_); }
  ~TokenizersFiles() override { fs::remove_all(folder_); }

  void write(const char* name, std::string_view text) const {
    std::ofstream(folder_ / name, std::ios::binary) << text;
  }
  [[nodiscard]] std::string refusal_of(const fs::path& path) const {
    try {
      static_cast<void>(Tokenizer::load(path));
    } catch (const std::runtime_error& error) {
      return with(error.what(), folder_.string(), "FOLDER");
    }
    return "";
  }

  const fs::path folder_ = fs::temp_directory_path() /
                           ("eigenheads_tokenizers_" + std::to_string(std::random_device{}()));
};

TEST_F(TokenizersFiles, AFolderHoldsTokenizerJsonOrVocabTxt) {
  write("vocab.txt", "[PAD]\n[UNK]\n[CLS]\r\n[SEP]\n[MASK]\nun\n##aff\n##able\n\u00e9\n[Q]\n");
  const auto ids = [&](std::string_view text) { return Tokenizer::load(folder_).encode(text).ids; };
  EXPECT_EQ(ids("Unaffable[MASK]"), (Ids{2, 5, 6, 7, 4, 3}));
  EXPECT_EQ(ids("\u00c9"), (Ids{2, 1, 3}));
  EXPECT_EQ(Tokenizer::load(folder_ / "vocab.txt").decode(Ids{2, 5, 6, 7}), "unaffable");
  write("tokenizer_config.json", R"({"do_lower_case":true,"strip_accents":false,
      "mask_token":{"content":"[Q]"},"tokenizer_class":"BertTokenizer","truncation_side":"left"})");
  EXPECT_EQ(ids("\u00c9[Q]"), (Ids{2, 8, 9, 3}));
  EXPECT_EQ(Tokenizer::load(folder_).encode("un [Q]", {.max_tokens = 3}).ids, (Ids{2, 9, 3}));
  write("tokenizer.json", small_bert());
  EXPECT_EQ(ids("hello"), (Ids{2, 10, 3}));
}

// As GPT-2 was published: the same ids as from the tokenizer.json of the same words.
TEST_F(TokenizersFiles, AFolderHoldsVocabJsonAndMergesTxt) {
  const auto model = nlohmann::json::parse(read(kGolden / "gpt2.json"))["model"];
  std::string merges = "#version: 0.2\n";
  for (const auto& merge : model["merges"]) merges += merge.get<std::string>() + '\n';
  write("vocab.json", model["vocab"].dump());
  write("merges.txt", merges);
  const Tokenizer tokenizer = Tokenizer::load(folder_);
  expect_golden_ids(tokenizer, "gpt2");
  EXPECT_TRUE(tokenizer.is_special(tokenizer.id("<|endoftext|>").value()));
  const Ids plain = tokenizer.encode("hello").ids, spaced = tokenizer.encode(" hello").ids;
  EXPECT_NE(plain, spaced);
  write("tokenizer_config.json", R"({"tokenizer_class":"GPT2TokenizerFast","add_prefix_space":true,
      "bos_token":{"content":"<|endoftext|>"},"truncation_side":"left"})");
  EXPECT_EQ(Tokenizer::load(folder_ / "vocab.json").encode("hello").ids, spaced);
  write("tokenizer_config.json", R"({"pad_token":"[PAD]"})");
  EXPECT_EQ(refusal_of(folder_),
            "FOLDER/vocab.json: pad_token is \"[PAD]\"; expected a token of the vocabulary");
  write("tokenizer_config.json", R"({"tokenizer_class":"RobertaTokenizer"})");
  EXPECT_EQ(
      refusal_of(folder_),
      "FOLDER/vocab.json: tokenizer_config.json.tokenizer_class is \"RobertaTokenizer\"; expected "
      "GPT2Tokenizer; others need a tokenizer.json");
  write("tokenizer_config.json", "{}");
  for (const char* line : {"t h e", "", "the", " the", "the ", "t  h"}) {
    write("merges.txt", "#version: 0.2\nt h\n" + std::string(line) + "\n");
    EXPECT_EQ(refusal_of(folder_), "FOLDER/merges.txt: line 3 is \"" + std::string(line) +
                                       "\"; expected two tokens with a blank between them");
  }
  write("merges.txt", "#version: 0.2\n\xff h\n");
  EXPECT_EQ(refusal_of(folder_), "FOLDER/merges.txt: line 2 is not UTF-8");
  fs::remove(folder_ / "merges.txt");
  EXPECT_EQ(refusal_of(folder_), "FOLDER/vocab.json: there is no merges.txt beside it");
}

TEST_F(TokenizersFiles, AreRefusedByNameAndReason) {
  EXPECT_EQ(refusal_of(folder_),
            "FOLDER: there is no tokenizer.json, vocab.txt or vocab.json in it");
  EXPECT_EQ(refusal_of(folder_ / "none.json"), "FOLDER/none.json: it cannot be read");
  ASSERT_EQ(::mkfifo((folder_ / "pipe.json").c_str(), 0600), 0);
  EXPECT_EQ(refusal_of(folder_ / "pipe.json"), "FOLDER/pipe.json: it cannot be read");
  fs::create_symlink("/dev/zero", folder_ / "endless.json");
  EXPECT_EQ(refusal_of(folder_ / "endless.json"), "FOLDER/endless.json: it cannot be read");
  write("vocab.txt", "[UNK]\n[CLS]\n");
  EXPECT_EQ(refusal_of(folder_),
            "FOLDER/vocab.txt: sep_token is \"[SEP]\"; expected a token of the vocabulary");
  write("vocab.txt", "[UNK]\n\xff\n");
  EXPECT_EQ(refusal_of(folder_), "FOLDER/vocab.txt: line 2 is not UTF-8");
  write("tokenizer_config.json", R"({"tokenizer_class":"LlamaTokenizer"})");
  EXPECT_EQ(
      refusal_of(folder_),
      "FOLDER/vocab.txt: tokenizer_config.json.tokenizer_class is \"LlamaTokenizer\"; expected "
      "BertTokenizer; others need a tokenizer.json");
  write("tokenizer.json", small_bert());
  write("tokenizer_config.json", R"({"truncation_side":"up"})");
  EXPECT_EQ(refusal_of(folder_),
            "FOLDER/tokenizer.json: tokenizer_config.json.truncation_side is \"up\"; expected "
            "\"left\" or \"right\"");
}

}  // namespace
