// SPDX-License-Identifier: MIT
// What a rank reads of a checkpoint of the whole. Counts what each thread, which is a rank here, reads.
#include <atomic>
#include <cstddef>
#include <dlfcn.h>
#include <exception>
#include <filesystem>
#include <gtest/gtest.h>
#include <map>
#include <string>
#include <sys/types.h>
#include <utility>
#include <vector>

#include <eigenheads/io/module.hpp>
#include <eigenheads/mpi/local_transport.hpp>
#include <eigenheads/mpi/tensor_checkpoints.hpp>
#include <eigenheads/mpi/tensor_encoder.hpp>
#include <eigenheads/rotary.hpp>

#include "counting.hpp"
#include "io/support.hpp"
#include "nn/transformers.hpp"
#include "support.hpp"

// Of this thread, since it was set to 0.
thread_local long bytes_read = 0;

extern "C" ssize_t pread(int file, void* to, std::size_t count, off_t offset) {
  static const auto next =
      reinterpret_cast<ssize_t (*)(int, void*, std::size_t, off_t)>(dlsym(RTLD_NEXT, "pread"));
  const ssize_t got = next(file, to, count, offset);
  if (got > 0) bytes_read += got;
  return got;
}

namespace {

namespace mpi = eigenheads::mpi;
using namespace support;
namespace families = eh::checkpoint_families;
using eh::ModuleParts, eh::TransformerEncoder, eh::TransformerStackOptions;
using mpi::Ranks;

using TensorCheckpoints = UniqueFolder;
// Which save_parameters does not compile with.
static_assert(eh::detail::SharedModule<mpi::TensorParallelEncoder<float>>);
static_assert(!eh::detail::SharedModule<TransformerEncoder<float>>);

// Whether the shares are those of the whole, to the bit.
template <class T>
void expect_shares(mpi::TensorParallelEncoder<T>& part, const TransformerEncoder<T>& whole) {
  std::map<std::string, std::vector<T>> expected;
  whole.for_each_parameter([&](const auto& parameter) {
    auto& values = expected[parameter.name()];
    values.resize(static_cast<std::size_t>(parameter.size()));
    parameter.copy_to(values);
  });
  part.for_each_share([&](const auto& parameter, Index first, Index all) {
    const auto& values = expected.at(parameter.name());
    const Index columns = std::ssize(values) / all;
    ASSERT_LE((first + parameter.shape()[0]) * columns, std::ssize(values));
    for (Index i = 0; i < parameter.size(); ++i)
      ASSERT_EQ(bits(parameter.get(i)), bits(values[static_cast<std::size_t>(first * columns + i)]))
          << parameter.name() << ' ' << i;
  });
}

[[nodiscard]] TransformerStackOptions llama_options() {
  auto options = rms_stack_of(true);
  options.layer.gated = true;
  options.layer.bias = false;
  options.layer.num_heads = 6;
  options.layer.num_kv_heads = 3;
  options.layer.activation = eh::Activation::silu;
  // The other layout: rows lie in another order in the file.
  options.layer.rotary =
      eh::RotaryOptions{.max_positions = 40, .layout = eh::RotaryLayout::interleaved};
  return options;
}

TEST_F(TensorCheckpoints, EachRankHasItsRowsOfTheWhole) {
  struct Case {
    const eh::CheckpointFamily& family;
    TransformerStackOptions options;
  };
  auto gpt2 = stack_of(true);
  gpt2.layer.rotary.reset();
  for (const Case& one : {Case{families::bert, stack_of(false)}, Case{families::gpt2, gpt2},
                          Case{families::llama, llama_options()}}) {
    SCOPED_TRACE(one.family.name);
    const auto whole = make<TransformerEncoder<float>>(one.options);
    const auto path = folder_ / "whole.safetensors";
    eh::save_checkpoint(path, one.family, "encoder.", whole);
    const auto x = random_tensor<float>(1, 2, 5, 24);
    const auto y = whole(x);
    for (const int size : {1, 2, 3, 4, 8})
      mpi::run_locally(size, [&](Ranks& ranks) {
        mpi::TensorParallelEncoder<float> part(one.options, ranks);
        mpi::load_checkpoint(ranks, path, one.family, ModuleParts().add("encoder.", part));
        expect_shares(part, whole);
        EXPECT_TRUE(same_bits(part(x), y));
      });
  }
}

TEST_F(TensorCheckpoints, ParametersUnderTheModulesOwnNames) {
  const auto whole = make<TransformerEncoder<double>>(llama_options());
  const auto path = folder_ / "whole.safetensors";
  eh::save_parameters(path, whole);
  for (const int size : {1, 2, 8})
    mpi::run_locally(size, [&](Ranks& ranks) {
      mpi::TensorParallelEncoder<double> part(llama_options(), ranks);
      mpi::load_parameters(ranks, path, part);
      expect_shares(part, whole);
    });
}

TEST_F(TensorCheckpoints, ARankReadsItsShareAndNobodyHoldsTheWhole) {
  const TransformerStackOptions options{
      .layer = {.num_hiddens = 128, .num_heads = 8, .feed_forward_size = 512}, .num_layers = 4};
  const auto path = folder_ / "whole.safetensors";
  Index whole_bytes = 0;
  {
    const auto whole = make<TransformerEncoder<float>>(options);
    whole.for_each_parameter(
        [&](const auto& parameter) { whole_bytes += parameter.size() * Index{sizeof(float)}; });
    eh::save_checkpoint(path, families::bert, "encoder.", whole);
  }
  const Index header = static_cast<Index>(std::filesystem::file_size(path)) - whole_bytes;
  constexpr int size = 8;
  const Counted all = counted([&] {
    mpi::run_locally(size, [&](Ranks& ranks) {
      mpi::TensorParallelEncoder<float> part(options, ranks);
      Index own = 0;
      part.for_each_parameter(
          [&](const auto& parameter) { own += parameter.size() * Index{sizeof(float)}; });
      EXPECT_LT(own, whole_bytes / size + 4 * 4 * 128 * Index{sizeof(float)} + 1);
      bytes_read = 0;
      mpi::load_checkpoint(ranks, path, families::bert, ModuleParts().add("encoder.", part));
      EXPECT_GE(bytes_read, own + header);
      EXPECT_LE(bytes_read, own + header + 16);  // looking what kind of file it is
    });
  });
  // Of all ranks together: what they keep, and once more what they have read. If each had held the
  // whole, it would be 8 times that.
  EXPECT_LT(all.peak, 3 * whole_bytes);
}

// Each rank's sentence, and that its module stays as it was.
template <class Load>
[[nodiscard]] std::vector<std::string> failures(int size, const Load& load) {
  std::vector<std::string> said(static_cast<std::size_t>(size));
  mpi::run_locally(size, [&](Ranks& ranks) {
    mpi::TensorParallelEncoder<float> part(stack_of(false), ranks);
    disturb(part);
    const auto before = values_of<float>(part);
    auto& sentence = said[static_cast<std::size_t>(ranks.rank())];
    try {
      load(ranks, part);
    } catch (const std::exception& error) {
      sentence = error.what();
    }
    EXPECT_TRUE(values_of<float>(part) == before);
  });
  return said;
}

TEST_F(TensorCheckpoints, ATruncatedShardIsEverybodysSentence) {
  const auto whole = make<TransformerEncoder<float>>(stack_of(false));
  const auto path = folder_ / "whole.safetensors";
  eh::save_checkpoint(path, families::bert, "encoder.", whole);
  const auto good = folder_ / "good.safetensors";
  std::filesystem::copy_file(path, good);
  std::filesystem::resize_file(path, std::filesystem::file_size(path) - 1000);
  // On all machines, and on one.
  for (const int bad : {-1, 1})
    for (const std::string& sentence : failures(3, [&](Ranks& ranks, auto& part) {
           const auto& mine = bad < 0 || ranks.rank() == bad ? path : good;
           mpi::load_checkpoint(ranks, mine, families::bert, ModuleParts().add("encoder.", part));
         }))
      EXPECT_NE(sentence.find("whole.safetensors: "), std::string::npos) << sentence;
}

TEST_F(TensorCheckpoints, AMissingTensorOrAnotherShapeIsEverybodysSentence) {
  auto options = stack_of(false);
  options.num_layers = 2;
  const auto path = folder_ / "two.safetensors";
  eh::save_checkpoint(path, families::bert, "encoder.", make<TransformerEncoder<float>>(options));
  const auto load = [&](Ranks& ranks, auto& part) {
    mpi::load_checkpoint(ranks, path, families::bert, ModuleParts().add("encoder.", part));
  };
  for (const std::string& sentence : failures(4, load))
    EXPECT_NE(sentence.find("lacks 16 of 48 parameters"), std::string::npos) << sentence;
  options.num_layers = 3;
  options.layer.feed_forward_size = 39;
  eh::save_checkpoint(path, families::bert, "encoder.", make<TransformerEncoder<float>>(options));
  for (const std::string& sentence : failures(4, load))
    EXPECT_NE(sentence.find("is F32 [39, 24]; expected [40, 24]"), std::string::npos) << sentence;
  eh::save_parameters(path, make<TransformerEncoder<float>>(options));
  for (const std::string& sentence :
       failures(2, [&](Ranks& ranks, auto& part) { mpi::load_parameters(ranks, path, part); }))
    EXPECT_NE(sentence.find("[39, 24]; expected F32 [40, 24]"), std::string::npos) << sentence;
}

TEST_F(TensorCheckpoints, AFileThatOneRankRefusesLeavesTheParametersOfAll) {
  const auto good = folder_ / "good.safetensors", more = folder_ / "more.safetensors",
             doubles = folder_ / "doubles.safetensors", cut = folder_ / "cut.safetensors";
  const auto whole = make<TransformerEncoder<float>>(stack_of(false));
  auto options = stack_of(false);
  options.num_layers = 4;
  eh::save_parameters(good, whole);
  eh::save_parameters(cut, whole);
  std::filesystem::resize_file(cut, std::filesystem::file_size(cut) - 1000);
  eh::save_parameters(more, make<TransformerEncoder<float>>(options));
  eh::save_parameters(doubles, make<TransformerEncoder<double>>(stack_of(false)));
  for (const auto& [bad, expected] :
       {std::pair{cut, "cut.safetensors: "}, std::pair{more, "is none of the module's parameters"},
        std::pair{doubles, "; expected F32 ["}})
    for (const std::string& sentence : failures(3, [&, file = bad](Ranks& ranks, auto& part) {
           mpi::load_parameters(ranks, ranks.rank() == 1 ? file : good, part);
         }))
      EXPECT_NE(sentence.find(expected), std::string::npos) << sentence;
}

TEST_F(TensorCheckpoints, ParametersOfAnotherTypeAreRefused) {
  const auto path = folder_ / "whole.safetensors";
  eh::save_parameters(path, make<TransformerEncoder<float>>(stack_of(false)));
  mpi::run_locally(2, [&](Ranks& ranks) {
    mpi::TensorParallelEncoder<double> part(stack_of(false), ranks);
    const std::string said =
        refusal<std::exception>([&] { mpi::load_parameters(ranks, path, part); });
    EXPECT_NE(said.find(" is F32 ["), std::string::npos) << said;
    EXPECT_NE(said.find("; expected F64 ["), std::string::npos) << said;
  });
}

}  // namespace
