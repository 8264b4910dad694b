// SPDX-License-Identifier: MIT
#pragma once
// The backward pass of a layer over a batch whose rows are spread over ranks (sequence_layer.hpp): each
// rank gets the gradients of its own rows of x, and all of them those of the parameters, whole; the
// bits are those of one process that has all rows.
//   const mpi::SequenceParallel parallel(layer, ranks);
//   mpi::SequenceActivations<float> saved;
//   const auto y = parallel.forward(mine, dealing, mask, saved);
//   const auto gradients = mpi::backward(parallel, dy, saved);      // of this rank's rows of y
// Then each rank takes the same step of its optimizer with the same bits.
#include <array>
#include <stdexcept>
#include <type_traits>

#include <eigenheads/call_options.hpp>  // ContextRef
#include <eigenheads/context.hpp>       // Context
#include <eigenheads/detail/macros_off.inl>
#include <eigenheads/layer/activations.hpp>          // LayerGradients
#include <eigenheads/mpi/detail/backward_cost.hpp>   // backward_cost
#include <eigenheads/mpi/detail/dealt_backward.hpp>  // DealtBackward
#include <eigenheads/mpi/sequence_layer.hpp>         // SequenceParallel, SequenceActivations
#include <eigenheads/mpi/shares.hpp>                 // Shares

