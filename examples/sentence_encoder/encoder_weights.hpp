// SPDX-License-Identifier: MIT
#pragma once
// The weights of an Encoder in the files of Hugging Face's models.
#include <filesystem>

#include <eigenheads/io/checkpoints.hpp>        // load_checkpoint, save_checkpoint
#include <eigenheads/io/safetensors_files.hpp>  // SafetensorsFiles

#include "encoder.hpp"  // Encoder

namespace sentences {

namespace detail {

template <class Parts, class AnyEncoder>
[[nodiscard]] Parts parts_of(AnyEncoder& encoder) {
  Parts parts;
  parts.add("token_embedding.", encoder.words)
      .add("position_embedding.", encoder.positions)
      .add("embedding_norm.", encoder.norm)
      .add("encoder.", encoder.stack);
  if (encoder.config().num_types > 0) parts.add("type_embedding.", encoder.types);
  return parts;
}

}  // namespace detail

// From model.safetensors in the folder, or from several files with an index. Throws
// eigenheads::FileError, and leaves the encoder as it was, unless all weights are there, with the
// shapes that config.json says.
inline void load_weights(Encoder& encoder, const path& folder) {
  static_cast<void>(
      eigenheads::load_checkpoint(eigenheads::SafetensorsFiles(folder), *encoder.config().family,
                                  detail::parts_of<eigenheads::ModuleParts>(encoder)));
}

// As load_weights reads them.
inline void save_weights(const Encoder& encoder, const path& file) {
  eigenheads::save_checkpoint(file, *encoder.config().family,
                              detail::parts_of<eigenheads::ConstModuleParts>(encoder));
}

}  // namespace sentences
