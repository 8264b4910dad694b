// SPDX-License-Identifier: MIT
// What the calls of TensorParallelFeedForward do. Included by tensor_feed_forward.hpp inside its
// namespace.

template <Scalar T>
void TensorParallelFeedForward<T>::require_parts() const {
  const int rank = ranks_->rank();
  const auto require = [](const char* name, const Linear<T>& part, Index inputs, Index outputs) {
    if (part.in_features() != inputs || part.out_features() != outputs)
      eigenheads::detail::refuse({"TensorParallelFeedForward: ", name, " is [", part.out_features(),
                                  ", ", part.in_features(), "]; expected this rank's outputs, [",
                                  outputs, ", ", inputs, "]"});
  };
  require("up", up, size(), hidden_.count(rank));
  if (gate) require("gate", *gate, size(), hidden_.count(rank));
  require("down", down, hidden_size(), outputs_.count(rank));
}

template <Scalar T>
void TensorParallelFeedForward<T>::require_saved(const Activations& saved) const {
  require_parts();
  if (!saved.is_saved())
    eigenheads::detail::refuse<std::logic_error>(
        {"TensorParallelFeedForward: backward needs the activations of a forward call"});
  if (saved.size() != size() || saved.up().dimension(1) != up.out_features())
    eigenheads::detail::refuse<std::logic_error>(
        {"TensorParallelFeedForward: the activations are those of a layer of other sizes"});
}

template <Scalar T>
void TensorParallelFeedForward<T>::fit(Gradients& gradients, bool accumulate) const {
  up.fit(gradients.up, accumulate);
  if (gate)
    gate->fit(gradients.gate, accumulate);
  else
    gradients.gate = {};
  down.fit(gradients.down, accumulate);
}

template <Scalar T>
void TensorParallelFeedForward<T>::make_hidden(const T* x, Index rows, const Hidden& to,
                                               Context& context) const {
  const eigenheads::detail::Range all{0, rows}, inputs{0, size()}, outputs{0, up.out_features()};
  const eigenheads::detail::ProjectedPart part{eigenheads::detail::one(all),
                                               eigenheads::detail::one(inputs),
                                               eigenheads::detail::one(outputs)};
  const auto plain = [&](T* y) {
    return eigenheads::detail::StridedMatrix<T>::plain(y, rows, up.out_features());
  };
  up.project(x, part, plain(to.up), context);
  if (gate) gate->project(x, part, plain(to.gate), context);
  eigenheads::detail::activate_hidden_rows<T>(parts(), {rows, to.up, to.gate}, to.h, context);
}

template <Scalar T>
void TensorParallelFeedForward<T>::project_down(const T* own_h, Index rows, T* y,
                                                Context& context) const {
  const eigenheads::detail::Frame frame(context);
  const eigenheads::detail::Range all{0, rows}, inputs{0, hidden_size()},
      outputs{0, down.out_features()};
  T* const h = frame.template take<T>(rows * hidden_size());
  T* const own_y = frame.template take<T>(rows * outputs.end);
  gather_columns(*ranks_, {hidden_, eigenheads::detail::one(all)}, own_h, h, context);
  down.project(h,
               {eigenheads::detail::one(all), eigenheads::detail::one(inputs),
                eigenheads::detail::one(outputs)},
               eigenheads::detail::StridedMatrix<T>::plain(own_y, rows, outputs.end), context);
  gather_columns(*ranks_, {outputs_, eigenheads::detail::one(all)}, own_y, y, context);
}

template <Scalar T>
void TensorParallelFeedForward<T>::run(const T* x, Index rows, T* y, Context& context) const {
  const eigenheads::detail::Frame frame(context);
  const Index own = rows * up.out_features();
  T* const h = frame.template take<T>(own);
  make_hidden(x, rows, {h, gate ? frame.template take<T>(own) : nullptr, h}, context);
  project_down(h, rows, y, context);
}

