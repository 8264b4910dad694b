// SPDX-License-Identifier: MIT
#pragma once
// Where the elements of a parameter lie in the tensor of a file, as a rule says.
#include <algorithm>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include <eigenheads/detail/macros_off.inl>
#include <eigenheads/error.hpp>                      // refuse
#include <eigenheads/io/checkpoint_parts.hpp>        // HeadsLayout
#include <eigenheads/io/checkpoint_rules.hpp>        // CheckpointRule, CheckpointLayout
#include <eigenheads/io/safetensors_conversion.hpp>  // Conversion
#include <eigenheads/tensor.hpp>                     // Index

namespace eigenheads::inline EIGENHEADS_ABI {

// Of loading and of saving; what is not given is found out from the file or the modules.
struct CheckpointOptions {
  // What names in the file begin with. If it is given, no other prefix is tried, and tensors whose
  // names begin otherwise are others'; it is also what saved names begin with. But the head of a
  // language model stands beside the model that a family's own prefix is of.
  std::optional<std::string> prefix{};
  bool strict = true;  // or what is missing stays as it is, and what is unknown is left
  Conversion conversion = Conversion::exact;
  // Whether the head of a language model is its token embedding: config.json's tie_word_embeddings.
  std::optional<bool> tied{};
  // Of rotary layouts and of Keras's kernels, for modules that cannot be asked themselves.
  HeadsLayout heads{};
  // Of tensors, at most, in each of several files that are saved.
  std::uint64_t shard_bytes = 5'000'000'000;
};

namespace detail {

// A parameter's elements: a matrix [rows, columns], or a vector of `rows`.
struct CheckpointShape {
  Index rows, columns;
  bool is_vector;

  explicit CheckpointShape(std::span<const Index> shape) : CheckpointShape(shape, shape[0]) {}
  // Of one that has so many rows, of which a module has some.
  CheckpointShape(std::span<const Index> shape, Index all_rows)
      : rows(all_rows), columns(shape.size() > 1 ? shape[1] : 1), is_vector(shape.size() < 2) {}
};

// Throws std::invalid_argument for heads that there cannot be.
inline void require_heads_layout(const HeadsLayout& heads) {
  const Index D = heads.head_size;
  if (D < 0 || (D == 0 && heads.rotary))
    refuse({"CheckpointOptions::heads: head_size is ", D, "; expected 1 or more",
            heads.rotary ? ", beside a rotary" : ", or 0 to ask the modules"});
  if (!heads.rotary) return;
  const Index rotated = heads.rotary->rotated == 0 ? D : heads.rotary->rotated;
  if (rotated < 2 || rotated > D || rotated % 2 != 0)
    refuse({"CheckpointOptions::heads: rotated is ", rotated,
            "; expected an even number, 2 to head_size, which is ", D});
}

// Of a parameter: as its module says or, where that cannot be asked, as the options do. Throws
// std::invalid_argument if both speak, and say two things.
[[nodiscard]] inline HeadsLayout heads_of(const HeadsLayout& module, const HeadsLayout& options) {
  if (module.head_size == 0 || options.head_size == 0)
    return module.head_size == 0 ? options : module;
  if (options.head_size != module.head_size)
    refuse({"CheckpointOptions::heads: head_size is ", options.head_size, "; expected ",
            module.head_size, ", as the module says"});
  if (!module.rotary) return options;  // which may say of one that stands beside the module
  const auto rotated = [&](const RotaryOptions& rotary) {
    return rotary.rotated == 0 ? module.head_size : rotary.rotated;
  };
  if (!options.rotary || options.rotary->layout != module.rotary->layout ||
      rotated(*options.rotary) != rotated(*module.rotary))
    refuse({"CheckpointOptions::heads: rotary is not the module's; expected that, or no heads"});
  return module;
}

// Whose elements lie by heads in the file, or may.
[[nodiscard]] inline bool is_by_heads(const CheckpointRule& rule) {
  return rule.layout == CheckpointLayout::to_heads || rule.layout == CheckpointLayout::from_heads;
}
// What a sentence says of a tensor whose module's type does not tell of heads.
[[nodiscard]] inline const char* needed_heads(const CheckpointRule& rule) {
  return is_by_heads(rule)
             ? " lies by heads; expected CheckpointOptions::heads, which says their size"
             : " has rows of heads, which a rotary may turn; expected CheckpointOptions::heads, "
               "which says their size and, if there is one, the rotary";
}
// Whether the rows of heads lie in another order in the file.
[[nodiscard]] inline bool is_turned(const CheckpointRule& rule, const HeadsLayout& heads,
                                    RotaryLayout in_file) {
  return rule.is_rotary && heads.rotary && heads.rotary->layout != in_file;
}
// Of what is by heads, or whose rows are turned.
[[nodiscard]] inline bool has_whole_heads(const CheckpointRule& rule, const CheckpointShape& shape,
                                          Index head_size) {
  const bool is_columns = rule.layout == CheckpointLayout::from_heads;
  if (is_columns && shape.is_vector) return true;
  return (is_columns ? shape.columns : shape.rows) % head_size == 0;
}
[[nodiscard]] inline bool is_transposed(const CheckpointRule& rule, const CheckpointShape& shape) {
  return rule.layout != CheckpointLayout::same && !shape.is_vector;
}

// The tensor's shape.
[[nodiscard]] inline std::vector<Index> shape_in_file(const CheckpointRule& rule,
                                                      const CheckpointShape& of, Index head_size) {
  const Index rows = of.rows * rule.parts, columns = of.columns;
  switch (rule.layout) {
    case CheckpointLayout::to_heads:
      if (of.is_vector) return {rows / head_size, head_size};
      return {columns, rows / head_size, head_size};
    case CheckpointLayout::from_heads:
      if (of.is_vector) return {rows};
      return {columns / head_size, head_size, rows};
    case CheckpointLayout::transposed:
      if (of.is_vector) return {rows};
      return {columns, rows};
    case CheckpointLayout::same:
      break;
  }
  if (of.is_vector) return {rows};
  return {rows, columns};
}

// Of each of the module's rows, the file's: the pairs of a head are turned together, and lie as the
// layouts say (RotaryLayout).
[[nodiscard]] inline std::vector<Index> rows_by_rotary(Index rows, const HeadsLayout& heads,
                                                       RotaryLayout in_file) {
  std::vector<Index> from(static_cast<std::size_t>(rows));
  for (Index i = 0; i < rows; ++i) from[static_cast<std::size_t>(i)] = i;
  if (!heads.rotary) return from;
  const Index D = heads.head_size;
  const Index turned = heads.rotary->rotated > 0 ? heads.rotary->rotated : D;
  for (Index head = 0; head + D <= rows; head += D)
    for (Index pair = 0; pair < turned / 2; ++pair) {
      const Index halves[] = {pair, pair + turned / 2}, neighbours[] = {2 * pair, 2 * pair + 1};
      const bool is_halves = in_file == RotaryLayout::half_split;
      for (int i = 0; i < 2; ++i)
        from[static_cast<std::size_t>(head + (is_halves ? neighbours : halves)[i])] =
            head + (is_halves ? halves : neighbours)[i];
    }
  return from;
}

}  // namespace detail
}  // namespace eigenheads::inline EIGENHEADS_ABI

#include <eigenheads/detail/macros_on.inl>
