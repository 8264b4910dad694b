// SPDX-License-Identifier: MIT
#pragma once
// How save_checkpoint (checkpoints.hpp) goes: the rules of loading, the other way round.
#include <algorithm>
#include <array>
#include <cstddef>
#include <map>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <variant>
#include <vector>

#include <eigenheads/detail/macros_off.inl>
#include <eigenheads/error.hpp>                 // refuse
#include <eigenheads/io/checkpoint_layout.hpp>  // CheckpointOptions, shape_in_file
#include <eigenheads/io/checkpoint_parts.hpp>   // ConstModuleParts
#include <eigenheads/io/checkpoint_rules.hpp>   // CheckpointFamily, match_name, filled
#include <eigenheads/io/safetensors.hpp>        // Safetensors

namespace eigenheads::inline EIGENHEADS_ABI::detail {

class CheckpointSaving {
 public:
  CheckpointSaving(const CheckpointFamily& family, const ConstModuleParts& parts,
                   const CheckpointOptions& options)
      : family_(family), parts_(parts), options_(options) {
    require_heads_layout(options.heads);
  }

  [[nodiscard]] Safetensors contents() {
    for (std::size_t i = 0; i < parts_.parameters().size(); ++i) {
      const HeadsLayout heads = heads_of(parts_.heads(i), options_.heads);
      std::visit([&](const auto& parameter) { gather(parameter, heads); }, parts_.parameters()[i]);
    }
    for (const auto& [name, tensor] : gathered_) require_whole(name, tensor);
    Safetensors file;
    file.set_metadata("format", "pt");  // which some of those who read it ask for
    for (const std::string& name : order_) {
      const Gathered& tensor = gathered_.at(name);
      if (is_left_out(tensor)) continue;
      std::visit([&](const auto& values) { add(file, full_name(name), tensor.shape, values); },
                 tensor.values);
    }
    return file;
  }

 private:
  using Values = std::variant<std::vector<float>, std::vector<double>>;
  struct Gathered {
    const CheckpointRule* rule;
    std::vector<Index> shape;
    std::vector<bool> parts;  // which have come
    Values values;
  };

  [[nodiscard]] std::string full_name(const std::string& name) const {
    const std::string prefix = options_.prefix.value_or(std::string(family_.prefixes.front()));
    // The head of a language model stands beside the model that the family's prefix is of.
    const bool is_head = gathered_.at(name).rule->presence == CheckpointPresence::tied;
    const bool is_familys = std::ranges::find(family_.prefixes, prefix) != family_.prefixes.end();
    return is_head && is_familys ? name : prefix + name;
  }

  template <class T>
  void gather(const Parameter<T>& parameter, const HeadsLayout& heads) {
    using Value = typename Parameter<T>::Value;
    const auto [rule, name] = place_of(parameter);
    const CheckpointShape of(parameter.shape());
    if (heads.head_size == 0 && (is_by_heads(*rule) || rule->is_rotary))
      refuse({"save_checkpoint: ", parameter.name(), needed_heads(*rule)});
    const bool turns = is_turned(*rule, heads, family_.rotary);
    if ((turns || is_by_heads(*rule)) && !has_whole_heads(*rule, of, heads.head_size))
      refuse({"save_checkpoint: ", parameter.name(), " has shape ", parameter.shape(),
              "; expected heads of ", heads.head_size});
    std::vector<Value> values(static_cast<std::size_t>(parameter.size()));
    parameter.copy_to(values);
    if (turns) values = turned(values, of, heads);
    if (rule->presence == CheckpointPresence::always_zero)
      if (std::ranges::any_of(values, [](Value x) { return x != 0; }))
        refuse({"save_checkpoint: ", parameter.name(), " is not 0, and a ", family_.name,
                " has no such bias"});

    const std::vector<Index> shape = shape_in_file(*rule, of, heads.head_size);
    auto [at, is_new] = gathered_.try_emplace(name);
    Gathered& tensor = at->second;
    if (is_new) {
      order_.push_back(name);
      tensor = {rule, shape, std::vector<bool>(static_cast<std::size_t>(rule->parts)),
                std::vector<Value>(values.size() * static_cast<std::size_t>(rule->parts))};
    }
    auto* whole = std::get_if<std::vector<Value>>(&tensor.values);
    const auto part = static_cast<std::size_t>(rule->part);
    if (whole == nullptr || tensor.shape != shape || tensor.parts[part])
      refuse({"save_checkpoint: ", parameter.name(), " of shape ", parameter.shape(),
              " cannot be one tensor with what else belongs to ", name});
    tensor.parts[part] = true;
    if (!is_transposed(*rule, of)) {
      std::ranges::copy(values, whole->begin() + rule->part * parameter.size());
      return;
    }
    for (Index r = 0; r < of.rows; ++r)
      for (Index k = 0; k < of.columns; ++k)
        (*whole)[static_cast<std::size_t>((k * rule->parts + rule->part) * of.rows + r)] =
            values[static_cast<std::size_t>(r * of.columns + k)];
  }

