// SPDX-License-Identifier: MIT
#pragma once
// What config.json of a Hugging Face folder says of a model, as options of this library's modules:
//   const ModelConfig config = read_model_config("MiniLM");
//   TransformerEncoder<float> encoder(config.encoder);
//   load_checkpoint(SafetensorsFiles("MiniLM"), *config.family, "encoder.", encoder);
// What these modules cannot express is refused by name, and so is every value that is not of the type
// that it should be; what is not said is what the family takes it for, and a note says so where it
// changes results.
// Needs nlohmann-json 3.
#include <algorithm>
#include <filesystem>
#include <optional>
#include <string>
#include <string_view>
#include <system_error>
#include <utility>
#include <vector>

#include <eigenheads/detail/macros_off.inl>
#include <eigenheads/io/checkpoint_families.hpp>  // CheckpointFamily
#include <eigenheads/io/config_fields.hpp>        // ConfigFields
#include <eigenheads/io/rotary_config.hpp>        // RotaryConfigReader
#include <eigenheads/nn/transformer_options.hpp>  // TransformerStackOptions

namespace eigenheads::inline EIGENHEADS_ABI {

struct ModelConfig {
  std::string model_type;  // "bert"
  const CheckpointFamily* family = nullptr;
  TransformerStackOptions encoder{};
  bool is_causal = false;
  Index window = 0;  // a token sees itself and so many before it, less one; 0: all
  Index vocab_size = 0;
  Index num_positions = 0;   // of the table of positions; 0: there is none
  Index first_position = 0;  // of a sequence's first token, in that table
  Index num_types = 0;       // of the table of token types; 0: there is none
  bool embedding_norm = false;
  double embedding_norm_eps = 0;
  Index relative_buckets = 0;  // of MPNet's relative_attention_bias; 0: there is none
  bool tied = false;           // CheckpointOptions::tied
  std::optional<Index> padding_id{};
  std::vector<std::string> notes;
};

namespace detail {

class ModelConfigReader {
 public:
  explicit ModelConfigReader(ConfigFields fields) : fields_(std::move(fields)) {}

  [[nodiscard]] ModelConfig read() {
    const auto type = fields_.text("model_type");
    if (!type) fields_.refuse("there is no model_type");
    config_.model_type = *type;
    // -1, in some files, says that there is none.
    if (const auto id = fields_.integer("pad_token_id", -1); id && *id >= 0)
      config_.padding_id = id;
    if (*type == "bert" || *type == "roberta" || *type == "xlm-roberta" || *type == "camembert")
      read_bert(checkpoint_families::bert, 2);
    else if (*type == "mpnet")
      read_bert(checkpoint_families::mpnet, 0);
    else if (*type == "distilbert")
      read_distilbert();
    else if (*type == "gpt2")
      read_gpt2();
    else if (*type == "llama" || *type == "mistral" || *type == "qwen2")
      read_llama(*type == "qwen2" ? checkpoint_families::qwen2 : checkpoint_families::llama);
    else
      fields_.refuse("model_type",
                     "bert, roberta, xlm-roberta, camembert, mpnet, distilbert, "
                     "gpt2, llama, mistral or qwen2");
    config_.tied = fields_.boolean("tie_word_embeddings").value_or(config_.family->is_tied);
    return std::move(config_);
  }

 private:
  // Counts that every family has, under its own names.
  void read_sizes(const char* size, const char* layers, const char* heads) {
    TransformerLayerOptions& layer = config_.encoder.layer;
    layer.num_hiddens = fields_.required_integer(size);
    layer.num_heads = fields_.required_integer(heads);
    config_.encoder.num_layers = fields_.required_integer(layers);
    config_.vocab_size = fields_.required_integer("vocab_size");
  }
  void require_divided(const char* size, const char* heads) const {
    const TransformerLayerOptions& layer = config_.encoder.layer;
    if (layer.num_hiddens % layer.num_heads != 0)
      fields_.refuse(std::string(size) + " is " + std::to_string(layer.num_hiddens) + " and " +
                     heads + " is " + std::to_string(layer.num_heads) +
                     "; expected a multiple of it");
  }
  void read_activation(const char* name, const char* otherwise) {
    const Activation* const found = find_activation(fields_.text(name).value_or(otherwise));
    if (found == nullptr)
      fields_.refuse(name, "gelu, gelu_new, gelu_fast, gelu_pytorch_tanh, relu, silu or tanh");
    config_.encoder.layer.activation = *found;
  }
  // What must be as it is without another word.
  void require_plain(const char* name, bool plain) const {
    if (fields_.boolean(name).value_or(plain) != plain)
      fields_.refuse(name, std::string(plain ? "true" : "false") +
                               ": the layers of this library have no place for it");
  }

