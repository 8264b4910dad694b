// SPDX-License-Identifier: MIT
#pragma once
// How load_checkpoint (checkpoints.hpp) goes: find the tensor of every parameter, see that nothing is
// left over, read everything, and only then write.
#include <algorithm>
#include <cstddef>
#include <functional>
#include <map>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <variant>
#include <vector>

#include <eigenheads/detail/macros_off.inl>
#include <eigenheads/io/checkpoint_layout.hpp>  // CheckpointOptions, shape_in_file
#include <eigenheads/io/checkpoint_parts.hpp>   // ModuleParts
#include <eigenheads/io/checkpoint_report.hpp>  // CheckpointReport
#include <eigenheads/io/checkpoint_rules.hpp>   // CheckpointFamily, match_name, filled
#include <eigenheads/io/safetensors_files.hpp>  // SafetensorsFiles, Conversion

namespace eigenheads::inline EIGENHEADS_ABI::detail {

class CheckpointLoading {
 public:
  CheckpointLoading(const SafetensorsFiles& files, const CheckpointFamily& family,
                    const ModuleParts& parts, const CheckpointOptions& options)
      : files_(files), family_(family), parts_(parts), options_(options) {
    require_heads_layout(options.heads);
    report_.family = family.name;
    report_.notes = files.notes();
  }

  CheckpointReport run() {
    return run([] {});
  }
  // agree(): between reading and writing. What it throws leaves the modules as they were.
  template <class Agree>
  CheckpointReport run(const Agree& agree) {
    for (const std::string& name : files_.names()) index(name);
    for (std::size_t i = 0; i < parts_.parameters().size(); ++i)
      std::visit([&](const auto& parameter) { find(parameter, i); }, parts_.parameters()[i]);
    for (const std::string& name : files_.names())
      if (!used_.contains(name)) account_for(name);
    require_complete();
    std::vector<std::variant<std::unique_ptr<float[]>, std::unique_ptr<double[]>>> values;
    for (std::size_t i = 0; i < sources_.size(); ++i)
      std::visit([&](const auto& parameter) { values.emplace_back(read(parameter, i)); },
                 parts_.parameters()[i]);
    agree();
    for (std::size_t i = 0; i < sources_.size(); ++i)
      if (sources_[i].kind != Source::Kind::none)
        std::visit(
            [&]<class T>(const Parameter<T>& parameter) {
              const auto& of = std::get<std::unique_ptr<T[]>>(values[i]);
              parameter.copy_from({of.get(), static_cast<std::size_t>(parameter.size())});
            },
            parts_.parameters()[i]);
    return std::move(report_);
  }

 private:
  // Of a parameter.
  struct Source {
    enum class Kind { none, tensor, zero } kind = Kind::none;
    std::string tensor = {};
    const CheckpointRule* rule = nullptr;
  };
  // By a rule, with the name that the rule knows it by.
  struct Known {
    const CheckpointRule* rule;
    std::string parameter;
  };

  [[noreturn]] void refuse(const std::string& what) const { refuse_file(files_.path(), what); }

  // The name without the prefix, if some rule knows it.
  [[nodiscard]] std::string stem(std::string_view name) {
    if (options_.prefix) {
      if (name.starts_with(*options_.prefix))
        return known_stem(name.substr(options_.prefix->size()));
      // The head of a language model stands beside the model that the family's prefix is of.
      if (std::ranges::find(family_.prefixes, *options_.prefix) == family_.prefixes.end())
        return "";
      const bool is_head = std::ranges::any_of(family_.rules, [&](const CheckpointRule& rule) {
        return rule.presence == CheckpointPresence::tied && rule.name == name;
      });
      return is_head ? std::string(name) : "";
    }
    for (const bool with_prefix : {true, false})
      for (const std::string_view prefix : family_.prefixes)
        if (prefix.empty() != with_prefix && name.starts_with(prefix))
          if (std::string found = known_stem(name.substr(prefix.size())); !found.empty())
            return found;
    return "";
  }
  [[nodiscard]] std::string known_stem(std::string_view name) {
    std::string stem(name);
    const auto is_renamed = [&](std::string_view old, std::string_view now) {
      const std::string ending = std::string("LayerNorm.").append(old);
      if (!family_.has_gamma_beta || !name.ends_with(ending)) return false;
      const std::size_t before = name.size() - ending.size();
      if (before > 0 && name[before - 1] != '.') return false;
      stem.replace(stem.size() - old.size(), old.size(), now);
      return true;
    };
    if (!is_renamed("gamma", "weight")) is_renamed("beta", "bias");
    const bool is_known = std::ranges::any_of(family_.rules, [&](const CheckpointRule& rule) {
      return match_name(rule.name, stem).has_value();
    });
    return is_known ? stem : "";
  }

