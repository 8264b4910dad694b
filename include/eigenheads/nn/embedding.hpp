// SPDX-License-Identifier: MIT
#pragma once
// A table of learned vectors, looked up by number: y[i] = W[ids[i]], W: [num_embeddings,
// embedding_dim].
//   Embedding<float> embedding({.num_embeddings = 30522, .embedding_dim = 384}, seed);
//   Tensor<float, 3> y = embedding(ids);  // ids: [B, L], of integers
#include <algorithm>
#include <array>
#include <cmath>
#include <concepts>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <ostream>
#include <stdexcept>
#include <string>
#include <string_view>
#include <type_traits>
#include <utility>
#include <vector>

#include <eigenheads/context.hpp>                    // Context
#include <eigenheads/detail/embedding_gradient.hpp>  // run_embedding_backward
#include <eigenheads/detail/macros_off.inl>
#include <eigenheads/detail/ranges.hpp>         // blocks_of
#include <eigenheads/detail/sequence_rows.hpp>  // SequenceRows
#include <eigenheads/detail/work.hpp>           // product, multiply_adds_per_packed
#include <eigenheads/parameter.hpp>             // Parameter
#include <eigenheads/random.hpp>                // random_symmetric, undrawn
#include <eigenheads/sequences.hpp>             // Sequences, require_rows
#include <eigenheads/shape.hpp>                 // require_shape, make_tensor
#include <eigenheads/tensor.hpp>                // Tensor, TensorView, TensorSpan

namespace eigenheads::inline EIGENHEADS_ABI {

struct EmbeddingOptions {
  Index num_embeddings = 0, embedding_dim = 0;
  // Its vector is 0 as the table is drawn, and has a gradient of 0.
  std::optional<Index> padding_idx{};
};

// The gradient of the table, as its parameter: [num_embeddings, embedding_dim].
template <Scalar T>
struct EmbeddingGradients {
  Tensor<T, 2> weight{0, 0};

  template <class Visitor>
  void for_each_parameter(Visitor&& visit, std::string_view prefix = "") {
    visit(Parameter<T>(std::string(prefix) + "weight", weight));
  }
  template <class Visitor>
  void for_each_parameter(Visitor&& visit, std::string_view prefix = "") const {
    visit(Parameter<const T>(std::string(prefix) + "weight", weight));
  }
};

namespace detail {

// A tensor of ids: bytes are text or a mask.
template <class Ids>
concept IdsTensor =
    TensorLike<Ids> && std::integral<element_of<Ids>> && (rank_of<Ids> == 1 || rank_of<Ids> == 2);

template <class Number>
constexpr void require_ids() {
  static_assert(sizeof(Number) > 1 && !std::same_as<Number, wchar_t> &&
                    !std::same_as<Number, char16_t> && !std::same_as<Number, char32_t>,
                "These are not ids but text, or a mask: give integers of 16 bits or more.");
}

}  // namespace detail

template <Scalar T>
class Embedding {
 public:
  // The table is uniform with mean 0 and variance 1, those of PyTorch's normal numbers, and depends
  // on (seed, name, options) alone. Throws std::invalid_argument for invalid sizes.
  explicit Embedding(const EmbeddingOptions& options, std::uint64_t seed = 0,
                     std::string_view name = "")
      : padding_idx_(options.padding_idx.value_or(-1)) {
    const auto [V, E, padding] = options;
    if (V < 1) detail::refuse({"Embedding: num_embeddings is ", V, "; expected 1 or more"});
    if (E < 1) detail::refuse({"Embedding: embedding_dim is ", E, "; expected 1 or more"});
    if (padding && (*padding < 0 || *padding >= V))
      detail::refuse({"Embedding: padding_idx is ", *padding, "; expected 0 to ", V - 1});
    weight_ = detail::make_tensor<T>("weight", std::array{V, E});
    const std::uint64_t stream = random_stream(std::string(name) + ".weight");
    const double bound = std::sqrt(3.0);
    if (seed == undrawn) weight_.setZero();
    for (Index i = 0; i < weight_.size() && seed != undrawn; ++i)
      weight_.data()[i] = static_cast<T>(bound * random_symmetric(seed, stream, i));
    if (padding) std::fill_n(weight_.data() + *padding * E, E, T(0));
  }

  // All of the other, or, without memory for it, nothing.
  Embedding(const Embedding&) = default;
  Embedding(Embedding&&) noexcept = default;
  Embedding& operator=(const Embedding& other) { return *this = Embedding(other); }
  Embedding& operator=(Embedding&&) noexcept = default;

  [[nodiscard]] Index num_embeddings() const { return weight_.dimension(0); }
  [[nodiscard]] Index embedding_dim() const { return weight_.dimension(1); }
  [[nodiscard]] std::optional<Index> padding_idx() const {
    return padding_idx_ < 0 ? std::nullopt : std::optional(padding_idx_);
  }

