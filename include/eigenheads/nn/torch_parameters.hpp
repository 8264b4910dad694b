// SPDX-License-Identifier: MIT
#pragma once
// The parameters of a torch.nn.TransformerEncoderLayer or TransformerDecoderLayer, or of a stack of
// such layers, as Python writes them with
//   safetensors.torch.save_file(module.state_dict(), "module.safetensors")
// read into a module of the same sizes:
//   load_torch_parameters(layer, read_safetensors("module.safetensors"));
// Needs nlohmann-json 3 (io/safetensors.hpp).
#include <array>
#include <cstddef>
#include <set>
#include <span>
#include <string>
#include <string_view>
#include <type_traits>
#include <variant>
#include <vector>

#include <eigenheads/detail/macros_off.inl>
#include <eigenheads/io/checkpoint_families.hpp>  // torch_transformer
#include <eigenheads/io/checkpoint_rules.hpp>     // CheckpointRule, match_name, filled
#include <eigenheads/io/module.hpp>               // ReadInto
#include <eigenheads/io/safetensors.hpp>          // Safetensors
#include <eigenheads/parameter.hpp>               // Parameter, HasParameters
#include <eigenheads/shape.hpp>                   // refuse

namespace eigenheads::inline EIGENHEADS_ABI {

// Where PyTorch keeps one of our parameters: in a parameter of that name, whose rows are cut into so
// many parts. The projections of queries, keys and values lie one below the other.
struct TorchParameter {
  std::string name;
  Index part = 0, parts = 1;
};

// name: as for_each_parameter says it, "layers.0.self_attention.W_q.weight".
[[nodiscard]] inline TorchParameter torch_parameter(std::string_view name) {
  for (const CheckpointRule& rule : checkpoint_families::torch_transformer.rules)
    if (const auto match = detail::match_name(rule.parameter, name))
      return {detail::filled(rule.name, *match), rule.part, rule.parts};
  return {std::string(name)};
}

namespace detail {

// All elements of a tensor of that shape, whatever its rank. float is also read as double.
template <Scalar T>
[[nodiscard]] std::vector<T> read_elements(const Safetensors& file, const std::string& name,
                                           std::span<const Index> shape) {
  std::vector<T> elements;
  const auto read = [&]<class From, std::size_t Rank>() {
    std::array<Index, Rank> expected;
    std::copy_n(shape.begin(), Rank, expected.begin());
    const auto tensor = file.tensor<From, static_cast<int>(Rank)>(name, expected);
    elements.assign(tensor.data(), tensor.data() + tensor.size());
  };
  const auto read_as = [&]<class From>() {
    if (shape.size() == 1)
      read.template operator()<From, 1>();
    else
      read.template operator()<From, 2>();
  };
  if (std::is_same_v<T, double> && file.type(name) == SafetensorsType::float32)
    read_as.template operator()<float>();
  else
    read_as.template operator()<T>();
  return elements;
}

}  // namespace detail

// Every parameter of the module, from the one of the file that torch_parameter says, its name with
// the prefix before it. Throws FileError, and leaves the module as it was, unless all are there with
// their shapes, and nothing else whose name begins with the prefix.
template <HasParameters Module>
void load_torch_parameters(Module& module, const Safetensors& file, std::string_view prefix = "") {
  std::set<std::string> others;
  for (const auto& name : file.names())
    if (std::string_view(name).substr(0, prefix.size()) == prefix) others.insert(name);
  std::vector<std::variant<detail::ReadInto<float>, detail::ReadInto<double>>> all;
  const auto read_one = [&]<class T>(const Parameter<T>& parameter) {
    const TorchParameter from = torch_parameter(parameter.name());
    std::array<Index, 2> shape{};
    std::ranges::copy(parameter.shape(), shape.begin());
    shape[0] *= from.parts;
    const std::string name = std::string(prefix) + from.name;
    const std::vector<T> elements =
        detail::read_elements<T>(file, name, std::span(shape).first(parameter.shape().size()));
    const auto begin = elements.begin() + from.part * parameter.size();
    all.push_back(detail::ReadInto<T>{parameter, {begin, begin + parameter.size()}});
    others.erase(name);
  };
  module.for_each_parameter(read_one);
  if (!others.empty())
    detail::refuse<FileError>(
        {"the file has ", *others.begin(), ", which is no parameter of the module"});
  for (const auto& any : all)  // takes no memory any more
    std::visit([](const auto& read) { read.parameter.copy_from(read.values); }, any);
}

}  // namespace eigenheads::inline EIGENHEADS_ABI

#include <eigenheads/detail/macros_on.inl>