  void index(const std::string& name) {
    const std::string key = stem(name);
    if (key.empty()) return;
    const auto [at, is_new] = by_stem_.emplace(key, name);
    if (!is_new)
      refuse("tensors " + quoted_name(at->second) + " and " + quoted_name(name) +
             " are the same parameter's; expected only one of the two");
    stems_.emplace(name, key);
  }

  // Whether the file has a tensor of that rule for any layer.
  [[nodiscard]] bool is_anywhere(const CheckpointRule& rule) const {
    return std::ranges::any_of(by_stem_, [&](const auto& entry) {
      return match_name(rule.name, entry.first).has_value();
    });
  }

  template <class T>
  void find(const Parameter<T>& parameter, std::size_t number) {
    Source source;
    const CheckpointRule* expected = nullptr;
    for (const CheckpointRule& rule : family_.rules) {
      const auto match = match_name(rule.parameter, parameter.name());
      if (!match || rule.presence == CheckpointPresence::ignored ||
          rule.presence == CheckpointPresence::refused)
        continue;
      if (expected == nullptr) expected = &rule;
      const auto found = by_stem_.find(filled(rule.name, *match));
      if (found == by_stem_.end()) continue;
      if (source.kind == Source::Kind::tensor)
        refuse("tensors " + quoted_name(source.tensor) + " and " + quoted_name(found->second) +
               " are the same parameter's; expected only one of the two");
      source = {Source::Kind::tensor, found->second, &rule};
    }
    if (expected == nullptr)
      refuse("parameter " + parameter.name() + " has no place in a file of " +
             std::string(family_.name));
    if (source.kind == Source::Kind::none) source = without_tensor(parameter, *expected);
    if (source.kind == Source::Kind::none) {
      const auto match = match_name(expected->parameter, parameter.name());
      missing_.push_back(parameter.name() + " (" + filled(expected->name, *match) + ')');
      report_.missing.push_back(parameter.name());
    }
    if (source.kind == Source::Kind::zero) report_.zero.push_back(parameter.name());
    if (source.kind == Source::Kind::tensor) {
      require_fits(parameter, source, number);
      if (source.rule->presence == CheckpointPresence::tied && source.tensor != token_embedding())
        compare_head(source.tensor);
      used_.emplace(source.tensor, number);
    }
    sources_.push_back(std::move(source));
  }

  template <class T>
  [[nodiscard]] Source without_tensor(const Parameter<T>& parameter, const CheckpointRule& rule) {
    using enum CheckpointPresence;
    if (rule.presence == always_zero || (rule.presence == zero && !is_anywhere(rule)))
      return {Source::Kind::zero};
    if (rule.presence == tied && options_.tied.value_or(family_.is_tied))
      if (const std::string embedding = token_embedding(); !embedding.empty()) {
        report_.notes.push_back(parameter.name() + " is the token embedding, " +
                                quoted_name(embedding));
        return {Source::Kind::tensor, embedding, &rule};
      }
    return {};
  }

