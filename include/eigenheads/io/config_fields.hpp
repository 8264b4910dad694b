// SPDX-License-Identifier: MIT
#pragma once
// The fields of a JSON object, of the types that they should have; a FileError names what has another.
#include <cmath>
#include <filesystem>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <string_view>

#include <eigenheads/detail/macros_off.inl>
#include <eigenheads/error.hpp>                  // number_text
#include <eigenheads/io/file.hpp>                // refuse_file
#include <eigenheads/io/safetensors_header.hpp>  // printable
#include <eigenheads/tensor.hpp>                 // Index

namespace eigenheads::inline EIGENHEADS_ABI::detail {

// A field that is null counts as one that is not there.
class ConfigFields {
 public:
  // both must outlive this
  ConfigFields(const std::filesystem::path& path, const nlohmann::json& object,
               std::string where = "")
      : path_(path), object_(object), where_(std::move(where)) {}

  [[nodiscard]] const nlohmann::json* find(std::string_view name) const {
    const auto found = object_.find(name);
    return found == object_.end() || found->is_null() ? nullptr : &*found;
  }
  [[nodiscard]] bool has(std::string_view name) const { return find(name) != nullptr; }

  // A count: 8192.0 is one, "12" is not.
  [[nodiscard]] std::optional<Index> integer(std::string_view name, Index least = 1) const {
    const nlohmann::json* field = find(name);
    if (field == nullptr) return std::nullopt;
    constexpr double largest = 1e15;
    const double value = field->is_number() ? field->get<double>() : std::nan("");
    if (!(value >= static_cast<double>(least) && value <= largest && value == std::floor(value)))
      refuse(name, *field, "a whole number, " + std::to_string(least) + " or more");
    return static_cast<Index>(value);
  }
  [[nodiscard]] Index required_integer(std::string_view name) const {
    if (!has(name)) refuse("there is no " + where_ + std::string(name));
    return *integer(name);
  }
  // Above 0.
  [[nodiscard]] std::optional<double> number(std::string_view name) const {
    const nlohmann::json* field = find(name);
    if (field == nullptr) return std::nullopt;
    const double value = field->is_number() ? field->get<double>() : -1;
    if (!(value > 0 && std::isfinite(value))) refuse(name, *field, "a number above 0");
    return value;
  }
  [[nodiscard]] double required_number(std::string_view name) const {
    if (!has(name)) refuse("there is no " + where_ + std::string(name));
    return *number(name);
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
  [[nodiscard]] std::optional<ConfigFields> object(std::string_view name) const {
    const nlohmann::json* field = find(name);
    if (field == nullptr) return std::nullopt;
    if (!field->is_object()) refuse(name, *field, "an object");
    return ConfigFields(path_, *field, where_ + std::string(name) + '.');
  }

  [[noreturn]] void refuse(std::string_view name, const std::string& expected) const {
    refuse(name, *find(name), expected);
  }
  [[noreturn]] void refuse(const std::string& what) const { refuse_file(path_, what); }

 private:
  [[noreturn]] void refuse(std::string_view name, const nlohmann::json& field,
                           const std::string& expected) const {
    refuse(where_ + std::string(name) + " is " +
           printable(field.dump(-1, ' ', true, nlohmann::json::error_handler_t::replace)) +
           "; expected " + expected);
  }

  const std::filesystem::path& path_;
  const nlohmann::json& object_;
  std::string where_;  // "rope_scaling."
};

}  // namespace eigenheads::inline EIGENHEADS_ABI::detail

#include <eigenheads/detail/macros_on.inl>
