// SPDX-License-Identifier: MIT
#pragma once
// Layers of a transformer one after the other, and a norm after the last if it is wanted: what an
// encoder and a decoder (transformer_encoder.hpp, transformer_decoder.hpp) have in common.
#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <ostream>
#include <sstream>
#include <stdexcept>
#include <string>
#include <string_view>
#include <vector>

#include <eigenheads/call_options.hpp>  // CallOptions, TrainingOptions
#include <eigenheads/detail/arena.hpp>  // Frame
#include <eigenheads/detail/macros_off.inl>
#include <eigenheads/detail/step_guard.hpp>            // StepGuard
#include <eigenheads/nn/detail/module_text.hpp>        // print_member
#include <eigenheads/nn/detail/row_forms.hpp>          // with_saved_form
#include <eigenheads/nn/detail/sublayer.hpp>           // part_seed
#include <eigenheads/nn/detail/transformer_steps.hpp>  // require_sizes, require_form
#include <eigenheads/nn/layer_norm.hpp>                // AnyNorm, NormGradients
#include <eigenheads/nn/transformer_options.hpp>       // TransformerStackOptions
#include <eigenheads/shape.hpp>                        // require_shape, make_tensor
#include <eigenheads/tensor.hpp>                       // Tensor, TensorView, TensorSpan

namespace eigenheads::inline EIGENHEADS_ABI::detail {

// What backward needs of a call, and owns. Memory is used again by the next.
template <Scalar T, class LayerActivations>
struct StackActivations {
  std::vector<LayerActivations> layers;
  Tensor<T, 2> normed{0, 0};  // what the norm at the end was taken of
  bool is_saved = false;
};

// Of the parameters, with the stack's names and order, and of the input: [B, L, E], or, packed,
// [1, N, E].
template <Scalar T, class LayerGradients>
struct StackGradients {
  Tensor<T, 3> x{0, 0, 0};
  std::vector<LayerGradients> layers;
  std::optional<NormGradients<T>> norm;

  template <class Visitor>
  void for_each_parameter(Visitor&& visit, std::string_view prefix = "") {
    visit_parameters(*this, visit, prefix);
  }
  template <class Visitor>
  void for_each_parameter(Visitor&& visit, std::string_view prefix = "") const {
    visit_parameters(*this, visit, prefix);
  }

  // Of a stack, or of its gradients.
  template <class Stack, class Visitor>
  static void visit_parameters(Stack& stack, Visitor& visit, std::string_view prefix) {
    const std::string start(prefix);
    for (std::size_t i = 0; i < stack.layers.size(); ++i)
      stack.layers[i].for_each_parameter(visit, start + "layers." + std::to_string(i) + '.');
    if (stack.norm) stack.norm->for_each_parameter(visit, start + "norm.");
  }
};

template <Scalar T, class Layer>
class TransformerStack {
  using BaseActivations = StackActivations<T, typename Layer::Activations>;
  using BaseGradients = StackGradients<T, typename Layer::Gradients>;

 public:
  std::vector<Layer> layers;
  std::optional<AnyNorm<T>> norm;  // if there is one at the end

  // visit(Parameter) for those of "layers.0.self_attention.W_q.weight" and so on, then "norm.weight".
  template <class Visitor>
  void for_each_parameter(Visitor&& visit, std::string_view prefix = "") {
    BaseGradients::visit_parameters(*this, visit, prefix);
  }
  template <class Visitor>
  void for_each_parameter(Visitor&& visit, std::string_view prefix = "") const {
    BaseGradients::visit_parameters(*this, visit, prefix);
  }

  // As PyTorch prints its stacks: layers that look alike are shown once.
  friend std::ostream& operator<<(std::ostream& out, const TransformerStack& stack) {
    std::vector<std::string> texts;
    for (const Layer& layer : stack.layers) {
      std::ostringstream text;
      text << layer;
      texts.push_back(text.str());
    }
    std::ostringstream list;
    list << "ModuleList(";
    for (std::size_t i = 0, end; i < texts.size(); i = end) {
      end = i + 1;
      while (end < texts.size() && texts[end] == texts[i]) ++end;
      const bool is_one = end == i + 1;
      const std::string range = is_one ? "" : "-" + std::to_string(end - 1);
      const std::string count = is_one ? "" : std::to_string(end - i) + " x ";
      print_member(list, std::to_string(i) + range, count + texts[i]);
    }
    list << "\n)";
    out << stack.name_ << '(';
    print_member(out, "layers", list.str());
    if (stack.norm) print_member(out, "norm", *stack.norm);
    return out << "\n)";
  }

