// SPDX-License-Identifier: MIT
// Rows and caches that are spread over processes of MPI: the bits of one process.
#include <cstring>
#include <stdexcept>
#include <string>
#include <vector>

#include <eigenheads/mpi/environment.hpp>
#include <eigenheads/mpi/sequence_layer.hpp>
#include <eigenheads/mpi/spread_step.hpp>

namespace {

namespace eh = eigenheads;
namespace mpi = eigenheads::mpi;
using eh::Index;

template <class Tensor>
void expect_same(const Tensor& got, const Tensor& expected, const std::string& what) {
  const auto bytes = sizeof(*got.data()) * static_cast<std::size_t>(got.size());
  if (got.size() != expected.size() ||
      (bytes > 0 && std::memcmp(got.data(), expected.data(), bytes) != 0))
    throw std::logic_error(what + " has other bits than one process gives");
}

template <class T>
void spread(mpi::Ranks& ranks, const eh::Mask& mask) {
  const eh::MultiHeadAttention<T> layer({.num_hiddens = 32,
                                         .num_heads = 4,
                                         .dropout = 0.25,
                                         .query_size = 32,
                                         .key_size = 32,
                                         .value_size = 32,
                                         .num_kv_heads = 2,
                                         .rotary = eh::RotaryOptions{}});
  const eh::Sequences sequences{1500, 0, 700};
  eh::Tensor<T, 2> x(sequences.rows(), 32);
  for (Index i = 0; i < x.size(); ++i)
    x.data()[i] = static_cast<T>(eh::random_symmetric(/*seed=*/1, /*stream=*/0, i));
  const mpi::SequenceParallel<T> parallel(layer, ranks);
  for (const auto deal : {mpi::Deal::cyclic, mpi::Deal::early_and_late, mpi::Deal::contiguous}) {
    const auto dealing = mpi::Dealing::of<T>(sequences, ranks.size(), deal);
    const auto mine = take_rows(x, dealing, ranks.rank());
    const auto rows = [&](const eh::Tensor<T, 2>& all) {
      return take_rows(all, dealing, ranks.rank());
    };
    const eh::Tensor<T, 2> expected = layer(x, sequences, mask);
    ranks.reset_traffic();
    expect_same(parallel(mine, dealing, mask), rows(expected), "the output");
    const auto cost = parallel.cost(dealing, mask, ranks.rank());
    if (cost.bytes_sent != ranks.traffic().bytes_sent ||
        cost.messages_sent != ranks.traffic().messages_sent)
      throw std::logic_error("more or less was sent than the plan says");
    expect_same(parallel.with_weights(mine, dealing, mask).output, rows(expected),
                "the output beside weights");
    typename eh::MultiHeadAttention<T>::Activations saved;
    mpi::SequenceActivations<T> of_rank;
    const eh::TrainingOptions<T> seed{.seed = eh::DropoutSeed{3}};
    expect_same(parallel.forward(mine, dealing, mask, of_rank, seed),
                rows(layer.forward(x, sequences, mask, saved, seed)), "the output in training");
  }
}

template <class T>
void decode(mpi::Ranks& ranks) {
  const eh::MultiHeadAttention<T> layer({.num_hiddens = 32,
                                         .num_heads = 4,
                                         .query_size = 32,
                                         .key_size = 32,
                                         .value_size = 32,
                                         .num_kv_heads = 2,
                                         .rotary = eh::RotaryOptions{}});
  const eh::KvCacheOptions sizes{
      .batch_size = 2, .num_kv_heads = 2, .head_size = 8, .capacity = 1300};
  eh::KvCache<T> whole(sizes);
  mpi::SpreadCache<T> cache(sizes, ranks);
  for (const Index n : {1200, 1, 1, 5}) {
    eh::Tensor<T, 3> x(2, n, 32);
    for (Index i = 0; i < x.size(); ++i)
      x.data()[i] = static_cast<T>(
          eh::random_symmetric(/*seed=*/2, /*stream=*/static_cast<std::uint64_t>(n), i));
    expect_same(mpi::step(layer, x, cache, ranks), layer.step(x, whole), "a step");
  }
}

}  // namespace

int main(int argc, char** argv) {
  mpi::Environment environment(argc, argv);
  return environment.run([](mpi::Ranks& ranks) {
    for (const eh::Mask& mask : std::vector<eh::Mask>{
             {},
             {.causal = eh::Causal::top_left},
             {.causal = eh::Causal::top_left, .window = {.left = 300}, .sinks = 2}}) {
      spread<float>(ranks, mask);
      spread<double>(ranks, mask);
    }
    decode<float>(ranks);
    decode<double>(ranks);
    return 0;
  });
}