  // The first rule that knows the parameter; of those that pack several into one, only if these have
  // one shape.
  template <class T>
  [[nodiscard]] std::pair<const CheckpointRule*, std::string> place_of(
      const Parameter<T>& parameter) const {
    for (const CheckpointRule& rule : family_.rules) {
      using enum CheckpointPresence;
      if (rule.presence == ignored || rule.presence == refused) continue;
      const auto match = match_name(rule.parameter, parameter.name());
      if (!match || (rule.parts > 1 && has_another(rule) && !are_alike(rule, *match))) continue;
      return {&rule, filled(rule.name, *match)};
    }
    refuse({"save_checkpoint: ", parameter.name(), " has no place in a file of ", family_.name});
  }
  [[nodiscard]] bool has_another(const CheckpointRule& rule) const {
    return std::ranges::any_of(family_.rules, [&](const CheckpointRule& other) {
      return other.parameter == rule.parameter && other.name != rule.name;
    });
  }
  [[nodiscard]] bool are_alike(const CheckpointRule& rule, const CheckpointMatch& match) const {
    std::vector<std::vector<Index>> shapes;
    for (const CheckpointRule& part : family_.rules) {
      if (part.name != rule.name) continue;
      const std::string name = filled(part.parameter, match);
      for (const AnyConstParameter& any : parts_.parameters())
        std::visit(
            [&](const auto& parameter) {
              if (parameter.name() == name)
                shapes.emplace_back(parameter.shape().begin(), parameter.shape().end());
            },
            any);
    }
    return std::ranges::all_of(shapes, [&](const auto& shape) { return shape == shapes.front(); });
  }

  static void require_whole(const std::string& name, const Gathered& tensor) {
    if (std::ranges::find(tensor.parts, false) != tensor.parts.end())
      refuse({"save_checkpoint: ", name, " is made of ", tensor.rule->parts,
              " parameters, and some are not among these modules'"});
  }

  [[nodiscard]] static bool is_zero(const Gathered& tensor) {
    return std::visit(
        [](const auto& values) {
          return std::ranges::all_of(values, [](auto x) { return x == 0; });
        },
        tensor.values);
  }
  [[nodiscard]] bool is_left_out(const Gathered& tensor) const {
    using enum CheckpointPresence;
    if (tensor.rule->presence == always_zero) return true;
    if (tensor.rule->presence == tied) {
      if (!options_.tied.value_or(family_.is_tied)) return false;
      return std::ranges::any_of(gathered_, [&](const auto& entry) {
        return entry.second.rule->parameter == "token_embedding.weight" &&
               entry.second.values == tensor.values;
      });
    }
    return tensor.rule->presence == zero && std::ranges::all_of(gathered_, [&](const auto& entry) {
             return entry.second.rule != tensor.rule || is_zero(entry.second);
           });
  }

  template <class Value>
  [[nodiscard]] std::vector<Value> turned(const std::vector<Value>& values,
                                          const CheckpointShape& of,
                                          const HeadsLayout& heads) const {
    const std::vector<Index> from = rows_by_rotary(of.rows, heads, family_.rotary);
    std::vector<Value> result(values.size());
    for (Index r = 0; r < of.rows; ++r)
      std::copy_n(values.begin() + r * of.columns, of.columns,
                  result.begin() + from[static_cast<std::size_t>(r)] * of.columns);
    return result;
  }

  template <class Value>
  static void add(Safetensors& file, const std::string& name, const std::vector<Index>& shape,
                  const std::vector<Value>& values) {
    if (shape.size() == 1)
      file.add(name, TensorView<Value, 1>(values.data(), {shape[0]}));
    else if (shape.size() == 2)
      file.add(name, TensorView<Value, 2>(values.data(), {shape[0], shape[1]}));
    else
      file.add(name, TensorView<Value, 3>(values.data(), {shape[0], shape[1], shape[2]}));
  }

  const CheckpointFamily& family_;
  const ConstModuleParts& parts_;
  const CheckpointOptions& options_;
  std::map<std::string, Gathered, std::less<>> gathered_;
  std::vector<std::string> order_;
};

}  // namespace eigenheads::inline EIGENHEADS_ABI::detail

#include <eigenheads/detail/macros_on.inl>