  [[nodiscard]] const Tensor<T, 2>& weight() const { return weight_; }
  void set_weight(TensorView<T, 2> weight) {
    require_shape("weight", weight, "[num_embeddings, embedding_dim]",
                  {num_embeddings(), embedding_dim()});
    std::copy_n(weight.data(), weight.size(), weight_.data());
  }

  // visit(Parameter) for "weight", after the prefix.
  template <class Visitor>
  void for_each_parameter(Visitor&& visit, std::string_view prefix = "") {
    visit(Parameter<T>(std::string(prefix) + "weight", weight_));
  }
  template <class Visitor>
  void for_each_parameter(Visitor&& visit, std::string_view prefix = "") const {
    visit(Parameter<const T>(std::string(prefix) + "weight", weight_));
  }

  // ids: [L] or [B, L] -> [L, E] or [B, L, E]; those of packed sequences are [N]. Throws
  // std::invalid_argument, before anything is written, for an id that the table does not have.
  template <detail::IdsTensor Ids>
  [[nodiscard]] Tensor<T, rank_of<Ids> + 1> operator()(const Ids& ids,
                                                       Context& context = default_context()) const {
    const TensorView<element_of<Ids>, rank_of<Ids>> view(ids);
    require_ids(view);
    auto y = detail::make_tensor<T>("y", output_shape(view.dimensions()));
    look_up(view, y.data(), context);
    return y;
  }
  template <std::integral Number>
  [[nodiscard]] Tensor<T, 2> operator()(const std::vector<Number>& ids,
                                        Context& context = default_context()) const {
    return (*this)(TensorView<Number, 1>(ids.data(), {std::ssize(ids)}), context);
  }

  // y: [..., E], apart from the ids. Allocates nothing.
  template <detail::TensorLike Y, detail::IdsTensor Ids>
  requires(rank_of<Y> == rank_of<Ids> + 1)
  void forward_into(Y&& y, const Ids& ids, Context& context = default_context()) const {
    const TensorView<element_of<Ids>, rank_of<Ids>> view(ids);
    const TensorSpan<T, rank_of<Y>> to(y);
    const TensorView<T, rank_of<Y>> written(to);
    require_ids(view);
    require_shape("y", written, "[..., embedding_dim]", output_shape(view.dimensions()));
    detail::require_disjoint("y", written, "ids", view);
    look_up(view, to.data(), context);
  }

  // ---- Training ----------------------------------------------------------------------------------

  using Gradients = EmbeddingGradients<T>;

  // What backward needs of a call, and owns: the ids, and where sequences begin.
  class Activations {
    friend Embedding;
    std::vector<Index> ids_, shape_;
    Sequences sequences_;  // of packed rows
    bool is_packed_ = false;

    [[nodiscard]] detail::SequenceRows rows() const {
      if (is_packed_) return sequences_.as_rows();
      return {shape_.size() == 2 ? shape_[0] : 1, shape_.back()};
    }
  };

  // The output of operator(); `saved` gets what backward needs. A sequence is what the last axis of
  // ids holds, or, of packed rows, what `sequences` says.
  template <detail::IdsTensor Ids>
  Tensor<T, rank_of<Ids> + 1> forward(const Ids& ids, Activations& saved,
                                      Context& context = default_context()) const {
    auto y = (*this)(ids, context);
    save(TensorView<element_of<Ids>, rank_of<Ids>>(ids), nullptr, saved);
    return y;
  }
  template <detail::IdsTensor Ids>
  requires(rank_of<Ids> == 1)
  Tensor<T, 2> forward(const Ids& ids, const Sequences& sequences, Activations& saved,
                       Context& context = default_context()) const {
    const TensorView<element_of<Ids>, 1> view(ids);
    detail::require_rows("ids", view, sequences);
    auto y = (*this)(ids, context);
    save(view, &sequences, saved);
    return y;
  }

  // grad_y: [..., E], of what forward gave. Throws std::invalid_argument for another shape,
  // std::logic_error if nothing is saved. One fixed order of sums (sum_of_id), on any number of
  // threads.
  template <detail::TensorLike GradY>
  [[nodiscard]] Gradients backward(const GradY& grad_y, const Activations& saved,
                                   Context& context = default_context()) const {
    Gradients gradients;
    backward_into(gradients, grad_y, saved, false, context);
    return gradients;
  }
  // The same into `gradients`, or added to what it holds.
  template <detail::TensorLike GradY>
  void backward_into(Gradients& gradients, const GradY& grad_y, const Activations& saved,
                     bool accumulate = false, Context& context = default_context()) const {
    constexpr int rank = rank_of<GradY>;
    static_assert(rank == 2 || rank == 3, "The gradient of embeddings is [L, E] or [B, L, E].");
    const TensorView<T, rank> view(grad_y);
    require_gradient(view, saved);
    const std::array shape{num_embeddings(), embedding_dim()};
    if (accumulate)
      require_shape("gradients.weight", TensorView<T, 2>(gradients.weight),
                    "[num_embeddings, embedding_dim]", shape);
    else if (TensorView<T, 2>(gradients.weight).dimensions() != shape)
      gradients.weight = detail::make_tensor<T>("gradients.weight", shape);
    detail::run_embedding_backward<T>({.ids = saved.ids_.data(),
                                       .rows = saved.rows(),
                                       .dy = view.data(),
                                       .dW = gradients.weight.data(),
                                       .V = num_embeddings(),
                                       .E = embedding_dim(),
                                       .padding_idx = padding_idx_,
                                       .adds = accumulate},
                                      context);
  }

