// SPDX-License-Identifier: MIT
// A config.json of any bytes is refused, or gives options that make sense, and of which a layer and
// its rotary can be made, or are refused in a sentence.
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <string>

#include <eigenheads/io/model_config.hpp>
#include <eigenheads/multi_head_attention.hpp>

#include "input.hpp"

namespace {

namespace eh = eigenheads;
using eh::Index;

bool is_count(Index n) { return n >= 1 && n <= Index{1} << 30; }

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* bytes, std::size_t size) {
  const auto path = fuzz::folder() / "config.json";
  fuzz::put(path, fuzz::text_of(bytes, size));
  eh::ModelConfig config;
  if (!fuzz::succeeds<eh::FileError>([&] { config = eh::read_model_config(fuzz::folder()); }))
    return 0;
  const eh::TransformerLayerOptions& layer = config.encoder.layer;
  fuzz::require(config.family != nullptr, "no family");
  fuzz::require(is_count(layer.num_hiddens) && is_count(layer.num_heads) &&
                    is_count(layer.feed_forward_size) && is_count(config.encoder.num_layers) &&
                    is_count(config.vocab_size),
                "a size that is none");
  fuzz::require(layer.norm_eps > 0 && std::isfinite(layer.norm_eps), "an eps that is none");
  fuzz::require(config.window >= 0 && config.num_positions >= 0 && config.first_position >= 0 &&
                    config.num_types >= 0,
                "a count that is none");
  for (const std::string& note : config.notes) fuzz::require(!note.empty(), "an empty note");
  if (layer.num_hiddens > 64 || layer.head_size > 64 || layer.num_heads > 64) return 0;
  if (layer.rotary && layer.rotary->max_positions > 4096) return 0;
  (void)fuzz::succeeds<std::invalid_argument>([&] {
    return eh::MultiHeadAttention<float>({.num_hiddens = layer.num_hiddens,
                                          .num_heads = layer.num_heads,
                                          .num_kv_heads = layer.num_kv_heads,
                                          .head_size = layer.head_size,
                                          .rotary = layer.rotary});
  });
  return 0;
}
