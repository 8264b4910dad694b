// SPDX-License-Identifier: MIT
#pragma once
// Layers of a transformer's encoder one after the other, and a norm after the last if it is wanted
// (where the layers' norms come first, nothing else is normalised at the end).
//   TransformerEncoder<float> encoder({.layer = {.num_hiddens = 384, .num_heads = 12,
//                                                .feed_forward_size = 1536}, .num_layers = 6});
//   y = encoder(x, sequences);
#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <ostream>
#include <sstream>
#include <stdexcept>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include <eigenheads/call_options.hpp>  // CallOptions, TrainingOptions
#include <eigenheads/detail/arena.hpp>  // Frame
#include <eigenheads/detail/macros_off.inl>
#include <eigenheads/mask.hpp>                          // Mask
#include <eigenheads/nn/detail/module_text.hpp>         // print_member
#include <eigenheads/nn/detail/row_forms.hpp>           // with_saved_form
#include <eigenheads/nn/detail/transformer_steps.hpp>   // require_sizes
#include <eigenheads/nn/layer_norm.hpp>                 // LayerNorm
#include <eigenheads/nn/transformer_encoder_layer.hpp>  // TransformerEncoderLayer
#include <eigenheads/sequences.hpp>                     // Sequences
#include <eigenheads/shape.hpp>                         // refuse, make_tensor
#include <eigenheads/tensor.hpp>                        // Tensor, TensorView, TensorSpan

namespace eigenheads::inline EIGENHEADS_ABI {

struct TransformerEncoderOptions {
  TransformerLayerOptions layer{};
  Index num_layers = 0;
  bool final_norm = false;
};

// What backward needs of a call, and owns. Memory is used again by the next.
template <Scalar T>
struct TransformerEncoderActivations {
  std::vector<TransformerEncoderLayerActivations<T>> layers;
  Tensor<T, 2> normed{0, 0};  // what the norm at the end was taken of
  bool is_saved = false;
};

// Of the parameters, with the encoder's names and order, and of the input: [B, L, E], or, packed,
// [1, N, E].
template <Scalar T>
struct TransformerEncoderGradients {
  Tensor<T, 3> x{0, 0, 0};
  std::vector<TransformerEncoderLayerGradients<T>> layers;
  std::optional<NormGradients<T>> norm;

  template <class Visitor>
  void for_each_parameter(Visitor&& visit, std::string_view prefix = "") {
    visit_parameters(*this, visit, prefix);
  }
  template <class Visitor>
  void for_each_parameter(Visitor&& visit, std::string_view prefix = "") const {
    visit_parameters(*this, visit, prefix);
  }

  // Of an encoder, or of its gradients.
  template <class Encoder, class Visitor>
  static void visit_parameters(Encoder& encoder, Visitor& visit, std::string_view prefix) {
    const std::string start(prefix);
    for (std::size_t i = 0; i < encoder.layers.size(); ++i)
      encoder.layers[i].for_each_parameter(visit, start + "layers." + std::to_string(i) + '.');
    if (encoder.norm) encoder.norm->for_each_parameter(visit, start + "norm.");
  }
};

template <Scalar T>
class TransformerEncoder {
 public:
  using Activations = TransformerEncoderActivations<T>;
  using Gradients = TransformerEncoderGradients<T>;

  // Weights depend on (seed, parameter name, sizes) alone. Throws std::invalid_argument for invalid
  // options.
  explicit TransformerEncoder(const TransformerEncoderOptions& options, std::uint64_t seed = 0) {
    if (options.num_layers < 1)
      detail::refuse(
          {"TransformerEncoder: num_layers is ", options.num_layers, "; expected 1 or more"});
    layers.reserve(static_cast<std::size_t>(options.num_layers));
    for (Index i = 0; i < options.num_layers; ++i)
      layers.emplace_back(options.layer, detail::part_seed(seed, name_of(i)));
    if (options.final_norm) norm.emplace(detail::TransformerParts(options.layer).norm());
  }

  std::vector<TransformerEncoderLayer<T>> layers;
  std::optional<LayerNorm<T>> norm;  // if there is one at the end

  // visit(Parameter) for those of "layers.0.self_attention.W_q.weight" and so on, then "norm.weight".
  template <class Visitor>
  void for_each_parameter(Visitor&& visit, std::string_view prefix = "") {
    Gradients::visit_parameters(*this, visit, prefix);
  }
  template <class Visitor>
  void for_each_parameter(Visitor&& visit, std::string_view prefix = "") const {
    Gradients::visit_parameters(*this, visit, prefix);
  }

