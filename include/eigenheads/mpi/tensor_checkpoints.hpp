// SPDX-License-Identifier: MIT
#pragma once
// Modules that are shared out over ranks, from a checkpoint of the whole: each rank reads its rows from
// their places in the files, and nobody ever has all.
//   mpi::TensorParallelEncoder<float> encoder(options, ranks);
//   mpi::load_checkpoint(ranks, "MiniLM", checkpoint_families::bert,
//                        ModuleParts().add("encoder.", encoder));
// A rank reads the headers, its rows of what is shared out, and all of what is not (norms, embeddings);
// of a weight that the file has transposed, its part of each of the file's rows. It takes memory for
// another copy of what it reads. What one rank refuses, all do, and all modules stay as they were.
// Needs nlohmann-json 3.
#include <cstddef>
#include <filesystem>
#include <set>
#include <span>
#include <string>
#include <string_view>
#include <type_traits>
#include <variant>
#include <vector>

#include <eigenheads/detail/macros_off.inl>
#include <eigenheads/io/checkpoints.hpp>        // CheckpointLoading, ModuleParts
#include <eigenheads/io/safetensors.hpp>        // SafetensorsType, safetensors_type_of
#include <eigenheads/io/safetensors_files.hpp>  // SafetensorsFiles
#include <eigenheads/mpi/ranks.hpp>             // Ranks
#include <eigenheads/mpi/tensor_exchange.hpp>   // agree

namespace eigenheads::inline EIGENHEADS_ABI::mpi {

// Whether a parameter is read of a file's type, as eigenheads::load_parameters reads it.
template <class T>
[[nodiscard]] constexpr bool is_of_type(SafetensorsType type) {
  return type == eigenheads::detail::safetensors_type_of<T>() ||
         (std::is_same_v<T, float> && eigenheads::detail::is_narrow_float(type));
}

// As eigenheads::load_checkpoint, of the part that this rank has of each module; modules that every
// rank has whole may be among them. All ranks call it, each with its own parts of the same modules.
inline CheckpointReport load_checkpoint(Ranks& ranks, const std::filesystem::path& path,
                                        const CheckpointFamily& family, const ModuleParts& parts,
                                        const CheckpointOptions& options = {}) {
  CheckpointReport report;
  ranks.together("loading a checkpoint", {{"parameters", std::ssize(parts.parameters())}}, [&] {
    const SafetensorsFiles files(path);
    report = eigenheads::detail::CheckpointLoading(files, family, parts, options).run([&] {
      agree(ranks);
    });
  });
  return report;
}

// The same from a file of save_parameters(path, whole): under the module's own names, of its own type
// (or, of float, F16 or BF16), and of nothing else.
template <eigenheads::detail::SharedModule Module>
void load_parameters(Ranks& ranks, const std::filesystem::path& path, Module& module) {
  ranks.together("loading parameters", {}, [&] {
    const SafetensorsFiles files(path);
    std::vector<std::variant<std::vector<float>, std::vector<double>>> values;
    std::set<std::string, std::less<>> names;
    module.for_each_share([&]<class T>(const Parameter<T>& parameter, Index first, Index all) {
      const std::string& name = parameter.name();
      std::vector<Index> shape(parameter.shape().begin(), parameter.shape().end());
      shape[0] = all;
      if (!is_of_type<T>(files.type(name)) || files.shape(name) != shape)
        eigenheads::detail::refuse_file(
            files.path(), "tensor " + eigenheads::detail::quoted_name(name) + " is " +
                              files.description(name) + "; expected " +
                              name_of(eigenheads::detail::safetensors_type_of<T>()) + ' ' +
                              eigenheads::detail::shape_text(shape));
      std::vector<T> part(static_cast<std::size_t>(parameter.size()));
      const Index columns = shape.size() > 1 ? shape[1] : 1;
      files.read(name, first * columns, std::span(part));
      values.emplace_back(std::move(part));
      names.insert(name);
    });
    for (const std::string& name : files.names())
      if (!names.contains(name))
        eigenheads::detail::refuse_file(files.path(), "tensor " +
                                                          eigenheads::detail::quoted_name(name) +
                                                          " is none of the module's parameters");
    agree(ranks);
    std::size_t next = 0;
    module.for_each_share([&]<class T>(const Parameter<T>& parameter, Index, Index) {
      parameter.copy_from(std::get<std::vector<T>>(values[next++]));
    });
  });
}

}  // namespace eigenheads::inline EIGENHEADS_ABI::mpi

#include <eigenheads/detail/macros_on.inl>
