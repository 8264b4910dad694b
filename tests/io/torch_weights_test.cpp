// SPDX-License-Identifier: MIT
#include <algorithm>
#include <array>
#include <cmath>
#include <cstdint>
#include <filesystem>
#include <fstream>
#include <gtest/gtest.h>
#include <stdexcept>
#include <string>
#include <vector>

#include <eigenheads/io/file.hpp>
#include <eigenheads/io/npy.hpp>
#include <eigenheads/io/torch_weights.hpp>

#include "io/support.hpp"

namespace {

namespace eh = eigenheads;
using eh::Index;
using std::filesystem::path;

// Different numbers for every seed, all exact in float.
template <class T, class... Sizes>
auto numbers(int seed, Sizes... sizes) {
  eh::Tensor<T, static_cast<int>(sizeof...(Sizes))> tensor(static_cast<Index>(sizes)...);
  for (Index i = 0; i < tensor.size(); ++i)
    tensor.data()[i] = static_cast<T>((i * 37 + seed * 101) % 257 - 128) / T(64);
  return tensor;
}

template <class X>
void expect_equal(const X& got, const X& expected) {
  ASSERT_TRUE(std::ranges::equal(got.dimensions(), expected.dimensions()));
  for (Index i = 0; i < got.size(); ++i) ASSERT_EQ(got.data()[i], expected.data()[i]) << i;
}

constexpr Index E = 6, kdim = 4, vdim = 5;

// Layers in a folder of its own for every test.
class TorchWeights : public support::UniqueFolder {
 protected:
  [[nodiscard]] path file(const std::string& name) const { return folder_ / (name + ".npy"); }

  template <class X>
  void save(const std::string& name, const X& tensor) const {
    eh::save_npy(file(name), tensor);
  }
  template <class T = float>
  void save_packed() const {
    save("in_proj_weight", numbers<T>(1, 3 * E, E));
    save("out_proj.weight", numbers<T>(2, E, E));
  }
  template <class T = float>
  void save_separate() const {
    save("q_proj_weight", numbers<T>(3, E, E));
    save("k_proj_weight", numbers<T>(4, E, kdim));
    save("v_proj_weight", numbers<T>(5, E, vdim));
    save("out_proj.weight", numbers<T>(2, E, E));
  }
  template <class T = float>
  void save_biases() const {
    save("in_proj_bias", numbers<T>(6, 3 * E));
    save("out_proj.bias", numbers<T>(7, E));
  }

  // That the constructor refuses the paths, with this sentence; <dir> in it is the folder.
  void expect_refused(const std::vector<path>& paths, const std::string& sentence) const {
    try {
      const eh::TorchWeights weights(paths);
      ADD_FAILURE() << "accepted; expected: " << sentence;
    } catch (const eh::FileError& error) {
      EXPECT_EQ(with_dir(error.what()), "eigenheads: " + sentence);
    }
  }
  void expect_refused(const std::string& sentence) const { expect_refused({folder_}, sentence); }