  template <class T>
  void require_fits(const Parameter<T>& parameter, const Source& source, std::size_t number) {
    const CheckpointRule& rule = *source.rule;
    const HeadsLayout heads = heads_of(parts_.heads(number), options_.heads);
    if (heads.head_size == 0 && (is_by_heads(rule) || rule.is_rotary))
      refuse("tensor " + quoted_name(source.tensor) + needed_heads(rule));
    const CheckpointShape of(parameter.shape(), parts_.shares()[number].all);
    const bool turns = is_turned(rule, heads, family_.rotary);
    if ((turns || is_by_heads(rule)) && !has_whole_heads(rule, of, heads.head_size))
      refuse("parameter " + parameter.name() + " has shape " + shape_text(parameter.shape()) +
             "; expected heads of " + std::to_string(heads.head_size));
    const std::vector<Index> expected = shape_in_file(rule, of, heads.head_size);
    const auto& got = files_.shape(source.tensor);
    if (got != expected)
      refuse("tensor " + quoted_name(source.tensor) + " is " + files_.description(source.tensor) +
             "; expected " + shape_text(expected) + ", for the module's " + parameter.name() + ' ' +
             shape_text(shape_in_file({}, of, 1)));
    std::string how;
    const auto add = [&](const std::string& what) { how += (how.empty() ? "" : ", ") + what; };
    if (is_transposed(rule, of)) add("transposed");
    if (rule.parts > 1)
      add("part " + std::to_string(rule.part + 1) + " of " + std::to_string(rule.parts));
    if (turns) add("rows in the order of the other rotary layout");
    if (files_.type(source.tensor) != safetensors_type_of<T>())
      add("from " + files_.type_name(source.tensor));
    report_.loaded.push_back({parameter.name(), source.tensor, how});
  }

  // A tensor that no parameter took.
  void account_for(const std::string& name) {
    using enum CheckpointPresence;
    const auto at = stems_.find(name);
    if (at == stems_.end()) {
      if (options_.prefix && !name.starts_with(*options_.prefix)) {
        report_.others.push_back(name);
        return;
      }
      unknown_.push_back(printable(name));
      report_.unused.push_back(name);
      return;
    }
    bool is_other = true, is_ignored = false, is_optional = false, is_tied = false;
    for (const CheckpointRule& rule : family_.rules) {
      const auto match = match_name(rule.name, at->second);
      if (!match) continue;
      if (rule.presence == refused)
        refuse("tensor " + quoted_name(name) + ": " + std::string(rule.parameter));
      is_ignored = is_ignored || rule.presence == ignored;
      is_optional = is_optional || rule.presence == optional;
      is_tied = is_tied || rule.presence == tied;
      if (rule.presence != ignored && parts_.covers(filled(rule.parameter, *match)))
        is_other = false;
    }
    if (is_ignored) {
      report_.ignored.push_back(name);
    } else if (is_other) {
      report_.others.push_back(name);
    } else if (is_tied) {
      account_for_head(name);
    } else {
      if (!is_optional) unknown_.push_back(printable(name));
      report_.unused.push_back(name);
    }
  }

  // "" if there is none.
  [[nodiscard]] std::string token_embedding() const {
    for (const CheckpointRule& rule : family_.rules)
      if (rule.parameter == "token_embedding.weight")
        if (const auto found = by_stem_.find(rule.name); found != by_stem_.end())
          return found->second;
    return "";
  }
  // The head of a language model that the module has not: it uses its token embedding, which had
  // better be the same.
  void account_for_head(const std::string& head) {
    const std::string embedding = token_embedding();
    if (embedding.empty() || !are_equal(head, embedding))
      refuse("tensor " + quoted_name(head) +
             " is not the token embedding, and the module has no "
             "lm_head of its own");
    report_.notes.push_back(quoted_name(head) + " is the token embedding once more");
  }
  // One that it has, of a model that is said to have none but the embedding.
  void compare_head(const std::string& head) {
    const std::string embedding = token_embedding();
    if (!options_.tied.value_or(family_.is_tied) || embedding.empty()) return;
    if (!are_equal(head, embedding))
      report_.notes.push_back(quoted_name(head) +
                              " is not the token embedding, which the model is "
                              "said to share with it; it is used as it is");
  }
  [[nodiscard]] bool are_equal(const std::string& a, const std::string& b) const {
    if (files_.shape(a) != files_.shape(b)) return false;
    Index size = 1;
    for (const Index n : files_.shape(a)) size *= n;
    constexpr Index piece = 4096;
    std::vector<double> x(piece), y(piece);
    for (Index first = 0; first < size; first += piece) {
      const auto count = static_cast<std::size_t>((std::min)(piece, size - first));
      files_.read(a, first, std::span(x).first(count), Conversion::rounded);
      files_.read(b, first, std::span(y).first(count), Conversion::rounded);
      if (!std::equal(x.begin(), x.begin() + static_cast<std::ptrdiff_t>(count), y.begin()))
        return false;
    }
    return true;
  }

