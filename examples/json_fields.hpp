// SPDX-License-Identifier: MIT
#pragma once
// The settings in a JSON file, field by field. What has another type or is out of range is refused
// with its name and its value; null counts as absent, and so do fields that nobody asks for.
//   const JsonFields config(folder / "config.json");
//   const Index layers = config.count("num_hidden_layers", 1, 1024);
#include <cmath>
#include <filesystem>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <utility>

#include <eigenheads/io/file.hpp>  // read_file, refuse_file
#include <eigenheads/tensor.hpp>   // Index

class JsonFields {
 public:
  using Index = eigenheads::Index;
  using Json = nlohmann::json;

  // Throws eigenheads::FileError, as do all that follow.
  explicit JsonFields(std::filesystem::path path)
      : path_(std::move(path)), fields_(parse(path_, eigenheads::read_file(path_))) {
    if (!fields_.is_object()) refuse("expected an object, found " + shown(fields_));
  }

  [[nodiscard]] static Json parse(const std::filesystem::path& path, const std::string& text) {
    Json json = Json::parse(text, nullptr, false);
    if (json.is_discarded()) eigenheads::detail::refuse_file(path, "not well-formed JSON");
    return json;
  }

  [[nodiscard]] const std::filesystem::path& path() const { return path_; }
  // Null if it is absent.
  [[nodiscard]] const Json* find(const std::string& name) const {
    const auto found = fields_.find(name);
    return found == fields_.end() || found->is_null() ? nullptr : &*found;
  }

  // A whole number, which may be written as 8192.0.
  [[nodiscard]] Index count(const std::string& name, Index least, Index most,
                            std::optional<Index> otherwise = {}) const {
    const Json* const value = find(name);
    if (value == nullptr && otherwise) return *otherwise;
    if (value == nullptr) refuse_missing(name);
    const double number = value->is_number() ? value->get<double>() : std::nan("");
    if (!(number >= static_cast<double>(least) && number <= static_cast<double>(most)) ||
        number != std::floor(number))
      refuse(name, "a whole number, " + std::to_string(least) + " to " + std::to_string(most));
    return static_cast<Index>(number);
  }
  [[nodiscard]] bool flag(const std::string& name, bool otherwise) const {
    const Json* const value = find(name);
    if (value == nullptr) return otherwise;
    if (!value->is_boolean()) refuse(name, "true or false");
    return value->get<bool>();
  }
  // A field that is there, and what it should be.
  [[noreturn]] void refuse(const std::string& name, const std::string& expected) const {
    refuse(name + " is " + shown(*find(name)) + "; expected " + expected);
  }
  [[noreturn]] void refuse(const std::string& what) const {
    eigenheads::detail::refuse_file(path_, what);
  }

 private:
  [[noreturn]] void refuse_missing(const std::string& name) const {
    refuse("there is no \"" + name + '"');
  }
  [[nodiscard]] static std::string shown(const Json& value) {
    constexpr std::size_t most = 60;
    std::string text = value.dump(-1, ' ', true, Json::error_handler_t::replace);
    if (text.size() > most) text.replace(most, text.size() - most, "...");
    return text;
  }

  std::filesystem::path path_;
  Json fields_;
};
