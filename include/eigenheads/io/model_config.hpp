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
#include <eigenheads/nn/transformer_options.hpp>  // TransformerStackOptions
#include <eigenheads/rotary_options.hpp>          // RotaryOptions

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
    if (config_.model_type != "bert") config_.first_position = config_.padding_id.value_or(1) + 1;
    if (&family == &checkpoint_families::mpnet)
      config_.relative_buckets = fields_.integer("relative_attention_num_buckets").value_or(32);
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
    config_.is_causal = true;
    require_plain("scale_attn_weights", true);
    require_plain("scale_attn_by_inverse_layer_idx", false);
    require_plain("add_cross_attention", false);
  }

  void read_llama(const CheckpointFamily& family) {
    config_.family = &family;
    read_sizes("hidden_size", "num_hidden_layers", "num_attention_heads");
    TransformerLayerOptions& layer = config_.encoder.layer;
    layer.num_kv_heads = fields_.integer("num_key_value_heads").value_or(layer.num_heads);
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
    config_.is_causal = true;
    const bool slides =
        config_.model_type == "mistral" || fields_.boolean("use_sliding_window").value_or(false);
    if (slides) config_.window = fields_.integer("sliding_window").value_or(0);
    if (config_.model_type == "qwen2" && config_.window > 0)
      fields_.refuse("use_sliding_window", "false: a window of some layers has no place here");
    if (const nlohmann::json* types = fields_.find("layer_types")) {
      const nlohmann::json all = config_.window > 0 ? "sliding_attention" : "full_attention";
      if (!types->is_array() || std::ranges::count(*types, all) != std::ssize(*types))
        fields_.refuse("layer_types", all.dump() + " in every layer");
    }
    read_rotary();
  }

  void read_rotary() {
    TransformerLayerOptions& layer = config_.encoder.layer;
    RotaryOptions& rotary = layer.rotary.emplace();
    rotary.max_positions = fields_.integer("max_position_embeddings").value_or(2048);
    // Newer files say all of it in rope_parameters, older ones the base by itself.
    const auto parameters = fields_.object("rope_parameters");
    const auto scaling = parameters ? parameters : fields_.object("rope_scaling");
    auto base = scaling ? scaling->number("rope_theta") : std::nullopt;
    if (!base) base = fields_.number("rope_theta");
    if (!base) config_.notes.push_back("rope_theta is not said: it is taken for 10000");
    rotary.base = base.value_or(10000);
    const bool inside = scaling && scaling->has("partial_rotary_factor");
    const ConfigFields& fields = inside ? *scaling : fields_;
    if (const auto part = fields.number("partial_rotary_factor")) {
      rotary.rotated = static_cast<Index>(static_cast<double>(layer.head_size) * *part);
      if (*part > 1 || rotary.rotated < 2)
        fields.refuse("partial_rotary_factor", "at most 1, and two numbers of a head or more");
    }
    if (scaling) read_scaling(*scaling, rotary);
  }

  void read_scaling(const ConfigFields& scaling, RotaryOptions& rotary) {
    const char* const key = scaling.has("rope_type") ? "rope_type" : "type";
    const std::string type = scaling.text(key).value_or("default");
    const auto original = [&] {
      if (!scaling.has("original_max_position_embeddings"))
        config_.notes.push_back(
            "original_max_position_embeddings is not said: it is taken for "
            "max_position_embeddings, " +
            std::to_string(rotary.max_positions));
      return scaling.integer("original_max_position_embeddings").value_or(rotary.max_positions);
    };
    if (type == "default") {
      if (scaling.has("factor") && scaling.number("factor") != 1)
        scaling.refuse("factor", scaling.has(key) ? "none where nothing is scaled"
                                                  : "a rope_type that says what it is of");
    } else if (type == "linear") {
      rotary.scaling = LinearScaling{scaling.required_number("factor")};
    } else if (type == "dynamic") {
      // As long as no sequence is longer than those it was trained on, nothing is scaled; longer ones
      // are refused, unless max_positions and length are made those of the sequences to come.
      rotary.scaling = DynamicNtkScaling{.factor = scaling.required_number("factor"),
                                         .original_positions = rotary.max_positions,
                                         .length = rotary.max_positions};
    } else if (type == "yarn") {
      YarnScaling yarn{.factor = scaling.required_number("factor"),
                       .original_positions = original()};
      yarn.beta_fast = scaling.number("beta_fast").value_or(yarn.beta_fast);
      yarn.beta_slow = scaling.number("beta_slow").value_or(yarn.beta_slow);
      yarn.attention_factor = scaling.number("attention_factor");
      yarn.mscale = scaling.number("mscale");
      yarn.mscale_all_dim = scaling.number("mscale_all_dim");
      yarn.truncate = scaling.boolean("truncate").value_or(true);
      rotary.scaling = yarn;
    } else if (type == "llama3") {
      rotary.scaling = Llama3Scaling{
          .factor = scaling.required_number("factor"),
          .low_frequency_factor = scaling.required_number("low_freq_factor"),
          .high_frequency_factor = scaling.required_number("high_freq_factor"),
          .original_positions = scaling.required_integer("original_max_position_embeddings")};
    } else {
      scaling.refuse(key, "default, linear, dynamic, yarn or llama3");
    }
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