 protected:
  // Throws std::invalid_argument for invalid options.
  TransformerStack(const char* name, const TransformerStackOptions& options, std::uint64_t seed)
      : name_(name) {
    if (options.num_layers < 1)
      refuse({name, ": num_layers is ", options.num_layers, "; expected 1 or more"});
    layers.reserve(static_cast<std::size_t>(options.num_layers));
    for (Index i = 0; i < options.num_layers; ++i)
      layers.emplace_back(options.layer, part_seed(seed, name_of(i)));
    if (options.final_norm) norm.emplace(TransformerParts(options.layer).template norm<T>());
  }
  // Without layers, for who makes them otherwise.
  explicit TransformerStack(const char* name) : name_(name) {}

  // rest: what stands between x and the options in a call of a layer.
  template <int Rank, class... Rest>
  void run_into(TensorSpan<T, Rank> y, TensorView<T, Rank> x, const CallOptions<T>& options,
                const Rest&... rest) const {
    require_parts();
    require_shape("y", TensorView<T, Rank>(y), "x's shape", x.dimensions());
    require_same_or_disjoint("y", TensorView<T, Rank>(y), "x", x);
    Context& context = options.context.get();
    const Frame frame(context);
    // Only the last layer writes to y: what one of them refuses leaves y as it was.
    const TensorSpan<T, Rank> between(
        layers.size() > 1 ? frame.template take<T>(x.size()) : y.data(), x.dimensions());
    for (std::size_t i = 0; i + 1 < layers.size(); ++i) {
      layers[i].forward_into(between, x, rest..., options);
      x = TensorView<T, Rank>(between);
    }
    layers.back().forward_into(y, x, rest..., options);
    if (norm) norm->forward_into(y, y, context);
  }
  template <int Rank, class... Rest>
  [[nodiscard]] Tensor<T, Rank> run(TensorView<T, Rank> x, const CallOptions<T>& options,
                                    const Rest&... rest) const {
    auto y = make_tensor<T>("y", x.dimensions());
    run_into(TensorSpan<T, Rank>(y), x, options, rest...);
    return y;
  }

  // step(i, to, from, cache of layer i): that layer's.
  template <int Rank, class Cache, class Step>
  void take_steps(TensorSpan<T, Rank> y, TensorView<T, Rank> x, Cache& cache, Context& context,
                  const Step& step) const {
    require_parts();
    require_cache(cache);
    require_shape("y", TensorView<T, Rank>(y), "x's shape", x.dimensions());
    require_same_or_disjoint("y", TensorView<T, Rank>(y), "x", x);
    const Frame frame(context);
    StepGuard guard(cache.num_layers(), heads_of(cache), frame);
    const TensorSpan<T, Rank> between(
        layers.size() > 1 ? frame.template take<T>(x.size()) : y.data(), x.dimensions());
    for (std::size_t i = 0; i < layers.size(); ++i) {
      const bool is_last = i + 1 == layers.size();
      step(i, is_last ? y : between, x, cache.layer(static_cast<Index>(i)));
      x = TensorView<T, Rank>(between);
    }
    if (norm) norm->forward_into(y, y, context);
    guard.is_done = true;
  }

  // call(i, x): the output of layer i, which keeps the weights.
  template <int Rank, class Call>
  [[nodiscard]] Tensor<T, Rank> run_with_weights(TensorView<T, Rank> x, Context& context,
                                                 const Call& call) const {
    require_parts();
    Tensor<T, Rank> y;
    for (std::size_t i = 0; i < layers.size(); ++i) {
      y = call(i, x);
      x = TensorView<T, Rank>(y);
    }
    if (norm) norm->forward_into(y, y, context);
    return y;
  }
  // call(i, x, cache of layer i): its step.
  template <int Rank, class Cache, class Call>
  [[nodiscard]] Tensor<T, Rank> take_steps_with_weights(TensorView<T, Rank> x, Cache& cache,
                                                        Context& context, const Call& call) const {
    require_parts();
    require_cache(cache);
    const Frame frame(context);
    StepGuard guard(cache.num_layers(), heads_of(cache), frame);
    auto y = run_with_weights(x, context, [&](std::size_t i, const auto& rows) {
      return call(i, rows, cache.layer(static_cast<Index>(i)));
    });
    guard.is_done = true;
    return y;
  }

  template <int Rank, class... Rest>
  [[nodiscard]] Tensor<T, Rank> train(TensorView<T, Rank> x, BaseActivations& saved,
                                      const TrainingOptions<T>& options,
                                      const Rest&... rest) const {
    require_parts();
    // What any layer refuses leaves `saved` as it was.
    for (const Layer& layer : layers) layer.require_trainable(x, rest..., options);
    saved.is_saved = false;
    saved.layers.resize(layers.size());
    Tensor<T, Rank> y;
    TrainingOptions<T> of_layer = options;
    for (std::size_t i = 0; i < layers.size(); ++i) {
      if (options.seed)
        of_layer.seed = DropoutSeed{part_seed(options.seed->value, name_of(static_cast<Index>(i)))};
      y = layers[i].forward(x, rest..., saved.layers[i], of_layer);
      x = TensorView<T, Rank>(y);
    }
    const Index rows = x.size() / size();
    resize("normed", saved.normed, {norm ? rows : 0, norm ? size() : 0});
    if (norm) {
      std::copy_n(y.data(), y.size(), saved.normed.data());
      norm->apply({.x = y.data(), .y = y.data(), .rows = rows}, options.context.get());
    }
    saved.is_saved = true;
    return y;
  }

