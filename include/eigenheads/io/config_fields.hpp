// SPDX-License-Identifier: MIT
#pragma once
// The settings in a JSON file, of the types that they should have; a FileError names what has another.
//   const ConfigFields config(folder / "config.json");
//   const Index layers = config.required_integer("num_hidden_layers");
// Needs nlohmann-json 3.
#include <cmath>
#include <filesystem>
#include <map>
#include <memory>
#include <nlohmann/json.hpp>
#include <optional>
#include <set>
#include <string>
#include <string_view>
#include <utility>

#include <eigenheads/detail/float_bits.hpp>  // is_finite
#include <eigenheads/detail/macros_off.inl>
#include <eigenheads/io/file.hpp>                // read_file, refuse_file
#include <eigenheads/io/safetensors_header.hpp>  // printable, quoted_name
#include <eigenheads/tensor.hpp>                 // Index

namespace eigenheads::inline EIGENHEADS_ABI {

namespace detail {

// Empties a document part by part. nlohmann's destructor takes memory for the parts that are not
// empty, and ends the program if there is none.
inline void empty_json(nlohmann::json& value) {
  if (value.is_object()) {
    auto& members = value.get_ref<nlohmann::json::object_t&>();
    for (auto& [name, member] : members) empty_json(member);
    members.clear();
  } else if (value.is_array()) {
    auto& elements = value.get_ref<nlohmann::json::array_t&>();
    for (nlohmann::json& element : elements) empty_json(element);
    elements.clear();
  }
}
// At the end of a scope, unless it is handed on.
struct EmptiedJson {
  nlohmann::json& document;
  bool is_handed_on = false;
  ~EmptiedJson() {
    if (!is_handed_on) empty_json(document);
  }
};

// A document without second keys, of which a parser would keep the last.
[[nodiscard]] inline nlohmann::json parse_json(const std::filesystem::path& path,
                                               const std::string& text) {
  constexpr int deepest = 64;
  std::map<int, std::set<std::string>> keys;  // of the objects that are open, by their depths
  std::string second;
  bool is_too_deep = false;
  const auto watch = [&](int depth, nlohmann::json::parse_event_t event, nlohmann::json& parsed) {
    using Event = nlohmann::json::parse_event_t;
    if (event == Event::object_start) keys[depth + 1].clear();
    if (event == Event::key && second.empty() &&
        !keys[depth].insert(parsed.get<std::string>()).second)
      second = parsed.get<std::string>();
    is_too_deep = is_too_deep || depth > deepest;
    return !is_too_deep;  // what is deeper is left out, and the whole refused below
  };
  // nlohmann's parser takes a zero byte for the end of the text.
  nlohmann::json document = text.find('\0') == text.npos
                                ? nlohmann::json::parse(text, watch, false)
                                : nlohmann::json(nlohmann::json::value_t::discarded);
  EmptiedJson emptied{document};
  if (is_too_deep) refuse_file(path, "JSON that is nested too deeply");
  if (document.is_discarded()) refuse_file(path, "not well-formed JSON");
  if (!second.empty()) refuse_file(path, "second key " + quoted_name(second));
  emptied.is_handed_on = true;
  return document;
}
[[nodiscard]] inline nlohmann::json parse_json_object(const std::filesystem::path& path,
                                                      const std::string& text) {
  nlohmann::json document = parse_json(path, text);
  EmptiedJson emptied{document};
  if (!document.is_object()) refuse_file(path, "expected a JSON object");
  emptied.is_handed_on = true;
  return document;
}

}  // namespace detail

// A field that is null counts as one that is not there. Copies share the document.
class ConfigFields {
 public:
  // Throws FileError unless the file holds one object, as do all that follow for what they refuse.
  explicit ConfigFields(const std::filesystem::path& path)
      : ConfigFields(path, detail::parse_json_object(path, read_file(path))) {}
  // path: what messages name. document: an object.
  ConfigFields(const std::filesystem::path& path, nlohmann::json document) : path_(path) {
    struct Owner {
      nlohmann::json document;
      ~Owner() { detail::empty_json(document); }
    };
    const auto owner = std::make_shared<Owner>();
    owner->document = std::move(document);
    object_ = {owner, &owner->document};
  }