namespace eigenheads::inline EIGENHEADS_ABI::mpi {

namespace detail {

// Throws unless the activations are those of such a layer, and all that is asked for can be computed.
template <class T>
void require_backward(const SequenceParallel<T>& parallel, TensorView<T, 2> grad_output,
                      const SequenceActivations<T>& saved) {
  const auto layer = parallel.layer().parts();
  const Index E = saved.x.dimension(1);
  if (saved.shape.D == 0)
    eigenheads::detail::refuse<std::logic_error>(
        {"SequenceParallel: backward needs the activations of a forward call"});
  if (saved.head_set != layer.heads || saved.shape.D != parallel.layer().head_size() ||
      layer.W_q.in_features() != E || layer.W_k.in_features() != E ||
      layer.W_v.in_features() != E || saved.dealing.ranks() != parallel.ranks().size())
    eigenheads::detail::refuse<std::logic_error>(
        {"SequenceParallel: the activations are those of a layer of other sizes or heads, or of "
         "other ranks"});
  eigenheads::detail::require_projections(layer, saved.shape.D, parallel.layer().num_hiddens());
  require_shape("grad_output", grad_output, "[n, num_hiddens]",
                {saved.x.dimension(0), parallel.layer().num_hiddens()});
  if (saved.score.last_bias() != nullptr)
    eigenheads::detail::refuse(
        {"SequenceParallel: the scores have a ScoreBias, whose gradient is a sum over heads, then "
         "queries, then keys, an order that rows of many ranks do not come in; expected scores "
         "without one"});
  eigenheads::detail::require_whole_gradient_blocks(saved.dealing);
}

template <class T>
void fit_gradients(const SequenceParallel<T>& parallel, const SequenceActivations<T>& saved,
                   LayerGradients<T>& gradients, bool accumulate) {
  using eigenheads::detail::fit_gradient;
  const auto layer = parallel.layer().parts();
  const std::array<Index, 3> rows{1, saved.x.dimension(0), saved.x.dimension(1)};
  fit_gradient("gradients.queries", gradients.queries, "[1, n, E]", rows, accumulate);
  fit_gradient("gradients.keys", gradients.keys, "[1, n, E]", rows, accumulate);
  fit_gradient("gradients.values", gradients.values, "[1, n, E]", rows, accumulate);
  fit_gradient("gradients.gates", gradients.gates, "[B, H]", {saved.shape.B, saved.shape.H},
               accumulate);
  fit_gradient("gradients.score_bias", gradients.score_bias, "that of no bias", {0, 0, 0, 0},
               accumulate);
  fit_gradient("gradients.sink_logits", gradients.sink_logits, "[H] or none",
               {layer.sink_logits.size()}, accumulate);
  layer.W_q.fit(gradients.W_q, accumulate);
  layer.W_k.fit(gradients.W_k, accumulate);
  layer.W_v.fit(gradients.W_v, accumulate);
  layer.W_o.fit(gradients.W_o, accumulate);
}

}  // namespace detail

struct SequenceBackwardOptions {
  bool accumulate = false;  // adds to what the gradients hold
  // Of W_q, W_k, W_v and W_o each rank gets the gradients of its outputs alone, Shares::even() of
  // them (shares.hpp): of the others, 0 (or nothing is added). For an optimizer that is sharded so.
  bool keeps_share = false;
  ContextRef context{};
};

// grad_output: [n, num_hiddens], of this rank's rows -> in `gradients`, those of x as queries, as keys
// and as values, [1, n, E] each, and those of parameters and gates, [B, H], of all rows. All ranks
// call it. Throws, on all of them, std::logic_error if nothing is saved, or for another layer;
// std::invalid_argument for what does not fit, for what is another on another rank (sizes, biases,
// heads and gates, dealing, mask, dropout), for scores with a ScoreBias, and for a dealing that cuts
// blocks of gradients (Dealing::of() does not).
template <Scalar T>
void backward_into(const SequenceParallel<T>& parallel, LayerGradients<T>& gradients,
                   std::type_identity_t<TensorView<T, 2>> grad_output,
                   const SequenceActivations<T>& saved,
                   const SequenceBackwardOptions& options = {}) {
  using eigenheads::detail::fingerprint;
  const auto run = [&] {
    detail::require_backward(parallel, grad_output, saved);
    detail::fit_gradients(parallel, saved, gradients, options.accumulate);
    eigenheads::detail::DealtBackward<T>(parallel, saved, gradients,
                                         {options.accumulate, options.keeps_share},
                                         options.context.get())
        .run(grad_output.data());
  };
  const auto layer = parallel.layer().parts();
  parallel.ranks().together("backward of SequenceParallel",
                            {{"bytes of a number", Index{sizeof(T)}},
                             {"rows of all ranks", saved.dealing.sequences().rows()},
                             {"columns of x", saved.x.dimension(1)},
                             {"num_hiddens", parallel.layer().num_hiddens()},
                             {"num_heads", saved.shape.H},
                             {"num_kv_heads", saved.shape.G},
                             {"head_size", saved.shape.D},
                             {"the bias of W_q", Index{layer.W_q.has_bias()}},
                             {"the bias of W_k", Index{layer.W_k.has_bias()}},
                             {"the bias of W_v", Index{layer.W_v.has_bias()}},
                             {"the bias of W_o", Index{layer.W_o.has_bias()}},
                             {"the heads' fingerprint", fingerprint(saved.head_set, saved.gates)},
                             {"the dealing's fingerprint", fingerprint(saved.dealing)},
                             {"the mask's fingerprint", fingerprint(saved.mask)},
                             {"the dropout's fingerprint", fingerprint(saved.dropout)},
                             {"accumulate", Index{options.accumulate}},
                             {"keeps_share", Index{options.keeps_share}}},
                            run);
}
template <Scalar T>
[[nodiscard]] LayerGradients<T> backward(const SequenceParallel<T>& parallel,
                                         std::type_identity_t<TensorView<T, 2>> grad_output,
                                         const SequenceActivations<T>& saved,
                                         Context& context = default_context()) {
  LayerGradients<T> gradients;
  backward_into(parallel, gradients, grad_output, saved, {.context = context});
  return gradients;
}

// What a rank sends and receives in a backward pass with whole gradients, of a layer that is not lazy:
// keys once, queries once for each head of a group, the parameters once for each run of rows, and then
// to all. Found from the plan alone, without a number of a batch.
template <Scalar T>
[[nodiscard]] Traffic backward_cost(const MultiHeadAttention<T>& layer, const Dealing& dealing,
                                    const Mask& mask, int rank,
                                    Context& context = default_context()) {
  return eigenheads::detail::backward_cost(layer.parts(), layer.head_size(), dealing, mask, rank,
                                           context);
}

}  // namespace eigenheads::inline EIGENHEADS_ABI::mpi

#include <eigenheads/detail/macros_on.inl>
