// SPDX-License-Identifier: MIT
#pragma once
// Parameters of modules from the files of other libraries, and back:
//   TransformerEncoder<float> encoder({...});
//   std::cout << load_checkpoint(SafetensorsFiles("MiniLM"), checkpoint_families::bert, "encoder.",
//                                encoder);
//   save_checkpoint("pruned.safetensors", checkpoint_families::bert, "encoder.", encoder);
// The name before the module is what it is called in a whole model of that family
// (checkpoint_families.hpp); "" stands for the whole. Everything is read and checked before anything is
// written, which takes memory for another copy of the parameters. Loading is strict: every parameter
// has its tensor, every tensor of these modules its parameter, all of the shapes that the rules say.
// Needs nlohmann-json 3.
#include <filesystem>
#include <string_view>
#include <utility>

#include <eigenheads/detail/macros_off.inl>
#include <eigenheads/io/checkpoint_families.hpp>  // checkpoint_families
#include <eigenheads/io/checkpoint_loading.hpp>   // CheckpointLoading, CheckpointOptions
#include <eigenheads/io/checkpoint_parts.hpp>     // ModuleParts
#include <eigenheads/io/checkpoint_report.hpp>    // CheckpointReport
#include <eigenheads/io/checkpoint_saving.hpp>    // CheckpointSaving
#include <eigenheads/io/safetensors_files.hpp>    // SafetensorsFiles
#include <eigenheads/io/safetensors_shards.hpp>   // write_safetensors_shards

namespace eigenheads::inline EIGENHEADS_ABI {

// Throws FileError, and leaves all modules as they were, if a tensor is missing, of another shape, of a
// type that is not converted, found twice, or unknown.
inline CheckpointReport load_checkpoint(const SafetensorsFiles& files,
                                        const CheckpointFamily& family, const ModuleParts& parts,
                                        const CheckpointOptions& options = {}) {
  return detail::CheckpointLoading(files, family, parts, options).run();
}
template <HasParameters Module>
CheckpointReport load_checkpoint(const SafetensorsFiles& files, const CheckpointFamily& family,
                                 std::string_view name, Module& module,
                                 const CheckpointOptions& options = {}) {
  return load_checkpoint(files, family, ModuleParts().add(name, module), options);
}

// Throws FileError if the file cannot be written, and then leaves it as it was;
// std::invalid_argument for a parameter that the family has no place for. A path that ends in .json is
// that of an index, model.safetensors.index.json: then there are several files beside it, of at most
// CheckpointOptions::shard_bytes each (write_safetensors_shards says more).
inline void save_checkpoint(const std::filesystem::path& path, const CheckpointFamily& family,
                            const ConstModuleParts& parts, const CheckpointOptions& options = {}) {
  Safetensors contents = detail::CheckpointSaving(family, parts, options).contents();
  if (path.extension() == ".json")
    write_safetensors_shards(path, std::move(contents), options.shard_bytes);
  else
    write_safetensors(path, contents);
}
template <HasParameters Module>
void save_checkpoint(const std::filesystem::path& path, const CheckpointFamily& family,
                     std::string_view name, const Module& module,
                     const CheckpointOptions& options = {}) {
  save_checkpoint(path, family, ConstModuleParts().add(name, module), options);
}

}  // namespace eigenheads::inline EIGENHEADS_ABI

#include <eigenheads/detail/macros_on.inl>
