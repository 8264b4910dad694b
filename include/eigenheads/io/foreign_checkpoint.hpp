// SPDX-License-Identifier: MIT
#pragma once
// Files of weights that are no .safetensors files, and how their owner makes one of them. Pickled
// files are programs, which run whatever they say when they are read: none is opened here.
#include <algorithm>
#include <array>
#include <cstddef>
#include <filesystem>
#include <string>
#include <string_view>
#include <system_error>

#include <eigenheads/detail/macros_off.inl>
#include <eigenheads/io/positioned_file.hpp>  // PositionedFile, refuse_file

namespace eigenheads::inline EIGENHEADS_ABI::detail {

[[nodiscard]] inline std::string torch_conversion(const std::filesystem::path& path) {
  return "a file that PyTorch pickled; in Python, this makes model.safetensors of it:\n"
         "  import torch, safetensors.torch\n"
         "  safetensors.torch.save_file({k: x.clone().contiguous() for k, x in torch.load(\"" +
         path.string() + "\", map_location=\"cpu\", weights_only=True).items()}, \"" +
         (path.parent_path() / "model.safetensors").string() + "\")";
}

// Refuses what begins as such a file does. A .safetensors file cannot: its first eight bytes are a
// length below 100,000,000, its ninth is '{'.
inline void require_not_foreign(const PositionedFile& file) {
  std::array<char, 9> begin{};
  const std::size_t count =
      static_cast<std::size_t>((std::min)(file.size(), std::uint64_t{begin.size()}));
  file.read_at(0, begin.data(), count);
  const std::string_view text(begin.data(), count);
  if (count == begin.size() && text.back() == '{') return;
  const bool is_pickle = count > 1 && text[0] == '\x80' && text[1] >= 2 && text[1] <= 5;
  const std::string extension = file.path().extension().string();
  if (text.starts_with("PK\3\4") && extension == ".npz")
    refuse_file(file.path(),
                "an archive of NumPy's; in Python, this makes a .safetensors file of it:\n"
                "  import numpy, safetensors.numpy\n"
                "  safetensors.numpy.save_file(dict(numpy.load(\"" +
                    file.path().string() + "\")), \"model.safetensors\")");
  if (text.starts_with("PK\3\4") && extension == ".keras")
    refuse_file(file.path(),
                "a model of Keras; expected the .safetensors file of its weights:\n"
                "  import keras, safetensors.numpy\n"
                "  safetensors.numpy.save_file({w.path: w.numpy() for w in "
                "keras.saving.load_model(\"" +
                    file.path().string() + "\").weights}, \"model.safetensors\")");
  if (text.starts_with("PK\3\4") || is_pickle)
    refuse_file(file.path(), torch_conversion(file.path()));
  if (text.starts_with("\x89HDF"))
    refuse_file(file.path(),
                "an HDF5 file, as Keras writes them; in Python, with the model that it "
                "is of, this makes a .safetensors file:\n"
                "  import safetensors.numpy; model.load_weights(\"" +
                    file.path().string() +
                    "\")\n"
                    "  safetensors.numpy.save_file({w.path: w.numpy() for w in "
                    "model.weights}, \"model.safetensors\")");
  if (text.starts_with("GGUF"))
    refuse_file(file.path(), "a GGUF file; expected the .safetensors files that it was made of");
}

// The file of a folder that holds a model's weights, or the index of several.
[[nodiscard]] inline std::filesystem::path weights_in(const std::filesystem::path& folder) {
  std::error_code ignored;
  for (const char* name : {"model.safetensors", "model.safetensors.index.json"})
    if (std::filesystem::exists(folder / name, ignored)) return folder / name;
  for (const char* name : {"pytorch_model.bin", "pytorch_model.bin.index.json"})
    if (std::filesystem::exists(folder / name, ignored))
      refuse_file(folder / name, torch_conversion(folder / "pytorch_model.bin"));
  refuse_file(folder, "a folder without model.safetensors or model.safetensors.index.json");
}

}  // namespace eigenheads::inline EIGENHEADS_ABI::detail

#include <eigenheads/detail/macros_on.inl>