  // grad_y: of the output's shape.
  template <int Rank>
  void undo(BaseGradients& gradients, TensorView<T, Rank> grad_y, const BaseActivations& saved,
            bool accumulate, Context& context) const {
    require_saved(saved);
    const SavedSequences& sequences = saved.layers.back().sequences;
    require_form(grad_y, sequences, size());
    fit(gradients, saved, accumulate);
    const Frame frame(context);
    const T* grad = grad_y.data();
    if (norm && gradients.norm) {  // both or none
      T* const grad_x = frame.template take<T>(grad_y.size());
      norm->backward({.x = saved.normed.data(),
                      .grad_y = grad,
                      .sequences = sequences.rows(),
                      .grad_x = grad_x},
                     *gradients.norm, accumulate, context);
      grad = grad_x;
    }
    for (std::size_t i = layers.size(); i-- > 0; grad = gradients.layers[i].x.data())
      with_saved_form(sequences, size(), grad, [&](const auto& rows) {
        layers[i].backward_into(gradients.layers[i], rows, saved.layers[i], accumulate, context);
      });
    assign("gradients.x", gradients.x, gradients.layers.front().x);
  }

 private:
  [[nodiscard]] static std::string name_of(Index i) { return "layers." + std::to_string(i); }

  [[nodiscard]] Index size() const { return layers.front().options().num_hiddens; }

  template <class Cache>
  [[nodiscard]] static auto heads_of(Cache& cache) {
    return [&cache](Index i) -> auto& { return cache.layer(i).heads(); };
  }
  template <class Cache>
  void require_cache(const Cache& cache) const {
    if (cache.num_layers() != static_cast<Index>(layers.size()))
      refuse({name_, ": the cache is made for ", cache.num_layers(), " layers; expected ",
              layers.size()});
    for (Index i = 1; i < cache.num_layers(); ++i)
      for (Index b = 0; b < cache.batch_size(); ++b)
        if (cache.layer(i).length(b) != cache.length(b))
          refuse({name_, ": layer ", i, " of the cache has ", cache.layer(i).length(b),
                  " tokens of sequence ", b, "; expected ", cache.length(b), ", as layer 0 has"});
  }
  // The layers and the norm are public, so a caller may have put others in their place.
  void require_parts() const {
    if (layers.empty()) refuse({name_, ": there are 0 layers; expected 1 or more"});
    for (const Layer& layer : layers) {
      require_sizes(name_, size(), {{"a layer's num_hiddens", layer.options().num_hiddens}});
      layer.require_parts();
    }
    if (norm) require_sizes(name_, size(), {{"norm.size", norm->size()}});
  }
  void require_saved(const BaseActivations& saved) const {
    if (!saved.is_saved || saved.layers.empty())
      refuse<std::logic_error>({name_, ": backward needs the activations of a forward call"});
    if (saved.layers.size() != layers.size() || (saved.normed.dimension(1) > 0) != norm.has_value())
      refuse<std::logic_error>({name_, ": the activations are those of other parts"});
    require_parts();
    for (std::size_t i = 0; i < layers.size(); ++i) layers[i].require_saved(saved.layers[i]);
  }
  // Gives the gradients of the parameters their shapes, or, if they are added to, refuses others.
  void fit(BaseGradients& gradients, const BaseActivations& saved, bool accumulate) const {
    if (accumulate && gradients.layers.size() != layers.size())
      refuse({"gradients: there are some of ", gradients.layers.size(), " layers; expected ",
              layers.size()});
    if (accumulate && gradients.norm.has_value() != norm.has_value())
      refuse({"gradients: there are ", (norm ? "none" : "some"), " of a norm; expected ",
              (norm ? "those of the last one" : "none"), " to add to"});
    gradients.layers.resize(layers.size());
    for (std::size_t i = 0; i < layers.size(); ++i)
      layers[i].fit(gradients.layers[i], saved.layers[i], accumulate);
    if (!norm) return gradients.norm.reset();
    if (!gradients.norm) gradients.norm.emplace();
    norm->fit(*gradients.norm, accumulate);
  }

  const char* name_;
};

}  // namespace eigenheads::inline EIGENHEADS_ABI::detail

#include <eigenheads/detail/macros_on.inl>
