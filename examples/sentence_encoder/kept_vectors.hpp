// SPDX-License-Identifier: MIT
#pragma once
// The vectors of texts that were encoded before, in a file. A vector depends on its text and the model
// alone, to the bit: so a text that is still there keeps its vector whatever else has changed, and
// only new ones are encoded.
//   metadata   "model": the fingerprint of the model
//   tensors    "texts", [n]: a hash of each text; "vectors", [n, size]
#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <iostream>
#include <span>
#include <stdexcept>
#include <string>
#include <unordered_map>
#include <utility>
#include <vector>

#include <eigenheads/context.hpp>         // Context
#include <eigenheads/io/safetensors.hpp>  // read_safetensors, write_safetensors
#include <eigenheads/random.hpp>          // random_stream
#include <eigenheads/tensor.hpp>          // Tensor, TensorView

#include "../command_line.hpp"  // said
#include "model.hpp"            // Model

namespace sentences {

class KeptVectors {
 public:
  // An empty path: nothing is kept. A file of another model's vectors is as none. What is no such file,
  // or a damaged one, is only replaced in this program's own cache: another name may be a slip.
  KeptVectors(path file, bool is_cache, const Model& model)
      : file_(std::move(file)), model_(std::to_string(model.fingerprint())) {
    std::error_code error;
    if (file_.empty() || !std::filesystem::exists(file_, error)) return;
    try {
      const auto kept = eigenheads::read_safetensors(file_);
      const auto of = kept.metadata().find("model");
      if (of == kept.metadata().end() || kept.names().size() != 2 || !kept.contains("texts") ||
          !kept.contains("vectors"))
        eigenheads::detail::refuse_file(file_, "holds no vectors of texts");
      if (of->second != model_) return;
      const auto texts = kept.tensor<std::uint64_t, 1>("texts");
      vectors_ = kept.tensor<float, 2>("vectors", {texts.size(), model.encoder.size()});
      for (Index i = 0; i < texts.size(); ++i) places_.emplace(texts(i), i);
    } catch (const eigenheads::FileError& damage) {
      if (!is_cache)
        throw std::runtime_error(command_line::said(damage) +
                                 "; expected a file that search has written, or a new one");
      std::cerr << "sentence_encoder: " << command_line::said(damage) << "; made anew\n";
    }
  }

  // One vector a text: [texts.size(), size]. encode(texts) -> [texts.size(), size] is called for those
  // that are new, each once. What is kept from now on is these texts.
  template <class Encode>
  [[nodiscard]] Tensor<float, 2> operator()(const std::vector<std::string>& texts,
                                            const Encode& encode) {
    std::vector<std::string> fresh;
    std::unordered_map<std::uint64_t, Index> places;  // of all texts, in `kept`
    std::vector<std::uint64_t> hashes, order;
    for (const std::string& text : texts) {
      hashes.push_back(eigenheads::random_stream(text));  // FNV-1a
      if (!places.try_emplace(hashes.back(), std::ssize(order)).second) continue;
      order.push_back(hashes.back());
      if (!places_.contains(hashes.back())) fresh.push_back(text);
    }
    num_new_ = fresh.size();
    const Tensor<float, 2> encoded = encode(fresh);
    const Index size = encoded.dimension(1);
    Tensor<float, 2> kept(std::ssize(order), size), result(std::ssize(texts), size);
    Index next = 0;
    for (Index i = 0; i < std::ssize(order); ++i) {
      const auto old = places_.find(order[static_cast<std::size_t>(i)]);
      const float* const from = old == places_.end() ? encoded.data() + next++ * size
                                                     : vectors_.data() + old->second * size;
      std::copy_n(from, size, kept.data() + i * size);
    }
    for (Index i = 0; i < std::ssize(texts); ++i)
      std::copy_n(kept.data() + places.at(hashes[static_cast<std::size_t>(i)]) * size, size,
                  result.data() + i * size);
    if (num_new_ > 0 || order.size() != places_.size()) save(order, kept);
    return result;
  }

  // Of the last call.
  [[nodiscard]] std::size_t num_new() const { return num_new_; }

 private:
  // What cannot be kept is encoded again the next time.
  void save(const std::vector<std::uint64_t>& texts, const Tensor<float, 2>& vectors) const {
    if (file_.empty()) return;
    try {
      eigenheads::Safetensors kept;
      kept.set_metadata("model", model_);
      kept.add("texts", TensorView<std::uint64_t, 1>(texts.data(), {std::ssize(texts)}));
      kept.add("vectors", vectors);
      std::error_code error;
      std::filesystem::create_directories(file_.parent_path(), error);
      eigenheads::write_safetensors(file_, kept);
    } catch (const eigenheads::FileError& error) {
      std::cerr << "sentence_encoder: " << command_line::said(error)
                << "; the vectors are not kept\n";
    }
  }

  path file_;
  std::string model_;
  std::unordered_map<std::uint64_t, Index> places_;  // of a text's hash, in vectors_
  Tensor<float, 2> vectors_{0, 0};
  std::size_t num_new_ = 0;
};

}  // namespace sentences