  // As a layer's calls: x is [B, L, E]; or packed: [N, E], the rows of all sequences. Mask and score
  // function are every layer's.
  template <TensorOfRank<3> X>
  [[nodiscard]] Tensor<T, 3> operator()(const X& x, const Mask& mask = {},
                                        const CallOptions<T>& options = {}) const {
    return run(TensorView<T, 3>(x), options, mask);
  }
  template <TensorOfRank<2> X>
  [[nodiscard]] Tensor<T, 2> operator()(const X& x, const Sequences& sequences,
                                        const Mask& mask = {},
                                        const CallOptions<T>& options = {}) const {
    return run(TensorView<T, 2>(x), options, sequences, mask);
  }
  // The same into y, which may be x itself, but may not overlap it otherwise. Allocates nothing once
  // the context has seen such a call.
  template <TensorOfRank<3> Y, TensorOfRank<3> X>
  void forward_into(Y&& y, const X& x, const Mask& mask = {},
                    const CallOptions<T>& options = {}) const {
    run_into(TensorSpan<T, 3>(y), TensorView<T, 3>(x), options, mask);
  }
  template <TensorOfRank<2> Y, TensorOfRank<2> X>
  void forward_into(Y&& y, const X& x, const Sequences& sequences, const Mask& mask = {},
                    const CallOptions<T>& options = {}) const {
    run_into(TensorSpan<T, 2>(y), TensorView<T, 2>(x), options, sequences, mask);
  }

  // ---- Training: as a layer's --------------------------------------------------------------------

  template <TensorOfRank<3> X>
  Tensor<T, 3> forward(const X& x, const Mask& mask, Activations& saved,
                       const TrainingOptions<T>& options = {}) const {
    return train(TensorView<T, 3>(x), saved, options, mask);
  }
  template <TensorOfRank<2> X>
  Tensor<T, 2> forward(const X& x, const Sequences& sequences, const Mask& mask, Activations& saved,
                       const TrainingOptions<T>& options = {}) const {
    return train(TensorView<T, 2>(x), saved, options, sequences, mask);
  }
  template <detail::TensorLike Y>
  [[nodiscard]] Gradients backward(const Y& grad_y, const Activations& saved,
                                   Context& context = default_context()) const {
    Gradients gradients;
    backward_into(gradients, grad_y, saved, false, context);
    return gradients;
  }
  template <detail::TensorLike Y>
  void backward_into(Gradients& gradients, const Y& grad_y, const Activations& saved,
                     bool accumulate = false, Context& context = default_context()) const {
    const TensorView<T, rank_of<Y>> view(grad_y);
    require_saved(saved);
    const detail::SavedSequences& sequences = saved.layers.back().sequences;
    const Index size = this->size();
    detail::require_form(view, sequences, size);
    fit(gradients, saved, accumulate);
    const detail::Frame frame(context);
    const T* grad = view.data();
    if (norm && gradients.norm) {  // both or none
      T* const grad_x = frame.template take<T>(view.size());
      norm->backward({.x = saved.normed.data(),
                      .grad_y = grad,
                      .sequences = sequences.rows(),
                      .grad_x = grad_x},
                     *gradients.norm, accumulate, context);
      grad = grad_x;
    }
    for (std::size_t i = layers.size(); i-- > 0; grad = gradients.layers[i].x.data())
      detail::with_saved_form(sequences, size, grad, [&](const auto& rows) {
        layers[i].backward_into(gradients.layers[i], rows, saved.layers[i], accumulate, context);
      });
    gradients.x = gradients.layers.front().x;
  }

 private:
  [[nodiscard]] static std::string name_of(Index i) { return "layers." + std::to_string(i); }

  [[nodiscard]] Index size() const { return layers.front().options().num_hiddens; }

  // The layers and the norm are public, so a caller may have put others in their place.
  void require_parts() const {
    if (layers.empty())
      detail::refuse({"TransformerEncoder: there are 0 layers; expected 1 or more"});
    for (const auto& layer : layers) {
      detail::require_sizes("TransformerEncoder", size(),
                            {{"a layer's num_hiddens", layer.options().num_hiddens}});
      layer.require_parts();
    }
    if (norm) detail::require_sizes("TransformerEncoder", size(), {{"norm.size", norm->size()}});
  }
  void require_saved(const Activations& saved) const {
    if (!saved.is_saved || saved.layers.empty())
      detail::refuse<std::logic_error>(
          {"TransformerEncoder: backward needs the activations of a forward call"});
    if (saved.layers.size() != layers.size() || (saved.normed.dimension(1) > 0) != norm.has_value())
      detail::refuse<std::logic_error>(
          {"TransformerEncoder: the activations are those of an encoder of other parts"});
    require_parts();
    for (std::size_t i = 0; i < layers.size(); ++i) layers[i].require_saved(saved.layers[i]);
  }
  // Gives the gradients of the parameters their shapes, or, if they are added to, refuses others.
  void fit(Gradients& gradients, const Activations& saved, bool accumulate) const {
    if (accumulate && gradients.layers.size() != layers.size())
      detail::refuse({"gradients: there are some of ", gradients.layers.size(),
                      " layers; expected ", layers.size()});
    if (accumulate && gradients.norm.has_value() != norm.has_value())
      detail::refuse({"gradients: there are ", (norm ? "none" : "some"), " of a norm; expected ",
                      (norm ? "those of the encoder's" : "none"), " to add to"});
    gradients.layers.resize(layers.size());
    for (std::size_t i = 0; i < layers.size(); ++i)
      layers[i].fit(gradients.layers[i], saved.layers[i], accumulate);
    if (!norm) return gradients.norm.reset();
    if (!gradients.norm) gradients.norm.emplace();
    norm->fit(*gradients.norm, accumulate);
  }