  [[nodiscard]] const nlohmann::json* find(std::string_view name) const {
    const auto found = object_->find(name);
    return found == object_->end() || found->is_null() ? nullptr : &*found;
  }
  [[nodiscard]] bool has(std::string_view name) const { return find(name) != nullptr; }
  // Whether it is there at all: of some fields null says another thing than nothing does.
  [[nodiscard]] bool is_said(std::string_view name) const { return object_->contains(name); }

  // A count: 8192.0 is one, "12" is not.
  [[nodiscard]] std::optional<Index> integer(std::string_view name, Index least = 1) const {
    const nlohmann::json* field = find(name);
    if (field == nullptr) return std::nullopt;
    constexpr double largest = 1 << 30;  // no product of two of them overflows
    const double value = field->is_number() ? field->get<double>() : static_cast<double>(least) - 1;
    if (!(value >= static_cast<double>(least) && value <= largest && value == std::floor(value)))
      refuse(name, *field,
             "a whole number, " + std::to_string(least) + " or more" +
                 (value > largest ? ", at most 2^30" : ""));
    return static_cast<Index>(value);
  }
  [[nodiscard]] Index required_integer(std::string_view name) const {
    const auto value = integer(name);
    if (!value) refuse("there is no " + where_ + std::string(name));
    return *value;
  }
  // Above 0.
  [[nodiscard]] std::optional<double> number(std::string_view name) const {
    const nlohmann::json* field = find(name);
    if (field == nullptr) return std::nullopt;
    const double value = field->is_number() ? field->get<double>() : -1;
    if (!(value > 0 && detail::is_finite(value))) refuse(name, *field, "a number above 0");
    return value;
  }
  [[nodiscard]] double required_number(std::string_view name) const {
    const auto value = number(name);
    if (!value) refuse("there is no " + where_ + std::string(name));
    return *value;
  }
  [[nodiscard]] std::optional<bool> boolean(std::string_view name) const {
    const nlohmann::json* field = find(name);
    if (field == nullptr) return std::nullopt;
    if (!field->is_boolean()) refuse(name, *field, "true or false");
    return field->get<bool>();
  }
  [[nodiscard]] std::optional<std::string> text(std::string_view name) const {
    const nlohmann::json* field = find(name);
    if (field == nullptr) return std::nullopt;
    if (!field->is_string()) refuse(name, *field, "a text");
    return field->get<std::string>();
  }
  // One without fields counts as none.
  [[nodiscard]] std::optional<ConfigFields> object(std::string_view name) const {
    const nlohmann::json* field = find(name);
    if (field == nullptr) return std::nullopt;
    if (!field->is_object()) refuse(name, *field, "an object");
    if (field->empty()) return std::nullopt;
    ConfigFields fields = *this;
    fields.object_ = {object_, field};
    fields.where_ += std::string(name) + '.';
    return fields;
  }

  // A field that is there, and what it should be.
  [[noreturn]] void refuse(std::string_view name, const std::string& expected) const {
    refuse(name, *find(name), expected);
  }
  [[noreturn]] void refuse(const std::string& what) const { detail::refuse_file(path_, what); }

 private:
  [[noreturn]] void refuse(std::string_view name, const nlohmann::json& field,
                           const std::string& expected) const {
    refuse(where_ + std::string(name) + " is " +
           detail::printable(field.dump(-1, ' ', true, nlohmann::json::error_handler_t::replace)) +
           "; expected " + expected);
  }

  std::filesystem::path path_;
  std::shared_ptr<const nlohmann::json> object_;
  std::string where_{};  // "rope_scaling."
};

}  // namespace eigenheads::inline EIGENHEADS_ABI

#include <eigenheads/detail/macros_on.inl>
