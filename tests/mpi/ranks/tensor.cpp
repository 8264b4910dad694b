// SPDX-License-Identifier: MIT
// An encoder that is shared out over processes of MPI, in inference, decoding and training: the bits of
// the whole.
#include <cstring>
#include <stdexcept>
#include <string>
#include <vector>

#include <eigenheads/mpi/environment.hpp>
#include <eigenheads/mpi/tensor_encoder.hpp>
#include <eigenheads/nn/transformer_encoder.hpp>
#include <eigenheads/rotary.hpp>

namespace {

namespace eh = eigenheads;
namespace mpi = eigenheads::mpi;
using eh::Index, eh::Tensor;

template <class X>
void expect_same(const X& got, const X& expected, const char* what) {
  if (got.size() != expected.size() ||
      std::memcmp(got.data(), expected.data(),
                  static_cast<std::size_t>(got.size()) * sizeof *got.data()) != 0)
    throw std::logic_error(std::string(what) + " has not the bits of one process");
}

template <class T>
[[nodiscard]] Tensor<T, 3> numbers(Index B, Index L, Index E, int seed) {
  Tensor<T, 3> x(B, L, E);
  for (Index i = 0; i < x.size(); ++i)
    x.data()[i] = static_cast<T>((i * 7919 + seed * 104729) % 2003) / T(1001) - T(1);
  return x;
}

template <class T>
void compare(mpi::Ranks& ranks) {
  const eh::TransformerStackOptions options{
      .layer = {.num_hiddens = 40,
                .num_heads = 6,
                .feed_forward_size = 51,
                .activation = eh::Activation::silu,
                .gated = true,
                .norm_first = true,
                .num_kv_heads = 3,
                .head_size = 8,
                .rotary = eh::RotaryOptions{.max_positions = 400}},
      .num_layers = 2,
      .final_norm = true};
  const eh::TransformerEncoder<T> whole(options, 1);
  const mpi::TensorParallelEncoder<T> part(whole, ranks);
  const eh::Mask causal{.causal = eh::Causal::top_left};
  const auto x = numbers<T>(2, 300, 40, 1), dy = numbers<T>(2, 300, 40, 2);
  const auto y = whole(x, causal);
  expect_same(part(x, causal), y, "the output");

  eh::TransformerCache<T> cache(part, {.batch_size = 2, .capacity = 300});
  eh::TransformerCache<T> of_whole(whole, {.batch_size = 2, .capacity = 300});
  for (const Index n : {Index{270}, Index{1}, Index{2}}) {
    const auto next = numbers<T>(2, n, 40, static_cast<int>(n));
    expect_same(part.step(next, cache), whole.step(next, of_whole), "a step");
  }

  typename mpi::TensorParallelEncoder<T>::Activations saved;
  typename eh::TransformerEncoder<T>::Activations saved_whole;
  expect_same(part.forward(x, causal, saved), whole.forward(x, causal, saved_whole),
              "the output in training");
  expect_same(part.backward(dy, saved).x, whole.backward(dy, saved_whole).x, "the gradient");
}

}  // namespace

int main(int argc, char** argv) {
  mpi::Environment environment(argc, argv);
  return environment.run([](mpi::Ranks& ranks) {
    compare<float>(ranks);
    compare<double>(ranks);
    return 0;
  });
}