  [[nodiscard]] std::string with_dir(std::string text) const {
    const std::string dir = folder_.string();
    for (auto at = text.find(dir); at != text.npos; at = text.find(dir))
      text.replace(at, dir.size(), "<dir>");
    return text;
  }
};

template <class T>
struct TorchWeightsOf : TorchWeights {};
using Scalars = testing::Types<float, double>;
TYPED_TEST_SUITE(TorchWeightsOf, Scalars);

TYPED_TEST(TorchWeightsOf, PackedRowsAreQueriesKeysAndValues) {
  using T = TypeParam;
  this->template save_packed<T>();
  this->template save_biases<T>();
  const auto layer = eh::load_torch_weights<T>(this->folder_, 3);
  EXPECT_EQ(layer.num_hiddens(), E);
  EXPECT_EQ(layer.num_heads(), 3);
  EXPECT_EQ(layer.num_kv_heads(), 3);
  EXPECT_EQ(layer.head_size(), 2);

  const auto weight = numbers<T>(1, 3 * E, E);
  const auto bias = numbers<T>(6, 3 * E);
  const std::array projections{&layer.W_q, &layer.W_k, &layer.W_v};
  for (Index i = 0; i < 3; ++i) {
    const auto& projection = *projections[static_cast<std::size_t>(i)];
    const auto got = projection.weight();
    ASSERT_TRUE(std::ranges::equal(got.dimensions(), std::array{E, E}));
    for (Index row = 0; row < E; ++row) {
      EXPECT_EQ(projection.bias()(row), bias(i * E + row));
      for (Index column = 0; column < E; ++column)
        EXPECT_EQ(got(row, column), weight(i * E + row, column));
    }
  }
  expect_equal(layer.W_o.weight(), numbers<T>(2, E, E));
  expect_equal(layer.W_o.bias(), numbers<T>(7, E));
}

TYPED_TEST(TorchWeightsOf, SeparateProjectionsMayDifferInSize) {
  using T = TypeParam;
  this->template save_separate<T>();
  const auto layer = eh::load_torch_weights<T>(this->folder_, 2);
  EXPECT_FALSE(layer.W_q.has_bias() || layer.W_k.has_bias() || layer.W_v.has_bias() ||
               layer.W_o.has_bias());
  expect_equal(layer.W_q.weight(), numbers<T>(3, E, E));
  expect_equal(layer.W_k.weight(), numbers<T>(4, E, kdim));
  expect_equal(layer.W_v.weight(), numbers<T>(5, E, vdim));
  expect_equal(layer.W_o.weight(), numbers<T>(2, E, E));

  const auto y =
      layer(numbers<T>(8, 2, 3, E), numbers<T>(9, 2, 7, kdim), numbers<T>(10, 2, 7, vdim));
  EXPECT_TRUE(std::ranges::equal(y.dimensions(), std::array<Index, 3>{2, 3, E}));
}

// The same parameters, stored both ways: the same layer, to the last bit of what it computes.
TYPED_TEST(TorchWeightsOf, PackedAndSeparateGiveTheSameBits) {
  using T = TypeParam;
  this->template save_packed<T>();
  this->template save_biases<T>();
  const auto packed = eh::load_torch_weights<T>(this->folder_, 3);

  std::filesystem::remove(this->file("in_proj_weight"));
  const auto weight = numbers<T>(1, 3 * E, E);
  const auto rows = [&](Index i) { return eh::TensorView<T, 2>(&weight(i * E, 0), {E, E}); };
  this->save("q_proj_weight", rows(0));
  this->save("k_proj_weight", rows(1));
  this->save("v_proj_weight", rows(2));
  const auto separate = eh::load_torch_weights<T>(this->folder_, 3);

  const auto x = numbers<T>(8, 2, 5, E), y = numbers<T>(9, 2, 4, E);
  const auto a = packed.with_weights(x, y, y), b = separate.with_weights(x, y, y);
  expect_equal(a.output, b.output);
  expect_equal(a.weights, b.weights);
}

TEST_F(TorchWeights, FilesMayBeListedInAnyOrderAndLieAnywhere) {
  save_packed();
  save_biases();
  std::filesystem::create_directory(folder_ / "elsewhere");
  std::filesystem::rename(file("out_proj.weight"), folder_ / "elsewhere" / "out_proj.weight.npy");
  const eh::TorchWeights weights(
      {file("out_proj.bias"), folder_ / "elsewhere", file("in_proj_weight"), file("in_proj_bias")});
  EXPECT_EQ(weights.embed_dim(), E);
  expect_equal(weights.load<float>(1).W_o.weight(), numbers<float>(2, E, E));
}

TEST_F(TorchWeights, OtherFilesInTheFolderDoNotCount) {
  save_packed();
  std::ofstream(folder_ / "README.md") << "notes";
  std::filesystem::create_directory(folder_ / "more");
  std::ofstream(folder_ / "more" / "bias_k.npy") << "not read";
  EXPECT_NO_THROW((void)eh::load_torch_weights<float>(folder_, 3));
}

TEST_F(TorchWeights, AnyFloat64FileMakesTheLayerFloat64) {
  save_packed();
  EXPECT_FALSE(eh::TorchWeights({folder_}).is_float64());
  save("out_proj.weight", numbers<double>(2, E, E));
  const eh::TorchWeights weights({folder_});
  EXPECT_TRUE(weights.is_float64());
  expect_equal(weights.load<double>(3).W_o.weight(), numbers<double>(2, E, E));
  try {
    (void)weights.load<float>(3);
    ADD_FAILURE() << "a float64 file was rounded to float";
  } catch (const eh::FileError& error) {
    EXPECT_EQ(with_dir(error.what()),
              "eigenheads: <dir>/out_proj.weight.npy: holds float64 values; load it as double, not "
              "float");
  }
}

TEST_F(TorchWeights, FortranOrderIsTransposed) {
  save_packed();
  const auto weight = numbers<float>(2, E, E);
  eh::Tensor<float, 2> turned(E, E);
  for (Index i = 0; i < E; ++i)
    for (Index j = 0; j < E; ++j) turned(j, i) = weight(i, j);
  save("out_proj.weight", turned);
  std::string bytes = eh::read_file(file("out_proj.weight"));
  bytes.replace(bytes.find("False"), 5, "True ");
  eh::write_file(file("out_proj.weight"), bytes);
  expect_equal(eh::load_torch_weights<float>(folder_, 3).W_o.weight(), weight);
}

// Inputs of torch.nn.MultiheadAttention, and what it makes of them (examples/sample/README.md).
TEST_F(TorchWeights, ASampleTrainedByTorchGivesWhatTorchComputes) {
  const path sample = path(EIGENHEADS_SOURCE_DIR) / "examples" / "sample";
  const auto layer = eh::load_torch_weights<double>(sample / "weights", 5);
  const eh::Mask mask{.valid_lens = eh::load_npy<std::int64_t, 1>(sample / "valid_lens.npy")};
  const auto got = layer.with_weights(eh::load_npy<double, 3>(sample / "queries.npy"),
                                      eh::load_npy<double, 3>(sample / "keys.npy"),
                                      eh::load_npy<double, 3>(sample / "values.npy"), mask);
  // Both sides computed in float64 from the same float32 numbers, then one rounded to float32.
  const auto expect_rounded = [](const auto& y, const auto& expected) {
    ASSERT_TRUE(std::ranges::equal(y.dimensions(), expected.dimensions()));
    for (Index i = 0; i < y.size(); ++i)
      ASSERT_NEAR(y.data()[i], expected.data()[i], std::abs(y.data()[i]) * 6e-8 + 1e-11) << i;
  };
  expect_rounded(got.output, eh::load_npy<double, 3>(sample / "expected_output.npy"));
  expect_rounded(got.weights, eh::load_npy<double, 4>(sample / "expected_attention.npy"));
}

// ---- Refusals -----------------------------------------------------------------------------------

const std::string kNames =
    "in_proj_weight.npy, q_proj_weight.npy, k_proj_weight.npy, v_proj_weight.npy, "
    "in_proj_bias.npy, out_proj.weight.npy, out_proj.bias.npy";

TEST_F(TorchWeights, RefusesPathsWithoutALayer) {
  EXPECT_THROW(eh::TorchWeights({}), std::invalid_argument);
  expect_refused("<dir>: a folder without .npy files; expected in_proj_weight.npy and others");
  expect_refused({folder_ / "none"}, "<dir>/none: No such file or directory");
  expect_refused({file("in_proj_weight")}, "<dir>/in_proj_weight.npy: No such file or directory");
  std::filesystem::create_directory(file("in_proj_weight"));
  expect_refused("<dir>/in_proj_weight.npy: Is a directory");
}

TEST_F(TorchWeights, RefusesOtherNames) {
  save_packed();
  for (const std::string name : {"bias_k", "bias_v"}) {
    save(name, numbers<float>(1, 1, 1, E));
    expect_refused("<dir>/" + name + ".npy: add_bias_kv=True is not supported; expected " + kNames);
    std::filesystem::remove(file(name));
  }
  for (const std::string name : {"out_proj_weight", "in_proj_weigh", "In_proj_weight", "x"}) {
    save(name, numbers<float>(1, E));
    expect_refused("<dir>/" + name + ".npy: not the name of a parameter; expected " + kNames);
    std::filesystem::remove(file(name));
  }
  std::filesystem::copy(file("out_proj.weight"), folder_ / "out_proj.weight");  // without its .npy
  expect_refused({file("in_proj_weight"), folder_ / "out_proj.weight"},
                 "<dir>/out_proj.weight: not the name of a parameter; expected " + kNames);
}

TEST_F(TorchWeights, RefusesTheSameParameterTwice) {
  save_packed();
  expect_refused({folder_, file("in_proj_weight")},
                 "<dir>/in_proj_weight.npy: a second in_proj_weight; the first is "
                 "<dir>/in_proj_weight.npy");
  for (const std::string name : {"q_proj_weight", "k_proj_weight", "v_proj_weight"}) {
    save(name, numbers<float>(3, E, E));
    expect_refused("<dir>/" + name +
                   ".npy: the same parameter is in <dir>/in_proj_weight.npy; expected only one of "
                   "the two");
    std::filesystem::remove(file(name));
  }
}

TEST_F(TorchWeights, RefusesALayerWithAMissingParameter) {
  save_separate();
  for (const std::string name : {"k_proj_weight", "out_proj.weight", "q_proj_weight"}) {
    const path hidden = folder_ / "hidden";
    std::filesystem::rename(file(name), hidden);
    std::string found = "k_proj_weight, out_proj.weight, q_proj_weight, v_proj_weight";
    const auto at = found.find(name);
    found.erase(at, name.size() + 2);
    expect_refused("<dir>: found only " + found + "; expected also " + name);
    std::filesystem::rename(hidden, file(name));
  }
  expect_refused({file("q_proj_weight"), file("k_proj_weight")},
                 "<dir>/q_proj_weight.npy, <dir>/k_proj_weight.npy: found only k_proj_weight, "
                 "q_proj_weight; expected also v_proj_weight");
  expect_refused({file("out_proj.weight")},
                 "<dir>/out_proj.weight.npy: found only out_proj.weight; expected also "
                 "in_proj_weight, or q_proj_weight, k_proj_weight and v_proj_weight");
}

TEST_F(TorchWeights, RefusesHalfOfTheBiases) {
  save_packed();
  save_biases();
  std::filesystem::rename(file("in_proj_bias"), folder_ / "hidden");
  expect_refused(
      "<dir>: found only in_proj_weight, out_proj.bias, out_proj.weight; expected also "
      "in_proj_bias, or with bias=False no out_proj.bias");
  std::filesystem::rename(folder_ / "hidden", file("in_proj_bias"));
  std::filesystem::remove(file("out_proj.bias"));
  expect_refused(
      "<dir>: found only in_proj_bias, in_proj_weight, out_proj.weight; expected also "
      "out_proj.bias, or with bias=False no in_proj_bias");
}

TEST_F(TorchWeights, RefusesOutputWeightsThatAreNotSquare) {
  save_packed();
  const std::string but = "; expected [E, E], where E is 1 or more";
  save("out_proj.weight", numbers<float>(2, E, E + 1));
  expect_refused("<dir>/out_proj.weight.npy: has shape [6, 7]" + but);
  save("out_proj.weight", numbers<float>(2, E));
  expect_refused("<dir>/out_proj.weight.npy: has shape [6]" + but);
  save("out_proj.weight", eh::Tensor<float, 2>(0, 0));
  expect_refused("<dir>/out_proj.weight.npy: has shape [0, 0]" + but);
}

TEST_F(TorchWeights, RefusesShapesThatDoNotFit) {
  const std::string where = ", where E = 6 is from <dir>/out_proj.weight.npy";
  save_packed();
  save_biases();
  save("in_proj_weight", numbers<float>(1, 3 * E, E - 1));
  expect_refused("<dir>/in_proj_weight.npy: has shape [18, 5]; expected [3E, E] = [18, 6]" + where);
  save("in_proj_weight", numbers<float>(1, E, E));
  expect_refused("<dir>/in_proj_weight.npy: has shape [6, 6]; expected [3E, E] = [18, 6]" + where);
  save("in_proj_weight", numbers<float>(1, 3 * E, E));
  save("in_proj_bias", numbers<float>(6, E));
  expect_refused("<dir>/in_proj_bias.npy: has shape [6]; expected [3E] = [18]" + where);
  save("in_proj_bias", numbers<float>(6, 3 * E, 1));
  expect_refused("<dir>/in_proj_bias.npy: has shape [18, 1]; expected [3E] = [18]" + where);
  save("in_proj_bias", numbers<float>(6, 3 * E));
  save("out_proj.bias", numbers<float>(7, E + 1));
  expect_refused("<dir>/out_proj.bias.npy: has shape [7]; expected [E] = [6]" + where);

  for (const auto* name : {"in_proj_weight", "in_proj_bias", "out_proj.bias"})
    std::filesystem::remove(file(name));
  save_separate();
  save("q_proj_weight", numbers<float>(3, E, kdim));
  expect_refused("<dir>/q_proj_weight.npy: has shape [6, 4]; expected [E, E] = [6, 6]" + where);
  save_separate();
  save("k_proj_weight", numbers<float>(3, kdim, E));
  expect_refused("<dir>/k_proj_weight.npy: has shape [4, 6]; expected [E, kdim] = [6, *]" + where);
  save_separate();
  save("v_proj_weight", eh::Tensor<float, 2>(E, 0));
  expect_refused("<dir>/v_proj_weight.npy: has shape [6, 0]; expected [E, vdim] = [6, *]" + where);
}

TEST_F(TorchWeights, RefusesValuesThatAreNoFloats) {
  save_packed();
  save("out_proj.weight", eh::Tensor<std::int32_t, 2>(E, E).setZero());
  expect_refused("<dir>/out_proj.weight.npy: holds int32 values; expected float32 or float64");
}

TEST_F(TorchWeights, RefusesAFolderWithAZeroByteInItsName) {
  save_packed();
  const std::string name = folder_.string() + std::string("\0x", 2);
  expect_refused({name}, "<dir>?x: a zero byte in the name of a file");
}

TEST_F(TorchWeights, RefusesACutFile) {
  save_packed();
  std::filesystem::resize_file(file("out_proj.weight"), 200);
  try {
    const eh::TorchWeights weights({folder_});
    ADD_FAILURE() << "accepted";
  } catch (const eh::FileError& error) {
    EXPECT_TRUE(with_dir(error.what()).starts_with("eigenheads: <dir>/out_proj.weight.npy: "))
        << error.what();
  }
}

TEST_F(TorchWeights, RefusesHeadsThatDoNotDivideTheSize) {
  save_packed();
  const eh::TorchWeights weights({folder_});
  for (const Index num_heads : {Index{4}, Index{0}, Index{-1}, Index{7}, Index{12}}) try {
      (void)weights.load<float>(num_heads);
      ADD_FAILURE() << num_heads << " heads were accepted";
    } catch (const std::invalid_argument& error) {
      EXPECT_EQ(with_dir(error.what()),
                "eigenheads: num_heads is " + std::to_string(num_heads) +
                    "; expected a divisor of E = 6, the size of <dir>/out_proj.weight.npy");
    }
  for (const Index num_heads : {1, 2, 3, 6})
    EXPECT_EQ(weights.load<float>(num_heads).num_heads(), num_heads);
}

TEST_F(TorchWeights, RefusesFilesReplacedSinceTheyWereListed) {
  save_packed();
  const eh::TorchWeights weights({folder_});
  save("in_proj_weight", numbers<float>(1, E, E));  // fewer rows than the header that was read
  try {
    (void)weights.load<float>(3);
    ADD_FAILURE() << "accepted";
  } catch (const eh::FileError& error) {
    EXPECT_EQ(with_dir(error.what()),
              "eigenheads: <dir>/in_proj_weight.npy: changed while it was read");
  }
  std::filesystem::remove(file("in_proj_weight"));
  EXPECT_THROW((void)weights.load<float>(3), eh::FileError);
}

}  // namespace