 private:
  template <std::size_t Rank>
  [[nodiscard]] std::array<Index, Rank + 1> output_shape(const std::array<Index, Rank>& ids) const {
    std::array<Index, Rank + 1> shape{};
    *std::copy(ids.begin(), ids.end(), shape.begin()) = embedding_dim();
    return shape;
  }

  template <class Number, int Rank>
  void require_ids(TensorView<Number, Rank> ids) const {
    detail::require_ids<Number>();
    require_shape("ids", ids, "its own shape", ids.dimensions());
    for (Index i = 0; i < ids.size(); ++i) {
      const auto id = static_cast<Index>(ids.data()[i]);
      if (id >= 0 && id < num_embeddings()) continue;
      const Index L = ids.dimension(Rank - 1);
      const std::string place = Rank == 1 ? detail::shape_text(std::array{i})
                                          : detail::shape_text(std::array{i / L, i % L});
      detail::refuse({"ids", place, " is ", std::to_string(ids.data()[i]), "; expected 0 to ",
                      num_embeddings() - 1, ", the last of the ", num_embeddings(), " embeddings"});
    }
  }

  template <class Number, int Rank>
  void look_up(TensorView<Number, Rank> ids, T* y, Context& context) const {
    constexpr Index rows_per_task = 64;
    const Index count = ids.size(), E = embedding_dim();
    const auto threads = context.threads_for(
        detail::floats_per<T> * detail::multiply_adds_per_packed * detail::product(count, E));
    context.parallel_for(detail::blocks_of(count, rows_per_task), threads, [&](Index task) {
      for (Index i = task * rows_per_task, end = (std::min)(i + rows_per_task, count); i < end; ++i)
        std::copy_n(weight_.data() + static_cast<Index>(ids.data()[i]) * E, E, y + i * E);
    });
  }

  template <class Number, int Rank>
  static void save(TensorView<Number, Rank> ids, const Sequences* packed, Activations& saved) {
    saved.shape_.clear();  // until all is there, nothing is saved
    saved.is_packed_ = packed != nullptr;
    if (packed != nullptr) saved.sequences_ = *packed;
    saved.ids_.resize(static_cast<std::size_t>(ids.size()));
    std::transform(ids.data(), ids.data() + ids.size(), saved.ids_.begin(),
                   [](Number id) { return static_cast<Index>(id); });
    saved.shape_.assign(ids.dimensions().begin(), ids.dimensions().end());
  }

  template <int Rank>
  void require_gradient(TensorView<T, Rank> grad_y, const Activations& saved) const {
    if (saved.shape_.empty())
      detail::refuse<std::logic_error>(
          {"Embedding: backward needs the activations of a forward call"});
    if (std::ssize(saved.shape_) + 1 != Rank)
      detail::refuse({"grad_y has ", Rank, " axes; expected ", std::ssize(saved.shape_) + 1,
                      ", one more than the ids of the forward call"});
    std::array<Index, static_cast<std::size_t>(Rank)> expected{};
    *std::copy_n(saved.shape_.begin(), Rank - 1, expected.begin()) = embedding_dim();
    require_shape("grad_y", grad_y, "[..., embedding_dim]", expected);
    for (const Index id : saved.ids_)
      if (id >= num_embeddings())
        detail::refuse<std::logic_error>(
            {"Embedding: the activations are those of a table of more embeddings"});
  }

  Index padding_idx_;
  Tensor<T, 2> weight_;
};

// As PyTorch prints it: Embedding(30522, 384, padding_idx=0)
template <Scalar T>
std::ostream& operator<<(std::ostream& out, const Embedding<T>& embedding) {
  out << "Embedding(" << std::to_string(embedding.num_embeddings()) << ", "
      << std::to_string(embedding.embedding_dim());
  if (embedding.padding_idx()) out << ", padding_idx=" << std::to_string(*embedding.padding_idx());
  return out << ')';
}

}  // namespace eigenheads::inline EIGENHEADS_ABI

#include <eigenheads/detail/macros_on.inl>
