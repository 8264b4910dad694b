// SPDX-License-Identifier: MIT
#pragma once
// tokenizer.json, and vocab.txt, or vocab.json with merges.txt, with what tokenizer_config.json says of
// it. What a file asks for and these headers do not know is refused, since all ids after it would be
// others.
#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <fstream>
#include <functional>
#include <initializer_list>
#include <iterator>
#include <limits>
#include <map>
#include <nlohmann/json.hpp>
#include <optional>
#include <stdexcept>
#include <string>
#include <string_view>
#include <system_error>
#include <utility>
#include <variant>
#include <vector>

#include "added_tokens.hpp"   // AddedToken
#include "byte_pairs.hpp"     // BytePairs
#include "decoder.hpp"        // Decoder
#include "normalizer.hpp"     // Normalizer
#include "pre_tokenizer.hpp"  // PreTokenizer
#include "template.hpp"       // Template
#include "word_piece.hpp"     // WordPiece

namespace tokenizers {

// What a tokenizer is made of.
struct Parts {
  std::vector<AddedToken> added;
  Normalizer normalizer;
  PreTokenizer pre_tokenizer;
  std::variant<WordPiece, BytePairs> model;
  Template single, pair;
  Decoder decoder;
  bool cuts_left = false;                 // texts that are too long lose their beginning
  std::optional<std::size_t> max_tokens;  // that the file speaks of
};

namespace detail {

using Json = nlohmann::json;

[[noreturn]] inline void refuse(const std::string& sentence) { throw std::runtime_error(sentence); }

[[nodiscard]] inline std::string read_file(const std::filesystem::path& path) {
  std::error_code error;  // a pipe would be waited for, and a device may never end
  if (!std::filesystem::is_regular_file(path, error)) refuse("it cannot be read");
  std::ifstream file(path, std::ios::binary);
  std::string bytes{std::istreambuf_iterator<char>(file), {}};
  if (!file) refuse("it cannot be read");
  return bytes;
}

[[nodiscard]] inline Json parsed(const std::string& bytes) {
  constexpr int deepest = 64;  // dump, which writes a value into a sentence, recurses
  bool is_too_deep = false;
  const auto watch = [&](int depth, Json::parse_event_t, const Json&) {
    is_too_deep = is_too_deep || depth > deepest;
    return !is_too_deep;
  };
  Json json = Json::parse(bytes, watch, false);
  if (is_too_deep) refuse("it is JSON that is nested too deeply");
  if (json.is_discarded()) refuse("it is not JSON");
  return json;
}

// An object of the file, and its name for what is wrong with it.
class Object {
 public:
  Object(const Json& json, std::string name) : json_(json), name_(std::move(name)) {
    if (!json.is_object()) refuse(name_ + " is " + json.type_name() + "; expected an object");
  }

  [[nodiscard]] const std::string& name() const { return name_; }
  [[nodiscard]] const Json& json() const { return json_; }

  // Null where there is none.
  [[nodiscard]] const Json& at(const char* key) const {
    static const Json null;
    const auto found = json_.find(key);
    return found == json_.end() ? null : *found;
  }
  [[nodiscard]] bool has(const char* key) const { return !at(key).is_null(); }

  [[nodiscard]] bool flag(const char* key, bool otherwise) const {
    const Json& value = at(key);
    if (!value.is_null() && !value.is_boolean()) wrong(key, "true or false");
    return value.is_null() ? otherwise : value.get<bool>();
  }
  [[nodiscard]] std::string text(const char* key) const {
    if (!at(key).is_string()) wrong(key, "a text");
    return at(key).get<std::string>();
  }
  [[nodiscard]] std::string text(const char* key, const char* otherwise) const {
    return has(key) ? text(key) : otherwise;
  }
  [[nodiscard]] std::int32_t id(const char* key) const { return id_in(at(key), key); }
  [[nodiscard]] std::int32_t id_in(const Json& value, const char* key) const {
    if (!value.is_number_unsigned() ||
        value.get<std::uint64_t>() > std::numeric_limits<std::int32_t>::max())
      wrong(key, "an id, 0 to 2147483647");
    return value.get<std::int32_t>();
  }
  [[nodiscard]] std::size_t count(const char* key) const {
    if (!at(key).is_number_unsigned()) wrong(key, "a count");
    return at(key).get<std::size_t>();
  }
  [[nodiscard]] const Json& list(const char* key) const {
    if (!at(key).is_array()) wrong(key, "a list");
    return at(key);
  }
  [[nodiscard]] Object object(const char* key) const { return {at(key), name_ + "." + key}; }