  void read_bert(const CheckpointFamily& family, Index types) {
    config_.family = &family;
    read_sizes("hidden_size", "num_hidden_layers", "num_attention_heads");
    require_divided("hidden_size", "num_attention_heads");
    config_.encoder.layer.feed_forward_size = fields_.required_integer("intermediate_size");
    read_activation("hidden_act", "gelu");
    config_.encoder.layer.norm_eps = fields_.number("layer_norm_eps").value_or(1e-12);
    if (fields_.text("position_embedding_type").value_or("absolute") != "absolute")
      fields_.refuse("position_embedding_type", "\"absolute\"");
    require_plain("is_decoder", false);
    require_plain("add_cross_attention", false);
    config_.num_positions = fields_.required_integer("max_position_embeddings");
    if (types > 0) config_.num_types = fields_.integer("type_vocab_size").value_or(types);
    if (&family == &checkpoint_families::mpnet) {
      config_.first_position = 2;  // whatever pad_token_id says
      config_.relative_buckets = fields_.integer("relative_attention_num_buckets").value_or(32);
      if (config_.relative_buckets != 32)
        fields_.refuse("relative_attention_num_buckets", "32, which positions are counted in");
    } else if (config_.model_type != "bert") {
      if (fields_.has("pad_token_id") && !config_.padding_id)
        fields_.refuse("pad_token_id", "0 or more: positions are counted from it");
      if (!config_.padding_id) config_.padding_id = 1;
      config_.first_position = *config_.padding_id + 1;
    }
    if (config_.first_position >= config_.num_positions)
      fields_.refuse(
          "max_position_embeddings",
          "more than " + std::to_string(config_.first_position) + ", the first token's position");
    config_.embedding_norm = true;
    config_.embedding_norm_eps = config_.encoder.layer.norm_eps;
  }

  void read_distilbert() {
    config_.family = &checkpoint_families::distilbert;
    read_sizes("dim", "n_layers", "n_heads");
    require_divided("dim", "n_heads");
    config_.encoder.layer.feed_forward_size = fields_.required_integer("hidden_dim");
    read_activation("activation", "gelu");
    config_.encoder.layer.norm_eps = 1e-12;
    config_.num_positions = fields_.required_integer("max_position_embeddings");
    config_.embedding_norm = true;
    config_.embedding_norm_eps = 1e-12;
  }

  void read_gpt2() {
    config_.family = &checkpoint_families::gpt2;
    read_sizes("n_embd", "n_layer", "n_head");
    require_divided("n_embd", "n_head");
    TransformerLayerOptions& layer = config_.encoder.layer;
    layer.feed_forward_size = fields_.integer("n_inner").value_or(4 * layer.num_hiddens);
    read_activation("activation_function", "gelu_new");
    layer.norm_eps = fields_.number("layer_norm_epsilon").value_or(1e-5);
    layer.norm_first = true;
    config_.encoder.final_norm = true;
    config_.num_positions = fields_.integer("n_positions").value_or(1024);
    require_plain("is_causal", true);
    config_.is_causal = true;
    require_plain("scale_attn_weights", true);
    require_plain("scale_attn_by_inverse_layer_idx", false);
    require_plain("add_cross_attention", false);
  }

