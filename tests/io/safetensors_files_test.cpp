// SPDX-License-Identifier: MIT
// Tensors that stay in their files until they are asked for, of one file or of several.
#include <algorithm>
#include <array>
#include <atomic>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <filesystem>
#include <gtest/gtest.h>
#include <limits>
#include <new>
#include <random>
#include <span>
#include <string>
#include <thread>
#include <vector>

#include <eigenheads/io/safetensors_files.hpp>

#include "io/largest_request.hpp"
#include "io/support.hpp"

namespace {

namespace eh = eigenheads;
namespace fs = std::filesystem;
using eh::Conversion, eh::Index, eh::SafetensorsFiles;
using support::bytes_of, support::kNothing;
using namespace std::string_literals;

const fs::path kReference = fs::path(EIGENHEADS_SOURCE_DIR) / "tests/io/reference.safetensors";

class FilesOfTensors : public support::UniqueFolder {
 protected:
  [[nodiscard]] fs::path at(const std::string& name) const { return folder_ / name; }
  void write(const std::string& name, const std::string& bytes) const {
    eh::write_file(at(name), bytes);
  }
  template <class... Tensors>
  void write_tensors(const std::string& file, const std::vector<std::string>& names,
                     const Tensors&... tensors) const {
    eh::Safetensors contents;
    std::size_t i = 0;
    (contents.add(names[i++], tensors), ...);
    eh::write_safetensors(at(file), contents);
  }
  // Over the old one: to make a new one, or to empty the old, takes milliseconds.
  void overwrite(const std::string& name, const std::string& bytes) const {
    if (fs::file_size(at(name)) != bytes.size()) fs::resize_file(at(name), bytes.size());
    eh::detail::File(at(name), "r+b").write(bytes);
  }
  // What opening is refused with, without the path that it must begin with.
  [[nodiscard]] std::string refused(const std::string& name) const { return refused(name, name); }
  [[nodiscard]] std::string refused(const std::string& name, const std::string& named) const {
    return support::file_refusal(at(named), [&] { SafetensorsFiles files(at(name)); });
  }
  void write_index(const std::string& map, const std::string& metadata = "{}") const {
    write("model.safetensors.index.json",
          R"({"metadata":)" + metadata + R"(,"weight_map":)" + map + "}");
  }
  // Two files of two tensors.
  void write_shards() const {
    write_tensors("1.safetensors", {"a", "b"}, numbers(3), numbers(4));
    write_tensors("2.safetensors", {"c", "d"}, numbers(5), numbers(6));
  }
  static eh::Tensor<float, 1> numbers(Index n) {
    eh::Tensor<float, 1> x(n);
    for (Index i = 0; i < n; ++i) x(i) = static_cast<float>(10 * n + i);
    return x;
  }
};

const std::string kMap =
    R"({"a":"1.safetensors","b":"1.safetensors","c":"2.safetensors","d":"2.safetensors"})";

// ---- One file -----------------------------------------------------------------------------------

TEST_F(FilesOfTensors, HoldWhatTheWholeFileHolds) {
  const eh::Safetensors whole = eh::read_safetensors(kReference);
  const SafetensorsFiles files(kReference);
  EXPECT_EQ(files.names(), whole.names());
  EXPECT_EQ(files.metadata(), whole.metadata());
  EXPECT_EQ(files.num_files(), 1u);
  EXPECT_EQ(files.path(), kReference);
  for (const std::string& name : whole.names()) {
    EXPECT_EQ(files.shape(name), whole.shape(name));
    EXPECT_EQ(files.type_name(name), whole.type_name(name));
  }
  EXPECT_FALSE(files.contains("no such"));
  EXPECT_EQ(support::file_refusal(kReference, [&] { (void)files.type("no such"); }),
            "no tensor \"no such\"");
}

template <class T>
class FilesOfTensorsAs : public FilesOfTensors {};
using Elements =
    testing::Types<float, double, bool, std::int8_t, std::uint8_t, std::int16_t, std::uint16_t,
                   std::int32_t, std::uint32_t, std::int64_t, std::uint64_t>;
TYPED_TEST_SUITE(FilesOfTensorsAs, Elements);

// Of a size at, and around, that of the buffer that conversions go through.
TYPED_TEST(FilesOfTensorsAs, AreReadAsTheyAreAndAsNumbers) {
  using T = TypeParam;
  for (const Index n : {Index{0}, Index{1}, Index{7}, Index{4096}, Index{32768}, Index{65537}}) {
    eh::Tensor<T, 1> x(n);
    for (Index i = 0; i < n; ++i)
      if constexpr (std::is_same_v<T, bool>)
        x(i) = i % 3 == 0;
      else
        x(i) = static_cast<T>((std::numeric_limits<T>::max)() - static_cast<T>(i % 100));
    this->write_tensors("a.safetensors", {"odd", "x"}, true, x);  // so that x is not aligned
    const SafetensorsFiles files(this->at("a.safetensors"));
    EXPECT_EQ(bytes_of(files.template tensor<T, 1>("x", {n})), bytes_of(x));
    const auto as_doubles = files.template tensor<double, 1>("x", {n}, Conversion::rounded);
    const auto as_floats = files.template tensor<float, 1>("x", {n}, Conversion::rounded);
    for (Index i = 0; i < n; ++i) {
      ASSERT_EQ(as_doubles(i), static_cast<double>(x(i)));
      ASSERT_EQ(as_floats(i), static_cast<float>(x(i)));
    }
    const Index from = n / 3;
    std::vector<double> part(static_cast<std::size_t>(n - from));
    files.read("x", from, std::span(part), Conversion::rounded);
    for (Index i = from; i < n; ++i)
      ASSERT_EQ(part[static_cast<std::size_t>(i - from)], as_doubles(i));
  }
}

TYPED_TEST(FilesOfTensorsAs, AreConvertedUnaskedOnlyWhereNoValueIsLost) {
  using T = TypeParam;
  eh::Tensor<T, 1> x(2);
  x.setConstant(T(1));
  this->write_tensors("a.safetensors", {"x"}, x);
  const SafetensorsFiles files(this->at("a.safetensors"));
  const auto is_taken = [&]<class To>() {
    return support::file_refusal(this->at("a.safetensors"),
                                 [&] { (void)files.tensor<To, 1>("x"); }) == kNothing;
  };
  EXPECT_EQ(is_taken.template operator()<float>(),
            std::numeric_limits<T>::digits <= std::numeric_limits<float>::digits);
  EXPECT_EQ(is_taken.template operator()<double>(),
            std::numeric_limits<T>::digits <= std::numeric_limits<double>::digits);
  EXPECT_EQ(is_taken.template operator()<std::int32_t>(), (std::is_same_v<T, std::int32_t>));
}

TEST_F(FilesOfTensors, OfSixteenBitsAreWidenedExactly) {
  eh::Tensor<eh::Half, 1> halves(1 << 16);
  eh::Tensor<eh::BFloat16, 1> brains(1 << 16);
  for (Index i = 0; i < 1 << 16; ++i) {
    halves(i).bits = static_cast<std::uint16_t>(i);
    brains(i).bits = static_cast<std::uint16_t>(i);
  }
  write_tensors("a.safetensors", {"h", "b"}, halves, brains);
  const SafetensorsFiles files(at("a.safetensors"));
  const auto h = files.tensor<double, 1>("h"), b = files.tensor<double, 1>("b");
  const auto f = files.tensor<float, 1>("h");
  for (Index i = 0; i < 1 << 16; ++i) {
    const float half = halves(i).value(), brain = brains(i).value();
    ASSERT_EQ(std::isnan(h(i)), std::isnan(half));
    ASSERT_EQ(std::isnan(b(i)), std::isnan(brain));
    if (!std::isnan(half)) {
      ASSERT_TRUE(h(i) == static_cast<double>(half) && f(i) == half);
    }
    if (!std::isnan(brain)) {
      ASSERT_EQ(b(i), static_cast<double>(brain));
    }
  }
}

TEST_F(FilesOfTensors, SayWhatDoesNotFit) {
  write_tensors("a.safetensors", {"x", "d", "n"}, numbers(4), 1.5, std::int64_t{3});
  const SafetensorsFiles files(at("a.safetensors"));
  const auto refusal = [&](const auto& action) {
    return support::file_refusal(at("a.safetensors"), action);
  };
  EXPECT_EQ(refusal([&] { (void)files.tensor<float, 1>("x", {5}); }),
            "tensor \"x\" is F32 [4]; expected [5]");
  EXPECT_EQ(refusal([&] { (void)files.tensor<float, 2>("x"); }),
            "tensor \"x\" is F32 [4]; expected [*, *]");
  EXPECT_EQ(refusal([&] { (void)files.tensor<float, 0>("d"); }),
            "tensor \"d\" is F64 [], whose values F32 has not all; expected that, or "
            "Conversion::rounded");
  EXPECT_EQ(refusal([&] { (void)files.tensor<std::int32_t, 0>("n"); }),
            "tensor \"n\" is I64 []; expected I32");
  std::vector<float> some(3);
  EXPECT_EQ(refusal([&] { files.read("x", 2, std::span(some)); }),
            "tensor \"x\" there are 4 elements; expected 3 from 2 on");
  EXPECT_EQ(refusal([&] { files.read("x", -1, std::span(some)); }),
            "tensor \"x\" there are 4 elements; expected 3 from -1 on");
  const std::string header = R"({"x":{"dtype":"F8_E4M3","shape":[1],"data_offsets":[0,1]},)"
                             R"("y":{"dtype":"BOOL","shape":[2],"data_offsets":[1,3]}})";
  write("b.safetensors", support::little_endian(header.size(), 8) + header + "\1\1\2"s);
  const SafetensorsFiles others(at("b.safetensors"));
  EXPECT_EQ(support::file_refusal(at("b.safetensors"), [&] { (void)others.tensor<float, 1>("x"); }),
            "tensor \"x\" is F8_E4M3 [1], a type that is not supported; expected F32");
  for (const bool as_bool : {false, true})
    EXPECT_EQ(support::file_refusal(at("b.safetensors"),
                                    [&] {
                                      if (as_bool) (void)others.tensor<bool, 1>("y");
                                      if (!as_bool) (void)others.tensor<float, 1>("y");
                                    }),
              "tensor \"y\" is BOOL and has a byte that is neither 0 nor 1");
}

TEST_F(FilesOfTensors, AreReadOnlyWhenTheyAreAskedFor) {
  constexpr Index n = 1 << 20;
  write_tensors("a.safetensors", {"x"}, eh::Tensor<float, 1>(eh::Tensor<float, 1>(n).setZero()));
  largest_request = 0;
  const SafetensorsFiles files(at("a.safetensors"));
  std::vector<double> few(10);
  files.read("x", n - 10, std::span(few));
  EXPECT_LT(largest_request, std::size_t{1} << 16);
}

TEST_F(FilesOfTensors, AreThoseOfTheOpenedFileThoughItsNameBecomesAnothers) {
  write_tensors("a.safetensors", {"x"}, numbers(4));
  const SafetensorsFiles files(at("a.safetensors"));
  write_tensors("a.safetensors", {"x"}, numbers(5));
  EXPECT_EQ(bytes_of(files.tensor<float, 1>("x")), bytes_of(numbers(4)));
  fs::remove(at("a.safetensors"));
  EXPECT_EQ(bytes_of(files.tensor<float, 1>("x")), bytes_of(numbers(4)));
}

TEST_F(FilesOfTensors, OfAFileThatShrinksAreRefusedAndNothingCrashes) {
  write_tensors("a.safetensors", {"x", "y"}, numbers(1000), numbers(2000));
  const SafetensorsFiles files(at("a.safetensors"));
  const auto size = fs::file_size(at("a.safetensors"));
  fs::resize_file(at("a.safetensors"), size - 100);
  EXPECT_EQ(bytes_of(files.tensor<float, 1>("x")), bytes_of(numbers(1000)));
  EXPECT_EQ(support::file_refusal(at("a.safetensors"), [&] { (void)files.tensor<float, 1>("y"); }),
            "is shorter than when it was opened: it had " + std::to_string(size) +
                " bytes, and ends at byte " + std::to_string(size - 100) + " or before");
  fs::resize_file(at("a.safetensors"), 0);
  EXPECT_NE(support::file_refusal(at("a.safetensors"), [&] { (void)files.tensor<double, 1>("x"); }),
            kNothing);
}

TEST_F(FilesOfTensors, AreReadByManyThreadsAtOnce) {
  constexpr Index n = 50'000;
  write_tensors("a.safetensors", {"x", "y"}, numbers(n), numbers(n + 1));
  const SafetensorsFiles files(at("a.safetensors"));
  std::array<bool, 3> is_same{};
  {
    std::vector<std::thread> threads;
    for (std::size_t t = 0; t < is_same.size(); ++t)
      threads.emplace_back([&, t] {
        is_same[t] = true;
        for (int round = 0; round < 5; ++round) {
          const Index size = t % 2 == 0 ? n : n + 1;
          const auto x = files.tensor<double, 1>(t % 2 == 0 ? "x" : "y");
          for (Index i = 0; i < size; ++i)
            is_same[t] = is_same[t] && x(i) == static_cast<float>(10 * size + i);
        }
      });
    for (std::thread& thread : threads) thread.join();
  }
  for (const bool same : is_same) EXPECT_TRUE(same);
}

// ---- Several, by an index -----------------------------------------------------------------------

TEST_F(FilesOfTensors, OfAnIndexAreOneFilesTensors) {
  write_shards();
  write_index(kMap, R"({"total_size":72})");
  for (const std::string name : {"", "model.safetensors.index.json"}) {
    const SafetensorsFiles files(at(name));
    EXPECT_EQ(files.num_files(), 2u);
    EXPECT_EQ(files.names(), (std::vector<std::string>{"a", "b", "c", "d"}));
    EXPECT_EQ(files.notes(), std::vector<std::string>{});
    for (Index n = 3; n <= 6; ++n)
      EXPECT_EQ(bytes_of(files.tensor<float, 1>(std::string(1, static_cast<char>('a' + n - 3)))),
                bytes_of(numbers(n)));
  }
}

TEST_F(FilesOfTensors, OfAMissingFileAreRefused) {
  write_shards();
  write_index(kMap);
  fs::remove(at("2.safetensors"));
  EXPECT_EQ(refused("", "2.safetensors"), "No such file or directory");
}

TEST_F(FilesOfTensors, ThatTheirFileLacksAreRefused) {
  write_shards();
  write_index(R"({"a":"1.safetensors","c":"1.safetensors"})");
  EXPECT_EQ(refused("", "model.safetensors.index.json"),
            "tensor \"c\" is said to be in \"1.safetensors\", which has none of that name");
}

TEST_F(FilesOfTensors, ThatTwoFilesHoldAreThoseOfTheOneThatTheIndexNames) {
  write_shards();
  write_tensors("2.safetensors", {"a", "c", "d"}, numbers(9), numbers(5), numbers(6));
  write_index(kMap);
  const SafetensorsFiles files(at(""));
  EXPECT_EQ(bytes_of(files.tensor<float, 1>("a")), bytes_of(numbers(3)));
  EXPECT_EQ(files.notes(),
            std::vector<std::string>{
                R"(tensor "a" is in "1.safetensors" and, left out, in "2.safetensors")"});
  // Named twice by the index itself: whichever a parser kept would be a guess.
  write_index(R"({"a":"1.safetensors","a":"2.safetensors"})");
  EXPECT_EQ(refused("", "model.safetensors.index.json"), "second key \"a\"");
}

TEST_F(FilesOfTensors, OfFilesThatTheIndexDoesNotNameAreNotLookedAt) {
  write_shards();
  write("stray.safetensors", "no such file at all");
  write_index(kMap);
  EXPECT_EQ(SafetensorsFiles(at("")).num_files(), 2u);
}

TEST_F(FilesOfTensors, ThatTheIndexDoesNotNameAreLeftOutAndReported) {
  write_shards();
  write_index(R"({"a":"1.safetensors","c":"2.safetensors","d":"2.safetensors"})",
              R"({"total_size":1})");
  const SafetensorsFiles files(at(""));
  EXPECT_FALSE(files.contains("b"));
  EXPECT_EQ(files.notes(), (std::vector<std::string>{
                               R"(tensor "b" of "1.safetensors" is not in the index, and left out)",
                               "the tensors have 56 bytes; the index says 1"}));
}

TEST_F(FilesOfTensors, OfFilesOutsideOfTheFolderAreRefused) {
  write_shards();
  const std::string outside = (folder_ / "1.safetensors").string();
  for (const std::string& name :
       {"../1.safetensors"s, outside, ".."s, "."s, ""s, "a/../1"s, R"(..\\1.safetensors)"s,
        "C:1.safetensors"s, R"(1\u0000)"s, R"(1\u000d2.safetensors)"s, R"(1\u007f)"s}) {
    write_index(R"({"a":")" + name + R"("})");
    EXPECT_TRUE(refused("", "model.safetensors.index.json")
                    .ends_with("; expected the name of a file beside the index"))
        << name;
  }
}

TEST_F(FilesOfTensors, OfAnIndexThatIsNoneAreRefused) {
  write_shards();
  const auto refusal = [&](const std::string& text) {
    write("model.safetensors.index.json", text);
    return refused("", "model.safetensors.index.json");
  };
  EXPECT_EQ(refusal(""), "not well-formed JSON");
  EXPECT_EQ(refusal("[]"), "expected a JSON object");
  EXPECT_EQ(refusal("{}"), "expected a key \"weight_map\" with an object of file names");
  EXPECT_EQ(refusal(R"({"weight_map":[]})"),
            "expected a key \"weight_map\" with an object of file names");
  EXPECT_EQ(refusal(R"({"weight_map":{}})"), "its \"weight_map\" names no tensor");
  EXPECT_EQ(refusal(R"({"weight_map":{"a":1}})"), "tensor \"a\": expected the name of a file");
  EXPECT_EQ(refusal(R"({"weight_map":{"a":"1.safetensors"}})"s + '\0'), "not well-formed JSON");
  EXPECT_EQ(refusal(std::string(100'000, '[')), "JSON that is nested too deeply");
  EXPECT_EQ(
      refusal(R"({"weight_map":)" + std::string(100'000, '[') + std::string(100'000, ']') + "}"),
      "JSON that is nested too deeply");
  EXPECT_EQ(refusal(R"({"metadata":null,"weight_map":{"a":"1.safetensors"}})"), kNothing);
}

// ---- Files of other kinds -------------------------------------------------------------------------

TEST_F(FilesOfTensors, OfPickledFilesAreRefusedWithTheWayToConvertThem) {
  write("pytorch_model.bin", "PK\3\4 and so on");
  for (const std::string name : {"", "pytorch_model.bin"}) {
    const std::string sentence = refused(name, "pytorch_model.bin");
    EXPECT_TRUE(
        sentence.starts_with("a file that PyTorch pickled; in Python, this makes "
                             "model.safetensors of it:\n  import torch, safetensors.torch\n"
                             "  safetensors.torch.save_file("))
        << sentence;
    EXPECT_NE(sentence.find(at("pytorch_model.bin").string()), std::string::npos);
    EXPECT_EQ(std::ranges::count(sentence, '\n'), 2);
  }
  write("model.pt", "\x80\2}q\0."s);
  EXPECT_TRUE(refused("model.pt").starts_with("a file that PyTorch pickled"));
  write("weights.npz", "PK\3\4");
  EXPECT_TRUE(refused("weights.npz").starts_with("an archive of NumPy's"));
  write("model.keras", "PK\3\4");
  EXPECT_TRUE(refused("model.keras").starts_with("a model of Keras"));
  write("model.weights.h5", "\x89HDF\r\n\x1a\n");
  EXPECT_TRUE(refused("model.weights.h5").starts_with("an HDF5 file"));
  write("model.gguf", "GGUF\3\0\0\0"s);
  EXPECT_TRUE(refused("model.gguf").starts_with("a GGUF file"));
  write_index(R"({"a":"pytorch_model.bin"})");
  EXPECT_TRUE(refused("model.safetensors.index.json", "pytorch_model.bin")
                  .starts_with("a file that PyTorch pickled"));
}

TEST_F(FilesOfTensors, OfAFolderWithoutWeightsAreRefused) {
  EXPECT_EQ(refused("", ""), "a folder without model.safetensors or model.safetensors.index.json");
  EXPECT_EQ(refused("nowhere"), "No such file or directory");
}

// ---- Damage -----------------------------------------------------------------------------------------

TEST_F(FilesOfTensors, OfATruncatedFileAreRefused) {
  const std::string whole = eh::read_file(kReference);
  write("a.safetensors", whole);
  for (std::size_t size = whole.size(); size-- > 0;) {
    fs::resize_file(at("a.safetensors"), size);
    largest_request = 0;
    EXPECT_NE(refused("a.safetensors"), kNothing) << size;
    EXPECT_LT(largest_request, whole.size() + 4096) << size;
  }
}

TEST_F(FilesOfTensors, OfADamagedFileAreRefusedOrRead) {
  const std::string whole = eh::read_file(kReference);
  write("a.safetensors", whole);
  std::mt19937 random(11);
  int accepted = 0;
  for (int round = 0; round < 3000; ++round) {
    std::string changed = whole;
    for (int changes = 1 + round % 3; changes > 0; --changes)
      changed[random() % (round % 2 == 0 ? 16 : changed.size())] = static_cast<char>(random());
    overwrite("a.safetensors", changed);
    largest_request = 0;
    if (refused("a.safetensors") == kNothing) {
      ++accepted;
      const SafetensorsFiles files(at("a.safetensors"));
      for (const std::string& name : files.names()) {
        Index size = 1;
        for (const Index n : files.shape(name)) size *= n;
        std::vector<double> numbers(static_cast<std::size_t>(size));
        (void)support::file_refusal(at("a.safetensors"), [&] {
          files.read(name, 0, std::span(numbers), Conversion::rounded);
        });
      }
    }
    EXPECT_LT(largest_request, whole.size() + 4096);
  }
  EXPECT_GT(accepted, 0);
}

TEST_F(FilesOfTensors, OfADamagedIndexAreRefusedOrRead) {
  write_shards();
  write_index(kMap, R"({"total_size":72})");
  const std::string whole = eh::read_file(at("model.safetensors.index.json"));
  std::mt19937 random(12);
  for (int round = 0; round < 2000; ++round) {
    std::string changed = whole.substr(0, round < 200 ? static_cast<std::size_t>(round) : 999);
    if (round >= 200) changed[random() % changed.size()] = static_cast<char>(random());
    overwrite("model.safetensors.index.json", changed);
    try {
      SafetensorsFiles files(at(""));
    } catch (const eh::FileError& error) {
      EXPECT_TRUE(std::string(error.what()).starts_with("eigenheads: " + folder_.string()));
    }
  }
}

}  // namespace