  // rows: a mask, or sequences and a mask.
  template <int Rank, class... Rows>
  [[nodiscard]] Tensor<T, Rank> run(TensorView<T, Rank> x, const CallOptions<T>& options,
                                    const Rows&... rows) const {
    auto y = detail::make_tensor<T>("y", x.dimensions());
    run_into(TensorSpan<T, Rank>(y), x, options, rows...);
    return y;
  }
  template <int Rank, class... Rows>
  void run_into(TensorSpan<T, Rank> y, TensorView<T, Rank> x, const CallOptions<T>& options,
                const Rows&... rows) const {
    require_parts();
    require_shape("y", TensorView<T, Rank>(y), "x's shape", x.dimensions());
    detail::require_same_or_disjoint("y", TensorView<T, Rank>(y), "x", x);
    Context& context = options.context.get();
    const detail::Frame frame(context);
    // Only the last layer writes to y: what one of them refuses leaves y as it was.
    const TensorSpan<T, Rank> between(
        layers.size() > 1 ? frame.template take<T>(x.size()) : y.data(), x.dimensions());
    for (std::size_t i = 0; i + 1 < layers.size(); ++i) {
      layers[i].forward_into(between, x, rows..., options);
      x = TensorView<T, Rank>(between);
    }
    layers.back().forward_into(y, x, rows..., options);
    if (norm) norm->forward_into(y, y, context);
  }

  template <int Rank, class... Rows>
  Tensor<T, Rank> train(TensorView<T, Rank> x, Activations& saved,
                        const TrainingOptions<T>& options, const Rows&... rows) const {
    require_parts();
    saved.layers.resize(layers.size());
    Tensor<T, Rank> y;
    TrainingOptions<T> of_layer = options;
    for (std::size_t i = 0; i < layers.size(); ++i) {
      if (options.seed)
        of_layer.seed =
            DropoutSeed{detail::part_seed(options.seed->value, name_of(static_cast<Index>(i)))};
      y = layers[i].forward(x, rows..., saved.layers[i], of_layer);
      saved.is_saved = false;  // what the first layer refuses leaves `saved` as it was
      x = TensorView<T, Rank>(y);
    }
    const Index rows_count = x.size() / size();
    saved.normed.resize(norm ? rows_count : 0, norm ? size() : 0);
    if (norm) {
      std::copy_n(y.data(), y.size(), saved.normed.data());
      norm->apply({.x = y.data(), .y = y.data(), .rows = rows_count}, options.context.get());
    }
    saved.is_saved = true;
    return y;
  }
};

namespace detail {

// Modules in a row, as PyTorch prints them: those that look alike are shown once.
template <class Module>
struct ModuleList {
  const std::vector<Module>& modules;

  friend std::ostream& operator<<(std::ostream& out, const ModuleList& list) {
    std::vector<std::string> texts;
    for (const auto& module : list.modules) {
      std::ostringstream text;
      text << module;
      texts.push_back(text.str());
    }
    out << "ModuleList(";
    for (std::size_t i = 0, end; i < texts.size(); i = end) {
      end = i + 1;
      while (end < texts.size() && texts[end] == texts[i]) ++end;
      const bool is_one = end == i + 1;
      const std::string range = is_one ? "" : "-" + std::to_string(end - 1);
      const std::string count = is_one ? "" : std::to_string(end - i) + " x ";
      print_member(out, std::to_string(i) + range, count + texts[i]);
    }
    return out << "\n)";
  }
};

}  // namespace detail

template <Scalar T>
std::ostream& operator<<(std::ostream& out, const TransformerEncoder<T>& encoder) {
  out << "TransformerEncoder(";
  detail::print_member(out, "layers",
                       detail::ModuleList<TransformerEncoderLayer<T>>{encoder.layers});
  if (encoder.norm) detail::print_member(out, "norm", *encoder.norm);
  return out << "\n)";
}

}  // namespace eigenheads::inline EIGENHEADS_ABI

#include <eigenheads/detail/macros_on.inl>