  [[noreturn]] void wrong(const char* key, const std::string& expected) const {
    std::string value = at(key).dump(-1, ' ', true, Json::error_handler_t::replace);
    if (value.size() > 60) value = value.substr(0, 60) + "...";
    refuse(name_ + "." + key + " is " + value + "; expected " + expected);
  }

 private:
  const Json& json_;
  std::string name_;
};

// The components of a file: its own type, or those of a Sequence in its list, one after the other.
template <class Visit>
void for_each_component(const Object& object, const char* list, const Visit& visit) {
  if (object.text("type") != "Sequence") return visit(object);
  for (const Json& item : object.list(list)) {
    const Object inner(item, object.name() + "." + list + "[]");
    if (inner.text("type") == "Sequence") inner.wrong("type", "no Sequence in a Sequence");
    visit(inner);
  }
}

// ---- Normalizers and pre-tokenizers ---------------------------------------------------------------

[[nodiscard]] inline Normalizer::Step normalizer_of(const Object& object) {
  const std::string type = object.text("type");
  if (type == "BertNormalizer") {
    const bool lowers = object.flag("lowercase", true);
    return BertNormalizer{.cleans = object.flag("clean_text", true),
                          .sets_ideographs_apart = object.flag("handle_chinese_chars", true),
                          .strips_accents = object.flag("strip_accents", lowers),
                          .lowers = lowers};
  }
  if (type == "Lowercase") return Lowercase{};
  if (type == "StripAccents") return StripAccents{};
  if (type == "NFD") return UnicodeForm{false, false};
  if (type == "NFKD") return UnicodeForm{true, false};
  if (type == "NFC") return UnicodeForm{false, true};
  if (type == "NFKC") return UnicodeForm{true, true};
  if (type == "Prepend") return Prepend{object.text("prepend")};
  if (type == "Replace") {
    const Object pattern = object.object("pattern");
    const std::string text = pattern.text("String");
    if (text.empty()) pattern.wrong("String", "a text that is not empty");
    return Replace{text, object.text("content")};
  }
  object.wrong("type",
               "BertNormalizer, Lowercase, StripAccents, NFC, NFD, NFKC, NFKD, Prepend, Replace or "
               "Sequence");
}

// Whether the words are to be read as bytes from here on.
inline bool add_pre_tokenizer(const Object& object, PreTokenizer& pre_tokenizer) {
  const std::string type = object.text("type");
  if (type == "BertPreTokenizer") {
    pre_tokenizer.add(BertPreTokenizer{});
  } else if (type == "WhitespaceSplit") {
    pre_tokenizer.add(WhitespaceSplit{});
  } else if (type == "ByteLevel") {
    if (object.flag("add_prefix_space", true)) pre_tokenizer.add(PrefixSpace{});
    if (object.flag("use_regex", true)) pre_tokenizer.add(ScannerSplit{{Scanner::gpt2}});
    return true;
  } else if (type == "Split") {
    const Object pattern = object.object("pattern");
    const auto scanner = scanner_of(pattern.text("Regex"));
    if (!scanner) pattern.wrong("Regex", "the expression of GPT-2, Llama 3 or Qwen 2");
    const std::string behavior = object.text("behavior");
    const bool is_inverted = object.flag("invert", false);
    // These expressions match everything, so what lies between their matches does not matter.
    if (behavior != "Isolated" && !(behavior == "Removed" && is_inverted))
      object.wrong("behavior", "\"Isolated\", or \"Removed\" with invert");
    pre_tokenizer.add(ScannerSplit{*scanner});
  } else {
    object.wrong("type", "BertPreTokenizer, ByteLevel, Split, WhitespaceSplit or Sequence");
  }
  return false;
}

// ---- Models ---------------------------------------------------------------------------------------

[[nodiscard]] inline Vocabulary vocabulary_of(const Object& model) {
  Vocabulary vocabulary;
  const Object tokens = model.object("vocab");
  vocabulary.reserve(tokens.json().size());
  for (const auto& [token, id] : tokens.json().items())
    vocabulary.add(token, tokens.id_in(id, token.c_str()));
  if (const std::int32_t id = vocabulary.sort(); id != kNoToken)
    refuse("two tokens of model.vocab have the id " + std::to_string(id) + "; expected one");
  return vocabulary;
}

[[nodiscard]] inline std::int32_t id_of(const Vocabulary& vocabulary, const std::string& token,
                                        const char* what) {
  const std::int32_t id = vocabulary.find(token);
  if (id == kNoToken)
    refuse(std::string(what) + " is \"" + token + "\"; expected a token of the vocabulary");
  return id;
}

[[nodiscard]] inline WordPiece word_piece_of(const Object& model) {
  Vocabulary vocabulary = vocabulary_of(model);
  const std::int32_t unknown =
      id_of(vocabulary, model.text("unk_token", "[UNK]"), "model.unk_token");
  return {
      std::move(vocabulary),
      {.continuing_prefix = model.text("continuing_subword_prefix", "##"),
       .max_characters =
           model.has("max_input_chars_per_word") ? model.count("max_input_chars_per_word") : 100,
       .unknown = unknown}};
}

// "left right", or [left, right]
[[nodiscard]] inline std::pair<std::string, std::string> halves_of(const Json& merge) {
  if (merge.is_array() && merge.size() == 2 && merge[0].is_string() && merge[1].is_string())
    return {merge[0].get<std::string>(), merge[1].get<std::string>()};
  if (merge.is_string()) {
    const std::string text = merge.get<std::string>();
    const std::size_t blank = text.find(' ');
    if (blank != text.npos && text.find(' ', blank + 1) == text.npos)
      return {text.substr(0, blank), text.substr(blank + 1)};
  }
  refuse("model.merges holds " + merge.dump(-1, ' ', true, Json::error_handler_t::replace) +
         "; expected two tokens with a blank between them, or a list of the two");
}

[[nodiscard]] inline BytePairs byte_pairs_of(const Object& model) {
  Vocabulary vocabulary = vocabulary_of(model);
  const Json& dropout = model.at("dropout");
  if (!dropout.is_null() && !(dropout.is_number() && dropout.get<double>() == 0))
    model.wrong("dropout", "none: it makes ids random");
  for (const char* key : {"continuing_subword_prefix", "end_of_word_suffix"})
    if (!model.text(key, "").empty()) model.wrong(key, "none: byte-level tokens have no such mark");
  if (model.flag("byte_fallback", false))
    model.wrong("byte_fallback", "false: all bytes are tokens");
  const Json& list = model.list("merges");
  Merges merges(list.size());
  std::uint32_t rank = 0;
  for (const Json& merge : list) {
    const auto [left, right] = halves_of(merge);
    const std::int32_t joined = id_of(vocabulary, left + right, "what model.merges make");
    merges.set(id_of(vocabulary, left, "a part of model.merges"),
               id_of(vocabulary, right, "a part of model.merges"), {rank++, joined});
  }
  const std::int32_t unknown = model.has("unk_token")
                                   ? id_of(vocabulary, model.text("unk_token"), "model.unk_token")
                                   : kNoToken;
  return {std::move(vocabulary),
          std::move(merges),
          {.unknown = unknown,
           .fuses_unknown = model.flag("fuse_unk", false),
           .ignores_merges = model.flag("ignore_merges", false)}};
}

// ---- Special tokens around the texts --------------------------------------------------------------

inline const Template kPlain{.items = {{Template::Item::first}}};
inline const Template kPlainPair{.items = {{Template::Item::first}, {Template::Item::second, 1}}};

[[nodiscard]] inline Template template_of(const Object& processor, const char* key) {
  Template result;
  const Object specials = processor.object("special_tokens");
  for (const Json& json : processor.list(key)) {
    const Object item(json, processor.name() + "." + key + "[]");
    const bool is_special = item.has("SpecialToken");
    const Object inner = item.object(is_special ? "SpecialToken" : "Sequence");
    const std::int32_t type = inner.id("type_id");
    const std::string id = inner.text("id");
    if (is_special) {
      const Object special = specials.object(id.c_str());
      for (const Json& token : special.list("ids"))
        result.items.push_back({Template::Item::special, type, special.id_in(token, "ids")});
    } else {
      if (id != "A" && id != "B") inner.wrong("id", "\"A\" or \"B\"");
      result.items.push_back({id == "A" ? Template::Item::first : Template::Item::second, type});
    }
  }
  return result;
}

// [token, id]
[[nodiscard]] inline std::int32_t special_of(const Object& processor, const char* key) {
  const Json& pair = processor.list(key);
  if (pair.size() != 2) processor.wrong(key, "a token and its id");
  return processor.id_in(pair[1], key);
}

inline void set_bert_templates(std::int32_t cls, std::int32_t sep, Parts& parts) {
  using Item = Template::Item;
  parts.single.items = {{Item::special, 0, cls}, {Item::first}, {Item::special, 0, sep}};
  parts.pair.items = parts.single.items;
  parts.pair.items.push_back({Item::second, 1});
  parts.pair.items.push_back({Item::special, 1, sep});
}

inline void set_templates(const Object& processor, Parts& parts) {
  const std::string type = processor.text("type");
  if (type == "TemplateProcessing") {
    parts.single = template_of(processor, "single");
    parts.pair = template_of(processor, "pair");
    if (!parts.single.has(Template::Item::first) || parts.single.has(Template::Item::second))
      processor.wrong("single", "one text, A");
  } else if (type == "BertProcessing") {
    set_bert_templates(special_of(processor, "cls"), special_of(processor, "sep"), parts);
  } else if (type == "RobertaProcessing") {
    using Item = Template::Item;
    const std::int32_t cls = special_of(processor, "cls"), sep = special_of(processor, "sep");
    parts.single.items = {{Item::special, 0, cls}, {Item::first}, {Item::special, 0, sep}};
    parts.pair.items = parts.single.items;
    parts.pair.items.insert(parts.pair.items.end(),
                            {{Item::special, 0, sep}, {Item::second}, {Item::special, 0, sep}});
  } else if (type != "ByteLevel") {  // that is about offsets
    processor.wrong("type",
                    "TemplateProcessing, BertProcessing, RobertaProcessing, ByteLevel or Sequence");
  }
}

// ---- The files ------------------------------------------------------------------------------------

[[nodiscard]] inline Decoder decoder_of(const Object& object) {
  const std::string type = object.text("type");
  if (type == "ByteLevel") return Decoder(Decoder::Kind::byte_level);
  if (type == "WordPiece")
    return Decoder(Decoder::Kind::word_piece, object.text("prefix", "##"),
                   object.flag("cleanup", true));
  object.wrong("type", "WordPiece or ByteLevel");
}

[[nodiscard]] inline std::vector<AddedToken> added_of(const Object& file) {
  std::vector<AddedToken> added;
  if (!file.has("added_tokens")) return added;
  for (const Json& json : file.list("added_tokens")) {
    const Object token(json, "added_tokens[]");
    const bool is_special = token.flag("special", false);
    added.push_back({.content = token.text("content"),
                     .id = token.id("id"),
                     .is_single_word = token.flag("single_word", false),
                     .takes_left = token.flag("lstrip", false),
                     .takes_right = token.flag("rstrip", false),
                     .is_normalized = token.flag("normalized", !is_special),
                     .is_special = is_special});
  }
  return added;
}

[[nodiscard]] inline Parts parts_of_json(const std::string& bytes) {
  const Json json = parsed(bytes);
  const Object file(json, "the file");
  Parts parts;
  parts.added = added_of(file);
  parts.single = kPlain;
  parts.pair = kPlainPair;
  const auto named = [&](const char* key) { return Object(file.at(key), key); };

  if (file.has("normalizer"))
    for_each_component(named("normalizer"), "normalizers", [&](const Object& component) {
      parts.normalizer.add(normalizer_of(component));
    });
  bool is_byte_level = false;
  if (file.has("pre_tokenizer"))
    for_each_component(named("pre_tokenizer"), "pretokenizers", [&](const Object& component) {
      if (is_byte_level) component.wrong("type", "nothing after ByteLevel");
      is_byte_level = add_pre_tokenizer(component, parts.pre_tokenizer);
    });
  const Object model = named("model");
  // Files of old versions name no type.
  const std::string type = model.text("type", model.has("merges") ? "BPE" : "WordPiece");
  if (type == "WordPiece") {
    if (is_byte_level) model.wrong("type", "BPE after the pre-tokenizer ByteLevel");
    parts.model = word_piece_of(model);
  } else if (type == "BPE") {
    if (!is_byte_level) model.wrong("type", "WordPiece without the pre-tokenizer ByteLevel");
    parts.model = byte_pairs_of(model);
  } else {
    model.wrong("type", "WordPiece or BPE");
  }
  for (const AddedToken& token : parts.added) {
    const std::int32_t id = std::visit(
        [&](const auto& any) { return any.vocabulary().find(token.content); }, parts.model);
    if (id != kNoToken && id != token.id)
      refuse("added_tokens give \"" + token.content + "\" the id " + std::to_string(token.id) +
             "; expected " + std::to_string(id) + ", as in model.vocab");
  }
  if (file.has("post_processor"))
    for_each_component(named("post_processor"), "processors",
                       [&](const Object& component) { set_templates(component, parts); });
  if (file.has("decoder")) parts.decoder = decoder_of(named("decoder"));
  if (file.has("truncation")) {
    const Object truncation = named("truncation");
    const std::string direction = truncation.text("direction", "Right");
    if (direction != "Left" && direction != "Right")
      truncation.wrong("direction", "\"Left\" or \"Right\"");
    parts.cuts_left = direction == "Left";
    parts.max_tokens = truncation.count("max_length");
  }
  return parts;
}

// One token a line, whose number, from 0, is its id. config: what tokenizer_config.json says.
[[nodiscard]] inline Parts parts_of_vocabulary(std::string_view bytes, const Json& config) {
  const Object file(config, "tokenizer_config.json");
  const std::string name = file.text("tokenizer_class", "BertTokenizer");
  if (name.substr(0, name.find("TokenizerFast")) != "Bert" && name != "BertTokenizer" &&
      !name.starts_with("DistilBertTokenizer") && !name.starts_with("ElectraTokenizer"))
    file.wrong("tokenizer_class", "BertTokenizer; others need a tokenizer.json");
  if (!file.flag("do_basic_tokenize", true)) file.wrong("do_basic_tokenize", "true");
  if (file.has("never_split") && !file.at("never_split").empty()) file.wrong("never_split", "none");
  Vocabulary vocabulary;
  std::int32_t id = 0;
  for (std::size_t at = 0; at < bytes.size(); ++id) {
    const std::size_t end = std::min(bytes.find('\n', at), bytes.size());
    std::string_view token = bytes.substr(at, end - at);
    if (token.ends_with('\r')) token.remove_suffix(1);
    if (!is_utf8(token)) refuse("line " + std::to_string(id + 1) + " is not UTF-8");
    vocabulary.add(token, id);
    at = end + 1;
  }
  if (vocabulary.sort() != kNoToken) refuse("two tokens have one id");
  Parts parts;
  const auto special = [&](const char* key, const char* otherwise, bool is_needed) {
    const Json& value = file.at(key);  // a text, or an added token
    const std::string token =
        value.is_object() ? file.object(key).text("content") : file.text(key, otherwise);
    const std::int32_t found = is_needed ? id_of(vocabulary, token, key) : vocabulary.find(token);
    if (found != kNoToken)
      parts.added.push_back({.content = token, .id = found, .is_special = true});
    return found;
  };
  special("pad_token", "[PAD]", false);
  const std::int32_t unknown = special("unk_token", "[UNK]", true);
  const std::int32_t cls = special("cls_token", "[CLS]", true);
  const std::int32_t sep = special("sep_token", "[SEP]", true);
  special("mask_token", "[MASK]", false);
  set_bert_templates(cls, sep, parts);
  const bool lowers = file.flag("do_lower_case", true);
  parts.normalizer.add(
      BertNormalizer{.sets_ideographs_apart = file.flag("tokenize_chinese_chars", true),
                     .strips_accents = file.flag("strip_accents", lowers),
                     .lowers = lowers});
  parts.pre_tokenizer.add(BertPreTokenizer{});
  parts.model = WordPiece(std::move(vocabulary), {.unknown = unknown});
  parts.decoder = Decoder(Decoder::Kind::word_piece);
  return parts;
}

// Of merges.txt: a pair of tokens a line, with a blank between them, after a line that says the version.
[[nodiscard]] inline Json merges_of(std::string_view bytes) {
  Json merges = Json::array();
  std::size_t number = 1;
  for (std::size_t at = 0; at < bytes.size(); ++number) {
    const std::size_t end = std::min(bytes.find('\n', at), bytes.size());
    std::string_view line = bytes.substr(at, end - at);
    if (line.ends_with('\r')) line.remove_suffix(1);
    if (!is_utf8(line)) refuse("line " + std::to_string(number) + " is not UTF-8");
    if (!line.starts_with("#version")) {
      const std::size_t blank = line.find(' ');
      if (blank == 0 || blank >= line.size() - 1 || blank != line.rfind(' '))
        refuse("line " + std::to_string(number) + " is " + Json(line).dump() +
               "; expected two tokens with a blank between them");
      merges.push_back(std::string(line));
    }
    at = end + 1;
  }
  return merges;
}

// GPT-2's, as its authors published it. config: what tokenizer_config.json says.
[[nodiscard]] inline Parts parts_of_merges(const std::string& vocabulary, Json merges,
                                           const Json& config) {
  const Object file(config, "tokenizer_config.json");
  if (!file.text("tokenizer_class", "GPT2Tokenizer").starts_with("GPT2Tokenizer"))
    file.wrong("tokenizer_class", "GPT2Tokenizer; others need a tokenizer.json");
  if (file.flag("add_bos_token", false)) file.wrong("add_bos_token", "false");
  const Json model{{"vocab", parsed(vocabulary)}, {"merges", std::move(merges)}};
  Parts parts;
  parts.model = byte_pairs_of(Object(model, "model"));
  parts.single = kPlain;
  parts.pair = kPlainPair;
  parts.decoder = Decoder(Decoder::Kind::byte_level);
  if (file.flag("add_prefix_space", false)) parts.pre_tokenizer.add(PrefixSpace{});
  parts.pre_tokenizer.add(ScannerSplit{{Scanner::gpt2}});
  // The special tokens, which stand in the vocabulary. Another BPE's, RoBERTa's, does not have them.
  for (const char* key : {"eos_token", "bos_token", "unk_token", "pad_token"}) {
    if (!file.has(key) && key != std::string_view("eos_token")) continue;
    const std::string token = file.at(key).is_object() ? file.object(key).text("content")
                                                       : file.text(key, "<|endoftext|>");
    if (std::ranges::count(parts.added, token, &AddedToken::content) == 0)
      parts.added.push_back({.content = token,
                             .id = id_of(std::get<BytePairs>(parts.model).vocabulary(), token, key),
                             .is_special = true});
  }
  return parts;
}

}  // namespace detail

// The tokenizer of a folder (its tokenizer.json, else its vocab.txt, else its vocab.json), or of one of
// these files. Throws std::runtime_error that names the file, and what in it is not as expected.
[[nodiscard]] inline Parts read_parts(const std::filesystem::path& folder_or_file) {
  using detail::refuse;
  std::filesystem::path path = folder_or_file;
  std::error_code error;
  if (std::filesystem::is_directory(path, error)) {
    path /= "tokenizer.json";
    for (const char* other : {"vocab.txt", "vocab.json"})
      if (!std::filesystem::exists(path, error)) path.replace_filename(other);
    if (!std::filesystem::exists(path, error))
      refuse(folder_or_file.string() +
             ": there is no tokenizer.json, vocab.txt or vocab.json in it");
  }
  try {
    const std::string bytes = detail::read_file(path);
    const std::filesystem::path beside = path.parent_path() / "tokenizer_config.json";
    detail::Json config = detail::Json::object();
    if (std::filesystem::exists(beside, error)) config = detail::parsed(detail::read_file(beside));
    const bool has_merges = path.filename() == "vocab.json";
    detail::Json merges;
    if (has_merges) {
      if (!std::filesystem::exists(path.parent_path() / "merges.txt", error))
        refuse("there is no merges.txt beside it");
      path.replace_filename("merges.txt");  // what is wrong in it is said of it
      merges = detail::merges_of(detail::read_file(path));
      path.replace_filename("vocab.json");
    }
    Parts parts = has_merges ? detail::parts_of_merges(bytes, std::move(merges), config)
                  : path.extension() == ".txt" ? detail::parts_of_vocabulary(bytes, config)
                                               : detail::parts_of_json(bytes);
    const detail::Object file(config, "tokenizer_config.json");
    const std::string side = file.text("truncation_side", parts.cuts_left ? "left" : "right");
    if (side != "left" && side != "right") file.wrong("truncation_side", "\"left\" or \"right\"");
    parts.cuts_left = side == "left";
    return parts;
  } catch (const std::runtime_error& wrong) {
    refuse(path.string() + ": " + wrong.what());
  }
}

}  // namespace tokenizers
