// SPDX-License-Identifier: MIT
#pragma once
// The parameters of a module in a .safetensors file, by their names:
//   save_parameters("encoder.safetensors", encoder);
//   load_parameters("encoder.safetensors", encoder);
// Loading is strict: the file holds these parameters, of these shapes and of the module's scalar
// type, and nothing else, or a FileError names the first tensor that does not fit and the module
// stays as it was. Half-precision weights (F16, BF16) are read into float modules, exactly. For
// another type of module, load one of the file's type and copy_parameters (nn/parameters.hpp).
// Needs nlohmann-json 3.
#include <algorithm>
#include <array>
#include <cstddef>
#include <filesystem>
#include <set>
#include <string>
#include <string_view>
#include <utility>
#include <variant>
#include <vector>

#include <eigenheads/detail/macros_off.inl>
#include <eigenheads/error.hpp>           // refuse
#include <eigenheads/io/file.hpp>         // FileError, refuse_file
#include <eigenheads/io/safetensors.hpp>  // Safetensors, read_safetensors, write_safetensors
#include <eigenheads/parameter.hpp>       // Parameter, HasParameters
#include <eigenheads/tensor.hpp>          // Tensor, TensorView

namespace eigenheads::inline EIGENHEADS_ABI {

// Adds a tensor for every parameter, to what else a checkpoint holds. Throws std::invalid_argument if
// a name is taken (what was added before it stays), std::logic_error while the module is lazy.
template <HasParameters Module>
void add_parameters(Safetensors& file, const Module& module, std::string_view prefix = "") {
  module.for_each_parameter(
      [&]<class T>(const Parameter<T>& parameter) {
        std::vector<typename Parameter<T>::Value> values(
            static_cast<std::size_t>(parameter.size()));
        parameter.copy_to(values);
        const auto shape = parameter.shape();
        if (shape.size() == 1)
          file.add(parameter.name(), TensorView(values.data(), {shape[0]}));
        else
          file.add(parameter.name(), TensorView(values.data(), {shape[0], shape[1]}));
      },
      prefix);
}

namespace detail {

// A parameter, and what it becomes.
template <class T>
struct ReadInto {
  Parameter<T> parameter;
  std::vector<T> values;
};

template <class T>
[[nodiscard]] std::vector<T> read_parameter(const Safetensors& file,
                                            const Parameter<T>& parameter) {
  const auto values = [](const auto& tensor) {
    return std::vector<T>(tensor.data(), tensor.data() + tensor.size());
  };
  const auto shape = parameter.shape();
  if (shape.size() == 1) return values(file.tensor<T, 1>(parameter.name(), {shape[0]}));
  return values(file.tensor<T, 2>(parameter.name(), {shape[0], shape[1]}));
}

}  // namespace detail

// The parameters become those of the file, of which only tensors whose names begin with the prefix
// are looked at: all of them must be parameters. Throws FileError as load_parameters does.
template <HasParameters Module>
void set_parameters(Module& module, const Safetensors& file, std::string_view prefix = "") {
  std::vector<std::variant<detail::ReadInto<float>, detail::ReadInto<double>>> all;
  std::set<std::string, std::less<>> names;
  module.for_each_parameter(
      [&]<class T>(const Parameter<T>& parameter) {
        if (!names.insert(parameter.name()).second)
          detail::refuse({"set_parameters: two parameters are named ", parameter.name()});
        all.push_back(detail::ReadInto<T>{parameter, detail::read_parameter(file, parameter)});
      },
      prefix);
  for (const std::string& name : file.names())
    if (name.starts_with(prefix) && !names.contains(name))
      detail::refuse_file(file.path(), "tensor " + detail::quoted_name(name) +
                                           " is none of the module's parameters");
  for (const auto& any : all)  // takes no memory any more
    std::visit([](const auto& read) { read.parameter.copy_from(read.values); }, any);
}

// Throws FileError, and then leaves `path` as it was, if the file cannot be written.
template <HasParameters Module>
void save_parameters(const std::filesystem::path& path, const Module& module) {
  static_assert(!detail::SharedModule<Module>,
                "This module has a share of the rows: nobody has the whole, to save it.");
  Safetensors file;
  add_parameters(file, module);
  write_safetensors(path, file);
}

// Throws FileError, and then leaves the module as it was, if the file cannot be read or is not one of
// exactly the module's parameters; std::logic_error while the module is lazy. Needs memory for the
// file and another copy of the parameters.
template <HasParameters Module>
void load_parameters(const std::filesystem::path& path, Module& module) {
  set_parameters(module, read_safetensors(path));
}

}  // namespace eigenheads::inline EIGENHEADS_ABI

#include <eigenheads/detail/macros_on.inl>