template <Scalar T>
template <int Rank>
Tensor<T, Rank> TensorParallelFeedForward<T>::train(
    TensorView<T, Rank> x, const eigenheads::detail::SavedSequences& sequences, Activations& saved,
    Context& context) const {
  Tensor<T, Rank> y;
  round(
      "a feed-forward network in training", x,
      [&] {
        require_input(x);
        const eigenheads::detail::SequenceRows of = sequences.rows();
        if (sequences.is_packed() && of.total() != x.dimension(0))
          eigenheads::detail::refuse({"x has ", x.dimension(0), " rows; expected ", of.total(),
                                      ", those of its ", of.count(), " sequences"});
        y = eigenheads::detail::make_tensor<T>("y", x.dimensions());
        const Index rows = x.size() / size();
        const auto kept = saved.keep(sequences, parts());
        std::copy_n(x.data(), x.size(), kept.x);
        const eigenheads::detail::Frame frame(context);
        T* const h = frame.template take<T>(rows * up.out_features());
        make_hidden(kept.x, rows, {kept.up, kept.gate, h}, context);
        project_down(h, rows, y.data(), context);
        saved.complete();
      },
      false, &sequences);
  return y;
}

template <Scalar T>
void TensorParallelFeedForward<T>::undo(Gradients& gradients, const T* grad_y,
                                        const Activations& saved, bool accumulate,
                                        Context& context) const {
  const eigenheads::detail::FeedForwardParts<T> of = parts();
  const eigenheads::detail::SequenceRows sequences = saved.sequences().rows();
  const Index rows = sequences.total(), own = rows * up.out_features();
  const eigenheads::detail::Range all{0, rows}, hidden{0, hidden_size()}, outputs{0, size()};
  const eigenheads::detail::Frame frame(context);
  T* const own_h = frame.template take<T>(own);
  T* const own_grad = frame.template take<T>(own);
  T* const h = frame.template take<T>(rows * hidden_size());  // of all ranks, then its gradients
  const eigenheads::detail::HiddenRows<T> of_rows{rows, saved.up().data(), saved.gate().data()};
  const auto gather = [&](const T* mine) {
    gather_columns(*ranks_, {hidden_, eigenheads::detail::one(all)}, mine, h, context);
  };
  // y = W_down h
  eigenheads::detail::activate_hidden_rows(of, of_rows, own_h, context);
  gather(own_h);
  shared_backward<T>(*ranks_, {down, outputs_, hidden_},
                     {.rows = sequences,
                      .x = h,
                      .grad_y = grad_y,
                      .grad_x = own_grad,
                      .outputs = eigenheads::detail::one(outputs),
                      .accumulate = accumulate},
                     gradients.down, context);
  // h = f(u), or f(g) u: own_h gets the gradient of g. A row has a gradient if it has one on any rank.
  const Index width = up.out_features();
  const std::vector<Index> counts(static_cast<std::size_t>(ranks_->size()), rows);
  std::vector<char> of_all(static_cast<std::size_t>(rows * ranks_->size()));
  const std::span<char> flags = of_all;
  const auto own_flags = flags.subspan(static_cast<std::size_t>(rows * ranks_->rank()),
                                       static_cast<std::size_t>(rows));
  for (Index row = 0; row < rows; ++row)
    own_flags[static_cast<std::size_t>(row)] =
        eigenheads::detail::has_gradient(own_grad + row * width, width);
  ranks_->all_gather<char>(own_flags, counts, flags);
  const auto has_any = [&](Index row) {
    for (Index at = row; at < std::ssize(flags); at += rows)
      if (flags[static_cast<std::size_t>(at)] != 0) return true;
    return false;
  };
  eigenheads::detail::activate_hidden_rows_backward<T>(of, of_rows, {own_grad, own_h}, has_any,
                                                       context);
  // u = W_up x, g = W_gate x
  T* const own_x = frame.template take<T>(rows * outputs_.count(ranks_->rank()));
  const auto undo_first = [&](const Linear<T>& linear, const T* mine, bool adds,
                              LinearGradients<T>& into) {
    gather(mine);
    shared_backward<T>(*ranks_, {linear, hidden_, outputs_},
                       {.rows = sequences,
                        .x = saved.x(),
                        .grad_y = h,
                        .grad_x = own_x,
                        .outputs = eigenheads::detail::one(hidden),
                        .accumulate = accumulate},
                       into, context);
    gather_gradient<T>(*ranks_, {outputs_, eigenheads::detail::one(all)}, own_x, gradients.x.data(),
                       adds, context);
  };
  undo_first(up, own_grad, false, gradients.up);
  if (gate) undo_first(*gate, own_h, true, gradients.gate);
}