  void require_complete() const {
    if (!options_.strict) return;
    const auto list = [](const std::vector<std::string>& names) {
      constexpr std::size_t most = 4;
      std::string text;
      for (std::size_t i = 0; i < names.size() && i < most; ++i)
        text += (i > 0 ? ", " : "") + names[i];
      return text + (names.size() > most ? ", ..." : "");
    };
    const std::string family = "as a file of " + std::string(family_.name) + ", it ";
    if (!missing_.empty())
      refuse(family + "lacks " + std::to_string(missing_.size()) + " of " +
             std::to_string(sources_.size()) + " parameters: " + list(missing_));
    if (!unknown_.empty())
      refuse(family + "has " + std::to_string(unknown_.size()) +
             " tensors that are none of the modules' parameters: " + list(unknown_));
  }

  template <class T>
  [[nodiscard]] std::unique_ptr<T[]> read(const Parameter<T>& parameter, std::size_t number) const {
    const Source& source = sources_[number];
    const RowShare& share = parts_.shares()[number];
    if (source.kind == Source::Kind::none) return nullptr;
    const auto size = static_cast<std::size_t>(parameter.size());
    if (source.kind == Source::Kind::zero) return std::make_unique<T[]>(size);
    auto values = std::make_unique_for_overwrite<T[]>(size);
    const CheckpointRule& rule = *source.rule;
    const CheckpointShape of(parameter.shape(), share.all);
    const Index own_rows = parameter.shape()[0];
    const auto rows = static_cast<std::size_t>(own_rows);
    if (is_transposed(rule, of)) {
      std::vector<T> row(rows);  // of the file: the part's share of it
      for (Index k = 0; k < of.columns; ++k) {
        files_.read(source.tensor, (k * rule.parts + rule.part) * of.rows + share.first,
                    std::span(row), options_.conversion);
        for (std::size_t r = 0; r < rows; ++r)
          values[r * static_cast<std::size_t>(of.columns) + static_cast<std::size_t>(k)] = row[r];
      }
    } else {
      files_.read(source.tensor, (rule.part * of.rows + share.first) * of.columns,
                  std::span(values.get(), size), options_.conversion);
    }
    const HeadsLayout heads = heads_of(parts_.heads(number), options_.heads);
    if (!is_turned(rule, heads, family_.rotary)) return values;
    const std::vector<Index> from = rows_by_rotary(own_rows, heads, family_.rotary);
    auto turned = std::make_unique_for_overwrite<T[]>(size);
    for (std::size_t r = 0; r < rows; ++r)
      std::copy_n(values.get() + from[r] * of.columns, of.columns,
                  turned.get() + static_cast<Index>(r) * of.columns);
    return turned;
  }

  const SafetensorsFiles& files_;
  const CheckpointFamily& family_;
  const ModuleParts& parts_;
  const CheckpointOptions& options_;
  std::map<std::string, std::string, std::less<>> by_stem_, stems_;  // stem: name; and name: stem
  std::map<std::string, std::size_t, std::less<>> used_;
  std::vector<Source> sources_;  // of each parameter
  std::vector<std::string> missing_, unknown_;
  CheckpointReport report_;
};

}  // namespace eigenheads::inline EIGENHEADS_ABI::detail

#include <eigenheads/detail/macros_on.inl>