  void read_llama(const CheckpointFamily& family) {
    config_.family = &family;
    read_sizes("hidden_size", "num_hidden_layers", "num_attention_heads");
    TransformerLayerOptions& layer = config_.encoder.layer;
    layer.num_kv_heads =
        or_the_familys("num_key_value_heads", {.mistral = 8, .qwen2 = 32}, layer.num_heads);
    if (layer.num_heads % layer.num_kv_heads != 0)
      fields_.refuse("num_key_value_heads is " + std::to_string(layer.num_kv_heads) +
                     "; expected a divisor of num_attention_heads, " +
                     std::to_string(layer.num_heads));
    if (const auto head_dim = fields_.integer("head_dim"))
      layer.head_size = *head_dim;
    else
      require_divided("hidden_size", "num_attention_heads");
    if (layer.head_size == 0) layer.head_size = layer.num_hiddens / layer.num_heads;
    layer.feed_forward_size = fields_.required_integer("intermediate_size");
    read_activation("hidden_act", "silu");
    layer.norm_eps = fields_.number("rms_norm_eps").value_or(1e-6);
    layer.norm = NormKind::rms_norm;
    layer.norm_first = true;
    layer.gated = true;
    // One bias is all of ours: those that are not in the file are 0.
    layer.bias = &family == &checkpoint_families::qwen2 ||
                 fields_.boolean("attention_bias").value_or(false) ||
                 fields_.boolean("mlp_bias").value_or(false);
    config_.encoder.final_norm = true;
    require_plain("is_causal", true);
    config_.is_causal = true;
    if (config_.model_type == "mistral")
      config_.window = or_the_familys("sliding_window", {.mistral = 4096}, 0);
    if (config_.model_type == "qwen2") require_no_window();
    if (const nlohmann::json* types = fields_.find("layer_types")) {
      const nlohmann::json all = config_.window > 0 ? "sliding_attention" : "full_attention";
      if (!types->is_array() || std::ranges::count(*types, all) != std::ssize(*types))
        fields_.refuse("layer_types", all.dump() + " in every layer");
    }
    const Index max_positions =
        or_the_familys("max_position_embeddings", {.mistral = 131072, .qwen2 = 32768}, 2048);
    layer.rotary = RotaryConfigReader(fields_, config_.notes).read(layer.head_size, max_positions);
  }

  // A Qwen2 may have one in its last layers.
  void require_no_window() const {
    if (!fields_.boolean("use_sliding_window").value_or(false)) return;
    const bool is_none = fields_.is_said("sliding_window") && !fields_.has("sliding_window");
    if (!is_none &&
        fields_.integer("max_window_layers", 0).value_or(28) < config_.encoder.num_layers)
      fields_.refuse("use_sliding_window", "false: a window of some layers has no place here");
  }
  // What a count that is not said stands for in these families; 0: for what it does in a Llama.
  struct Defaults {
    Index mistral = 0, qwen2 = 0;
  };
  // otherwise: of a Llama, and of any of them that says null.
  [[nodiscard]] Index or_the_familys(const char* name, const Defaults& defaults, Index otherwise) {
    if (const auto value = fields_.integer(name)) return *value;
    const Index of_family = config_.model_type == "mistral" ? defaults.mistral
                            : config_.model_type == "qwen2" ? defaults.qwen2
                                                            : 0;
    if (fields_.is_said(name) || of_family == 0) return otherwise;
    config_.notes.push_back(std::string(name) + " is not said: it is taken for " +
                            std::to_string(of_family));
    return of_family;
  }

  ConfigFields fields_;
  ModelConfig config_;
};

}  // namespace detail

// path: such a file, or the folder that it lies in. Throws FileError.
[[nodiscard]] inline ModelConfig read_model_config(const std::filesystem::path& path) {
  detail::require_name(path);
  std::error_code ignored;
  const auto file = std::filesystem::is_directory(path, ignored) ? path / "config.json" : path;
  return detail::ModelConfigReader(ConfigFields(file)).read();
}

}  // namespace eigenheads::inline EIGENHEADS_ABI

#include <eigenheads/detail/macros_on.inl>
