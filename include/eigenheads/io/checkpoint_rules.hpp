// SPDX-License-Identifier: MIT
#pragma once
// How other libraries call and keep the parameters of models, as data: rules, of which the tables in
// checkpoint_families.hpp are made.
//   {"encoder.layer.{layer}.attention.self.query.*", "encoder.layers.{layer}.self_attention.W_q.*"}
// stands for the weight and for the bias of every layer: what `*` (weight or bias), {layer} (a number)
// and {path} (nothing, or whatever ends in a dot) stand for on the left, they stand for on the right.
#include <optional>
#include <span>
#include <string>
#include <string_view>

#include <eigenheads/detail/macros_off.inl>
#include <eigenheads/rotary_options.hpp>  // RotaryLayout
#include <eigenheads/tensor.hpp>          // Index

namespace eigenheads::inline EIGENHEADS_ABI {

// How a weight lies in the file; ours are [out, in]. The rule decides, never the shape: a square
// matrix fits both ways.
enum class CheckpointLayout {
  same,
  transposed,  // [in, out]: y = x W, as Conv1D of GPT-2
  to_heads,    // [in, heads, head_size], and its bias [heads, head_size]: Keras's EinsumDense
  from_heads,  // [heads, head_size, out]
};

// What it means that there is no such tensor, or no such parameter.
enum class CheckpointPresence {
  required,
  optional,     // a model may do without: the tensor is then left, and the report says so
  zero,         // a bias: if no layer has one, it is 0 in all; it is not written where all are 0
  always_zero,  // a bias that the family has not: it is 0, and a model in which it is not is refused
  tied,         // the head of a language model, which may be the token embedding itself
  ignored,      // no parameter but a buffer: masks, position ids
  refused       // what the library's layers cannot express
};

// One tensor of a family's files, and the parameter that it is.
struct CheckpointRule {
  std::string_view name;       // in the file, after the family's prefix
  std::string_view parameter;  // as for_each_parameter says it; of what is refused, the reason
  CheckpointLayout layout = CheckpointLayout::same;
  CheckpointPresence presence = CheckpointPresence::required;
  // Of several parameters that the file holds as one, one after the other along `out`, this is one.
  Index part = 0, parts = 1;
  bool is_rotary =
      false;  // its rows are turned: they are in the order of the family's rotary layout
};

// How a library names and lays out the tensors of one kind of model.
struct CheckpointFamily {
  std::string_view name;
  std::span<const CheckpointRule> rules;
  // What names begin with, besides nothing; the first is written.
  std::span<const std::string_view> prefixes;
  bool has_gamma_beta = false;  // old files call the weight and the bias of a LayerNorm so
  bool is_tied = false;         // without another word, the language model's head is the embedding
  RotaryLayout rotary = RotaryLayout::half_split;
};

namespace detail {

// What a pattern's signs stood for in a name.
struct CheckpointMatch {
  std::string_view path, layer, last;
};

[[nodiscard]] inline std::optional<CheckpointMatch> match_here(std::string_view pattern,
                                                               std::string_view name) {
  CheckpointMatch match;
  while (!pattern.empty()) {
    if (pattern.starts_with("{layer}")) {
      std::size_t digits = 0;
      while (digits < name.size() && name[digits] >= '0' && name[digits] <= '9') ++digits;
      if (digits == 0 || digits > 6 || (digits > 1 && name[0] == '0')) return std::nullopt;
      match.layer = name.substr(0, digits);
      name.remove_prefix(digits);
      pattern.remove_prefix(std::string_view("{layer}").size());
    } else if (pattern == "*") {
      if (name != "weight" && name != "bias") return std::nullopt;
      match.last = name;
      return match;
    } else {
      if (name.empty() || name[0] != pattern[0]) return std::nullopt;
      name.remove_prefix(1);
      pattern.remove_prefix(1);
    }
  }
  if (!name.empty()) return std::nullopt;
  return match;
}

[[nodiscard]] inline std::optional<CheckpointMatch> match_name(std::string_view pattern,
                                                               std::string_view name) {
  constexpr std::string_view path = "{path}";
  if (!pattern.starts_with(path)) return match_here(pattern, name);
  const std::string_view rest = pattern.substr(path.size());
  for (std::size_t at = 0; at <= name.size(); ++at)
    if (at == 0 || name[at - 1] == '.')
      if (auto match = match_here(rest, name.substr(at))) {
        match->path = name.substr(0, at);
        return match;
      }
  return std::nullopt;
}

// The name that such a pattern has with these.
[[nodiscard]] inline std::string filled(std::string_view pattern, const CheckpointMatch& match) {
  std::string name;
  while (!pattern.empty()) {
    const auto take = [&](std::string_view sign, std::string_view value) {
      if (!pattern.starts_with(sign)) return false;
      name += value;
      pattern.remove_prefix(sign.size());
      return true;
    };
    if (take("{path}", match.path) || take("{layer}", match.layer) || take("*", match.last))
      continue;
    name += pattern[0];
    pattern.remove_prefix(1);
  }
  return name;
}

}  // namespace detail
}  // namespace eigenheads::inline EIGENHEADS_ABI

#include <eigenheads/detail/macros_on.inl>
