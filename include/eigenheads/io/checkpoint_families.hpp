// SPDX-License-Identifier: MIT
#pragma once
// Names of parameters in the files of other libraries, and in a model of this one that is made of
//   token_embedding, position_embedding, type_embedding   Embedding
//   embedding_norm                                        LayerNorm, of their sum
//   encoder                                               TransformerEncoder, causal or not
//   pooler, lm_head                                       Linear
// or of some of them (checkpoints.hpp says how a part is loaded by itself).
#include <array>
#include <string_view>

#include <eigenheads/detail/macros_off.inl>
#include <eigenheads/io/checkpoint_rules.hpp>  // CheckpointFamily, CheckpointRule

namespace eigenheads::inline EIGENHEADS_ABI {

namespace detail::checkpoint_tables {

using enum CheckpointLayout;
using enum CheckpointPresence;
using Rule = CheckpointRule;

// The last column of what is packed: which of how many.
inline constexpr std::array torch_attention{
    Rule{"{path}in_proj_weight", "{path}W_q.weight", same, required, 0, 3},
    Rule{"{path}in_proj_weight", "{path}W_k.weight", same, required, 1, 3},
    Rule{"{path}in_proj_weight", "{path}W_v.weight", same, required, 2, 3},
    Rule{"{path}in_proj_bias", "{path}W_q.bias", same, required, 0, 3},
    Rule{"{path}in_proj_bias", "{path}W_k.bias", same, required, 1, 3},
    Rule{"{path}in_proj_bias", "{path}W_v.bias", same, required, 2, 3},
    // Instead of in_proj_weight, where keys or values have another size.
    Rule{"{path}q_proj_weight", "{path}W_q.weight"},
    Rule{"{path}k_proj_weight", "{path}W_k.weight"},
    Rule{"{path}v_proj_weight", "{path}W_v.weight"},
    Rule{"{path}out_proj.*", "{path}W_o.*"},
    Rule{"{path}bias_k", "add_bias_kv=True has no place in a MultiHeadAttention", same, refused},
    Rule{"{path}bias_v", "add_bias_kv=True has no place in a MultiHeadAttention", same, refused},
};

// Layers, stacks of them and torch.nn.Transformer.
inline constexpr std::array torch_transformer{
    Rule{"{path}self_attn.in_proj_weight", "{path}self_attention.W_q.weight", same, required, 0, 3},
    Rule{"{path}self_attn.in_proj_weight", "{path}self_attention.W_k.weight", same, required, 1, 3},
    Rule{"{path}self_attn.in_proj_weight", "{path}self_attention.W_v.weight", same, required, 2, 3},
    Rule{"{path}self_attn.in_proj_bias", "{path}self_attention.W_q.bias", same, required, 0, 3},
    Rule{"{path}self_attn.in_proj_bias", "{path}self_attention.W_k.bias", same, required, 1, 3},
    Rule{"{path}self_attn.in_proj_bias", "{path}self_attention.W_v.bias", same, required, 2, 3},
    Rule{"{path}self_attn.out_proj.*", "{path}self_attention.W_o.*"},
    Rule{"{path}multihead_attn.in_proj_weight", "{path}cross_attention.W_q.weight", same, required,
         0, 3},
    Rule{"{path}multihead_attn.in_proj_weight", "{path}cross_attention.W_k.weight", same, required,
         1, 3},
    Rule{"{path}multihead_attn.in_proj_weight", "{path}cross_attention.W_v.weight", same, required,
         2, 3},
    Rule{"{path}multihead_attn.in_proj_bias", "{path}cross_attention.W_q.bias", same, required, 0,
         3},
    Rule{"{path}multihead_attn.in_proj_bias", "{path}cross_attention.W_k.bias", same, required, 1,
         3},
    Rule{"{path}multihead_attn.in_proj_bias", "{path}cross_attention.W_v.bias", same, required, 2,
         3},
    Rule{"{path}multihead_attn.out_proj.*", "{path}cross_attention.W_o.*"},
    Rule{"{path}linear1.*", "{path}feed_forward.up.*"},
    Rule{"{path}linear2.*", "{path}feed_forward.down.*"},
    Rule{"{path}norm1.*", "{path}norm1.*"},
    Rule{"{path}norm2.*", "{path}norm2.*"},
    Rule{"{path}norm3.*", "{path}norm3.*"},
    Rule{"{path}norm.*", "{path}norm.*"},
};

// And RoBERTa, whose positions begin at 2 (padding_idx + 1).
inline constexpr std::array bert{
    Rule{"embeddings.word_embeddings.weight", "token_embedding.weight"},
    Rule{"embeddings.position_embeddings.weight", "position_embedding.weight"},
    Rule{"embeddings.token_type_embeddings.weight", "type_embedding.weight"},
    Rule{"embeddings.LayerNorm.*", "embedding_norm.*"},
    Rule{"embeddings.position_ids", "", same, ignored},
    Rule{"embeddings.token_type_ids", "", same, ignored},
    Rule{"encoder.layer.{layer}.attention.self.query.*",
         "encoder.layers.{layer}.self_attention.W_q.*"},
    Rule{"encoder.layer.{layer}.attention.self.key.*",
         "encoder.layers.{layer}.self_attention.W_k.*"},
    Rule{"encoder.layer.{layer}.attention.self.value.*",
         "encoder.layers.{layer}.self_attention.W_v.*"},
    Rule{"encoder.layer.{layer}.attention.output.dense.*",
         "encoder.layers.{layer}.self_attention.W_o.*"},
    Rule{"encoder.layer.{layer}.attention.output.LayerNorm.*", "encoder.layers.{layer}.norm1.*"},
    Rule{"encoder.layer.{layer}.intermediate.dense.*", "encoder.layers.{layer}.feed_forward.up.*"},
    Rule{"encoder.layer.{layer}.output.dense.*", "encoder.layers.{layer}.feed_forward.down.*"},
    Rule{"encoder.layer.{layer}.output.LayerNorm.*", "encoder.layers.{layer}.norm2.*"},
    Rule{"encoder.layer.{layer}.attention.self.distance_embedding.weight",
         "relative positions of keys have no place in a MultiHeadAttention", same, refused},
    Rule{"pooler.dense.*", "pooler.*", same, optional},
    // What it was trained with.
    Rule{"cls.predictions.bias", "cls.predictions.bias", same, optional},
    Rule{"cls.predictions.transform.dense.*", "cls.predictions.transform.dense.*", same, optional},
    Rule{"cls.predictions.transform.LayerNorm.*", "cls.predictions.transform.norm.*", same,
         optional},
    Rule{"cls.predictions.decoder.*", "cls.predictions.decoder.*", same, optional},
    Rule{"cls.seq_relationship.*", "cls.seq_relationship.*", same, optional},
    Rule{"lm_head.bias", "lm_head.bias", same, optional},
    Rule{"lm_head.dense.*", "lm_head.dense.*", same, optional},
    Rule{"lm_head.layer_norm.*", "lm_head.norm.*", same, optional},
    Rule{"lm_head.decoder.*", "lm_head.decoder.*", same, optional},
};

inline constexpr std::array distilbert{
    Rule{"embeddings.word_embeddings.weight", "token_embedding.weight"},
    Rule{"embeddings.position_embeddings.weight", "position_embedding.weight"},
    Rule{"embeddings.LayerNorm.*", "embedding_norm.*"},
    Rule{"embeddings.position_ids", "", same, ignored},
    Rule{"transformer.layer.{layer}.attention.q_lin.*",
         "encoder.layers.{layer}.self_attention.W_q.*"},
    Rule{"transformer.layer.{layer}.attention.k_lin.*",
         "encoder.layers.{layer}.self_attention.W_k.*"},
    Rule{"transformer.layer.{layer}.attention.v_lin.*",
         "encoder.layers.{layer}.self_attention.W_v.*"},
    Rule{"transformer.layer.{layer}.attention.out_lin.*",
         "encoder.layers.{layer}.self_attention.W_o.*"},
    Rule{"transformer.layer.{layer}.sa_layer_norm.*", "encoder.layers.{layer}.norm1.*"},
    Rule{"transformer.layer.{layer}.ffn.lin1.*", "encoder.layers.{layer}.feed_forward.up.*"},
    Rule{"transformer.layer.{layer}.ffn.lin2.*", "encoder.layers.{layer}.feed_forward.down.*"},
    Rule{"transformer.layer.{layer}.output_layer_norm.*", "encoder.layers.{layer}.norm2.*"},
    // What it was trained with.
    Rule{"vocab_transform.*", "vocab_transform.*", same, optional},
    Rule{"vocab_layer_norm.*", "vocab_norm.*", same, optional},
    Rule{"vocab_projector.*", "vocab_projector.*", same, optional},
};

// Its heads add relative_attention_bias[bucket of key - query, head] to their scores, which a model
// hands to the encoder as a ScoreBias.
inline constexpr std::array mpnet{
    Rule{"embeddings.word_embeddings.weight", "token_embedding.weight"},
    Rule{"embeddings.position_embeddings.weight", "position_embedding.weight"},
    Rule{"embeddings.LayerNorm.*", "embedding_norm.*"},
    Rule{"embeddings.position_ids", "", same, ignored},
    Rule{"encoder.layer.{layer}.attention.attn.q.*", "encoder.layers.{layer}.self_attention.W_q.*"},
    Rule{"encoder.layer.{layer}.attention.attn.k.*", "encoder.layers.{layer}.self_attention.W_k.*"},
    Rule{"encoder.layer.{layer}.attention.attn.v.*", "encoder.layers.{layer}.self_attention.W_v.*"},
    Rule{"encoder.layer.{layer}.attention.attn.o.*", "encoder.layers.{layer}.self_attention.W_o.*"},
    Rule{"encoder.layer.{layer}.attention.LayerNorm.*", "encoder.layers.{layer}.norm1.*"},
    Rule{"encoder.layer.{layer}.intermediate.dense.*", "encoder.layers.{layer}.feed_forward.up.*"},
    Rule{"encoder.layer.{layer}.output.dense.*", "encoder.layers.{layer}.feed_forward.down.*"},
    Rule{"encoder.layer.{layer}.output.LayerNorm.*", "encoder.layers.{layer}.norm2.*"},
    Rule{"encoder.relative_attention_bias.weight", "relative_attention_bias.weight"},
    Rule{"pooler.dense.*", "pooler.*", same, optional},
};

inline constexpr std::array gpt2{
    Rule{"wte.weight", "token_embedding.weight"},
    Rule{"wpe.weight", "position_embedding.weight"},
    Rule{"h.{layer}.ln_1.*", "encoder.layers.{layer}.norm1.*"},
    Rule{"h.{layer}.attn.c_attn.*", "encoder.layers.{layer}.self_attention.W_q.*", transposed,
         required, 0, 3},
    Rule{"h.{layer}.attn.c_attn.*", "encoder.layers.{layer}.self_attention.W_k.*", transposed,
         required, 1, 3},
    Rule{"h.{layer}.attn.c_attn.*", "encoder.layers.{layer}.self_attention.W_v.*", transposed,
         required, 2, 3},
    Rule{"h.{layer}.attn.c_proj.*", "encoder.layers.{layer}.self_attention.W_o.*", transposed},
    Rule{"h.{layer}.attn.bias", "", same, ignored},  // the causal mask
    Rule{"h.{layer}.attn.masked_bias", "", same, ignored},
    Rule{"h.{layer}.ln_2.*", "encoder.layers.{layer}.norm2.*"},
    Rule{"h.{layer}.mlp.c_fc.*", "encoder.layers.{layer}.feed_forward.up.*", transposed},
    Rule{"h.{layer}.mlp.c_proj.*", "encoder.layers.{layer}.feed_forward.down.*", transposed},
    Rule{"ln_f.*", "encoder.norm.*"},
    Rule{"lm_head.weight", "lm_head.weight", same, tied},
};

// Mistral, and others without biases, are Llamas too.
inline constexpr std::array llama{
    Rule{"embed_tokens.weight", "token_embedding.weight"},
    Rule{"layers.{layer}.input_layernorm.weight", "encoder.layers.{layer}.norm1.weight"},
    Rule{"layers.{layer}.self_attn.q_proj.weight",
         "encoder.layers.{layer}.self_attention.W_q.weight", same, required, 0, 1, true},
    Rule{"layers.{layer}.self_attn.k_proj.weight",
         "encoder.layers.{layer}.self_attention.W_k.weight", same, required, 0, 1, true},
    Rule{"layers.{layer}.self_attn.v_proj.weight",
         "encoder.layers.{layer}.self_attention.W_v.weight"},
    Rule{"layers.{layer}.self_attn.o_proj.weight",
         "encoder.layers.{layer}.self_attention.W_o.weight"},
    Rule{"layers.{layer}.self_attn.q_proj.bias", "encoder.layers.{layer}.self_attention.W_q.bias",
         same, zero, 0, 1, true},
    Rule{"layers.{layer}.self_attn.k_proj.bias", "encoder.layers.{layer}.self_attention.W_k.bias",
         same, zero, 0, 1, true},
    Rule{"layers.{layer}.self_attn.v_proj.bias", "encoder.layers.{layer}.self_attention.W_v.bias",
         same, zero},
    Rule{"layers.{layer}.self_attn.o_proj.bias", "encoder.layers.{layer}.self_attention.W_o.bias",
         same, zero},
    Rule{"layers.{layer}.self_attn.rotary_emb.inv_freq", "", same, ignored},
    Rule{"layers.{layer}.self_attn.q_norm.weight",
         "norms of queries and keys have no place in a MultiHeadAttention", same, refused},
    Rule{"layers.{layer}.self_attn.k_norm.weight",
         "norms of queries and keys have no place in a MultiHeadAttention", same, refused},
    Rule{"layers.{layer}.post_attention_layernorm.weight", "encoder.layers.{layer}.norm2.weight"},
    Rule{"layers.{layer}.mlp.gate_proj.weight", "encoder.layers.{layer}.feed_forward.gate.weight"},
    Rule{"layers.{layer}.mlp.up_proj.weight", "encoder.layers.{layer}.feed_forward.up.weight"},
    Rule{"layers.{layer}.mlp.down_proj.weight", "encoder.layers.{layer}.feed_forward.down.weight"},
    Rule{"layers.{layer}.mlp.gate_proj.bias", "encoder.layers.{layer}.feed_forward.gate.bias", same,
         zero},
    Rule{"layers.{layer}.mlp.up_proj.bias", "encoder.layers.{layer}.feed_forward.up.bias", same,
         zero},
    Rule{"layers.{layer}.mlp.down_proj.bias", "encoder.layers.{layer}.feed_forward.down.bias", same,
         zero},
    Rule{"norm.weight", "encoder.norm.weight"},
    Rule{"lm_head.weight", "lm_head.weight", same, tied},
};

// A Llama whose queries, keys and values have biases, and nothing else: a model of ours has them in all
// projections, those that Qwen has not being 0, which changes no bit.
inline constexpr std::array qwen2 = [] {
  auto rules = llama;
  for (Rule& rule : rules)
    if (rule.presence == zero) {
      const bool is_there = rule.name.find("q_proj") != rule.name.npos ||
                            rule.name.find("k_proj") != rule.name.npos ||
                            rule.name.find("v_proj") != rule.name.npos;
      rule.presence = is_there ? required : always_zero;
    }
  return rules;
}();

// keras.layers.MultiHeadAttention and GroupQueryAttention, by the paths of their variables.
inline constexpr std::array keras_attention{
    Rule{"query/kernel", "W_q.weight", to_heads},
    Rule{"key/kernel", "W_k.weight", to_heads},
    Rule{"value/kernel", "W_v.weight", to_heads},
    Rule{"attention_output/kernel", "W_o.weight", from_heads},
    Rule{"query/bias", "W_q.bias", to_heads},
    Rule{"key/bias", "W_k.bias", to_heads},
    Rule{"value/bias", "W_v.bias", to_heads},
    Rule{"attention_output/bias", "W_o.bias"},
};

inline constexpr std::array d2l_attention{
    Rule{"W_q.*", "W_q.*"},
    Rule{"W_k.*", "W_k.*"},
    Rule{"W_v.*", "W_v.*"},
    Rule{"W_o.*", "W_o.*"},
};

// The TransformerEncoder of the book, whose projections have no biases unless use_bias says so.
inline constexpr std::array d2l_transformer_encoder{
    Rule{"embedding.weight", "token_embedding.weight"},
    Rule{"blks.block{layer}.attention.W_q.weight",
         "encoder.layers.{layer}.self_attention.W_q.weight"},
    Rule{"blks.block{layer}.attention.W_k.weight",
         "encoder.layers.{layer}.self_attention.W_k.weight"},
    Rule{"blks.block{layer}.attention.W_v.weight",
         "encoder.layers.{layer}.self_attention.W_v.weight"},
    Rule{"blks.block{layer}.attention.W_o.weight",
         "encoder.layers.{layer}.self_attention.W_o.weight"},
    Rule{"blks.block{layer}.attention.W_q.bias", "encoder.layers.{layer}.self_attention.W_q.bias",
         same, zero},
    Rule{"blks.block{layer}.attention.W_k.bias", "encoder.layers.{layer}.self_attention.W_k.bias",
         same, zero},
    Rule{"blks.block{layer}.attention.W_v.bias", "encoder.layers.{layer}.self_attention.W_v.bias",
         same, zero},
    Rule{"blks.block{layer}.attention.W_o.bias", "encoder.layers.{layer}.self_attention.W_o.bias",
         same, zero},
    Rule{"blks.block{layer}.addnorm1.ln.*", "encoder.layers.{layer}.norm1.*"},
    Rule{"blks.block{layer}.ffn.dense1.*", "encoder.layers.{layer}.feed_forward.up.*"},
    Rule{"blks.block{layer}.ffn.dense2.*", "encoder.layers.{layer}.feed_forward.down.*"},
    Rule{"blks.block{layer}.addnorm2.ln.*", "encoder.layers.{layer}.norm2.*"},
};

using Prefixes = std::string_view;
inline constexpr std::array bert_prefixes{Prefixes{""}, Prefixes{"bert."}, Prefixes{"roberta."},
                                          Prefixes{"0.auto_model."}, Prefixes{"model."}};
inline constexpr std::array distilbert_prefixes{Prefixes{""}, Prefixes{"distilbert."},
                                                Prefixes{"0.auto_model."}, Prefixes{"model."}};
inline constexpr std::array mpnet_prefixes{Prefixes{""}, Prefixes{"mpnet."},
                                           Prefixes{"0.auto_model."}, Prefixes{"model."}};
inline constexpr std::array gpt2_prefixes{Prefixes{"transformer."}, Prefixes{""}};
inline constexpr std::array llama_prefixes{Prefixes{"model."}, Prefixes{""}};
inline constexpr std::array no_prefixes{Prefixes{""}};

}  // namespace detail::checkpoint_tables

namespace checkpoint_families {

namespace tables = detail::checkpoint_tables;

inline constexpr CheckpointFamily torch_attention{"torch.nn.MultiheadAttention",
                                                  tables::torch_attention, tables::no_prefixes};
inline constexpr CheckpointFamily torch_transformer{"torch.nn.TransformerEncoder",
                                                    tables::torch_transformer, tables::no_prefixes};
inline constexpr CheckpointFamily bert{"BERT", tables::bert, tables::bert_prefixes, true, true};
inline constexpr CheckpointFamily distilbert{"DistilBERT", tables::distilbert,
                                             tables::distilbert_prefixes, true, true};
inline constexpr CheckpointFamily mpnet{"MPNet", tables::mpnet, tables::mpnet_prefixes, true, true};
inline constexpr CheckpointFamily gpt2{"GPT-2", tables::gpt2, tables::gpt2_prefixes, false, true};
inline constexpr CheckpointFamily llama{"Llama", tables::llama, tables::llama_prefixes};
inline constexpr CheckpointFamily qwen2{"Qwen2", tables::qwen2, tables::llama_prefixes};
inline constexpr CheckpointFamily keras_attention{"keras.layers.MultiHeadAttention",
                                                  tables::keras_attention, tables::no_prefixes};
inline constexpr CheckpointFamily d2l_attention{"d2l.MultiHeadAttention", tables::d2l_attention,
                                                tables::no_prefixes};
inline constexpr CheckpointFamily d2l_transformer_encoder{
    "d2l.TransformerEncoder", tables::d2l_transformer_encoder, tables::no_prefixes};

}  // namespace checkpoint_families

}  // namespace eigenheads::inline EIGENHEADS_ABI

#include <eigenheads/detail/macros_on.inl>
