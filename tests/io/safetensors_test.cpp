// SPDX-License-Identifier: MIT
#include <algorithm>
#include <array>
#include <bit>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <filesystem>
#include <gtest/gtest.h>
#include <limits>
#include <map>
#include <new>
#include <random>
#include <set>
#include <stdexcept>
#include <string>
#include <string_view>
#include <type_traits>
#include <vector>

#include <eigenheads/io/safetensors.hpp>

#include "io/largest_request.hpp"
#include "io/support.hpp"

#if __has_include(<unistd.h>)
#include <signal.h>
#include <sys/resource.h>
#include <unistd.h>
#endif

namespace {

namespace eh = eigenheads;
namespace fs = std::filesystem;
using eh::Index;
using eh::SafetensorsType;
using support::bytes_of, support::file_bytes_of, support::kNothing;
using namespace std::string_literals;

const fs::path kReference = fs::path(EIGENHEADS_SOURCE_DIR) / "tests/io/reference.safetensors";

std::string length_bytes(std::uint64_t value) { return support::little_endian(value, 8); }
std::string file_of(const std::string& header, const std::string& data = "") {
  return length_bytes(header.size()) + header + data;
}
// One tensor "x" of that dtype, shape and data_offsets.
std::string entry(const std::string& dtype, const std::string& shape, const std::string& offsets) {
  return R"("x":{"dtype":)" + dtype + R"(,"shape":)" + shape + R"(,"data_offsets":)" + offsets +
         "}";
}
// As it was written by hand: W [2, 2], step [], and metadata.
const std::string kSmallHeader = R"({"__metadata__":{"epoch":"3","note":"a \"b\"\n"},)"
                                 R"("W":{"dtype":"F32","shape":[2,2],"data_offsets":[0,16]},)"
                                 R"("step":{"dtype":"U64","shape":[],"data_offsets":[16,24]}})"
                                 "      ";
const std::string kSmallData =
    "\0\0\xc0\x3f\0\0\0\xc0\0\0\x80\x3e\0\0\x40\x40\xd2\x0a\x1f\xeb\x8c\xa9\x54\xab"s;
const std::string kSmall = file_of(kSmallHeader, kSmallData);

eh::Safetensors small() {
  eh::Safetensors contents;
  eh::Tensor<float, 2> W(2, 2);
  W.setValues({{1.5f, -2.0f}, {0.25f, 3.0f}});
  contents.set_metadata("note", "a \"b\"\n");
  contents.set_metadata("epoch", "3");
  contents.add("W", W);
  contents.add("step", std::uint64_t{12345678901234567890u});
  return contents;
}

class Safetensors : public support::UniqueFolder {
 protected:
  void SetUp() override {
    support::UniqueFolder::SetUp();
    path_ = folder_ / "a.safetensors";
  }

  eh::Safetensors read(const std::string& bytes) const {
    eh::write_file(path_, bytes);
    return eh::read_safetensors(path_);
  }
  std::string written(const eh::Safetensors& contents) const {
    eh::write_safetensors(path_, contents);
    return eh::read_file(path_);
  }
  template <class Action>
  std::string refusal_of(const Action& action, const fs::path& path) const {
    return support::file_refusal(path, action);
  }
  template <class Action>
  std::string refusal_of(Action action) const {
    return refusal_of(action, path_);
  }
  std::string refusal(const std::string& bytes) const {
    return refusal_of([&] { (void)read(bytes); });
  }
  // Of a header, without its first word.
  std::string header_refusal(const std::string& header, const std::string& data = "") const {
    const std::string all = refusal(file_of(header, data));
    return all.starts_with("header, ") ? all.substr(8) : all;
  }

  template <class T, int Rank>
  void expect_round_trip(const std::array<Index, static_cast<std::size_t>(Rank)>& shape) {
    auto tensor = eh::detail::make_tensor<T>("tensor", shape);
    for (Index i = 0; i < tensor.size(); ++i)
      if constexpr (std::is_same_v<T, bool>)
        tensor.data()[i] = i % 3 == 0;
      else
        tensor.data()[i] = static_cast<T>((std::numeric_limits<T>::max)() - static_cast<T>(i % 64));
    eh::Safetensors contents;
    contents.add("before", true);  // so that what follows is not aligned
    contents.add("x", tensor);
    contents.add("after", std::int64_t{-1});
    const std::string file = written(contents);
    const eh::Safetensors loaded = eh::read_safetensors(path_);
    EXPECT_EQ(loaded.names(), (std::vector<std::string>{"before", "x", "after"}));
    EXPECT_EQ(loaded.type("x"), eh::detail::safetensors_type_of<T>());
    EXPECT_TRUE(std::ranges::equal(loaded.shape("x"), shape));
    const auto x = loaded.tensor<T, Rank>("x");
    EXPECT_TRUE(std::ranges::equal(x.dimensions(), tensor.dimensions()));
    EXPECT_EQ(bytes_of(x), bytes_of(tensor));
    EXPECT_EQ(bytes_of(loaded.tensor<T, Rank>("x", shape)), bytes_of(tensor));
    EXPECT_TRUE(loaded.value<bool>("before"));
    EXPECT_EQ(loaded.value<std::int64_t>("after"), -1);
    EXPECT_EQ(written(loaded), file);
  }

  fs::path path_;
};

template <class T>
class SafetensorsOf : public Safetensors {};
using Elements = testing::Types<float, double, bool, std::int8_t, std::uint8_t, std::int16_t,
                                std::uint16_t, std::int32_t, std::uint32_t, std::int64_t,
                                std::uint64_t, Index, long, long long, unsigned long long>;
TYPED_TEST_SUITE(SafetensorsOf, Elements);

TYPED_TEST(SafetensorsOf, ReadsWhatItWrote) {
  this->template expect_round_trip<TypeParam, 0>({});
  this->template expect_round_trip<TypeParam, 1>({1});
  this->template expect_round_trip<TypeParam, 1>({7});
  this->template expect_round_trip<TypeParam, 2>({3, 5});
  this->template expect_round_trip<TypeParam, 3>({2, 3, 5});
  this->template expect_round_trip<TypeParam, 4>({7, 2, 3, 5});
}

TYPED_TEST(SafetensorsOf, ReadsWhatItWroteOfNothing) {
  this->template expect_round_trip<TypeParam, 1>({0});
  this->template expect_round_trip<TypeParam, 2>({0, 5});
  this->template expect_round_trip<TypeParam, 3>({3, 0, 5});
  this->template expect_round_trip<TypeParam, 4>({0, 0, 1, std::numeric_limits<Index>::max() / 16});
}

// ---- The bytes --------------------------------------------------------------------------------

TEST_F(Safetensors, WritesTheBytesOfTheFormat) {
  EXPECT_EQ(kSmallHeader.size() % 8, 0u);
  EXPECT_EQ(written(small()), kSmall);
  EXPECT_EQ(written(eh::Safetensors()), file_of("{}      "));
}

TEST_F(Safetensors, WritesEqualContentsAsEqualBytes) {
  EXPECT_EQ(written(small()), written(small()));
  EXPECT_EQ(written(eh::read_safetensors(path_)), kSmall);
  const eh::Safetensors copy = small();
  EXPECT_EQ(written(copy), kSmall);

  eh::Safetensors other_order;
  other_order.add("b", 1.0f);
  other_order.add("a", 2.0f);
  (void)written(other_order);
  EXPECT_EQ(eh::read_safetensors(path_).names(), (std::vector<std::string>{"b", "a"}));
}

TEST_F(Safetensors, AlignsTheDataAfterAHeaderOfAnyLength) {
  for (std::size_t length = 0; length < 9; ++length) {
    eh::Safetensors contents;
    contents.add(std::string(length, 'n'), 1.5);
    const std::string file = written(contents);
    EXPECT_EQ(file.size() % 8, 0u);
    EXPECT_EQ(file.substr(file.size() - 8), "\0\0\0\0\0\0\xf8\x3f"s);
    EXPECT_EQ(eh::read_safetensors(path_).value<double>(std::string(length, 'n')), 1.5);
  }
}

TEST_F(Safetensors, ReadsTheBytesOfTheFormat) {
  const eh::Safetensors contents = read(kSmall);
  EXPECT_EQ(contents.names(), (std::vector<std::string>{"W", "step"}));
  EXPECT_EQ(contents.metadata(),
            (std::map<std::string, std::string>{{"epoch", "3"}, {"note", "a \"b\"\n"}}));
  EXPECT_TRUE(contents.contains("W"));
  EXPECT_FALSE(contents.contains("w"));
  EXPECT_FALSE(contents.contains("__metadata__"));
  EXPECT_EQ(contents.type("W"), SafetensorsType::float32);
  EXPECT_STREQ(eh::name_of(contents.type("step")), "U64");
  EXPECT_EQ(contents.shape("W"), (std::vector<Index>{2, 2}));
  EXPECT_EQ(contents.shape("step"), std::vector<Index>{});
  EXPECT_EQ(contents.value<std::uint64_t>("step"), 12345678901234567890u);
  const auto W = contents.tensor<float, 2>("W");
  EXPECT_EQ(W(0, 0), 1.5f);
  EXPECT_EQ(W(0, 1), -2.0f);
  EXPECT_EQ(W(1, 0), 0.25f);
  EXPECT_EQ(W(1, 1), 3.0f);
}

TEST_F(Safetensors, ReadsOtherFormsOfTheSame) {
  // The order of the header need not be that of the data, nor that of keys the one we write.
  const eh::Safetensors contents = read(file_of(
      "{"
      R"("b" : {"data_offsets": [1, 3], "shape": [2], "dtype": "I8"},)"
      "\n\t\r "
      R"("none": {"dtype": "F64", "shape": [0], "data_offsets": [1, 1]},)"
      R"("\u0061": {"dtype": "U8", "shape": [ ], "data_offsets": [0, 1]}, "__metadata__":{}})",
      "\1\2\3"));
  EXPECT_EQ(contents.names(), (std::vector<std::string>{"a", "none", "b"}));
  EXPECT_EQ(contents.value<std::uint8_t>("a"), 1);
  EXPECT_EQ((contents.tensor<std::int8_t, 1>("b", {2})(1)), 3);
  EXPECT_EQ((contents.tensor<double, 1>("none").size()), 0);
  EXPECT_TRUE(contents.metadata().empty());

  EXPECT_TRUE(read(file_of("{}")).names().empty());
  EXPECT_TRUE(read(file_of("{ }   ")).names().empty());
}

// ---- What the format's own library wrote: make_safetensors.py -----------------------------------

template <class T, int Rank>
void expect_counting_down(const eh::Safetensors& contents, const char* name,
                          const std::array<Index, static_cast<std::size_t>(Rank)>& shape) {
  const auto tensor = contents.tensor<T, Rank>(name, shape);
  for (Index i = 0; i < tensor.size(); ++i)
    EXPECT_EQ(tensor.data()[i], static_cast<T>((std::numeric_limits<T>::max)() - static_cast<T>(i)))
        << name;
}

template <class T, int Rank>
void expect_quarters(const eh::Safetensors& contents, const char* name,
                     const std::array<Index, static_cast<std::size_t>(Rank)>& shape) {
  const auto tensor = contents.tensor<T, Rank>(name, shape);
  for (Index i = 0; i < tensor.size(); ++i)
    EXPECT_EQ(tensor.data()[i], static_cast<T>(i * i - 7) / 4) << name;
}

TEST_F(Safetensors, ReadsTheReferenceFile) {
  const eh::Safetensors contents = eh::read_safetensors(kReference);
  EXPECT_EQ(contents.names().size(), 16u);
  EXPECT_EQ(contents.metadata(), (std::map<std::string, std::string>{
                                     {"made by", "tests/io/make_safetensors.py\n\xe2\x82\xac"}}));
  const auto flags = contents.tensor<bool, 1>("bool", {7});
  for (Index i = 0; i < 7; ++i) EXPECT_EQ(flags(i), i % 3 == 0);
  expect_counting_down<std::int8_t, 1>(contents, "int8", {3});
  expect_counting_down<std::uint8_t, 2>(contents, "uint8", {2, 2});
  expect_counting_down<std::int16_t, 1>(contents, "int16", {3});
  expect_counting_down<std::uint16_t, 2>(contents, "uint16", {1, 3});
  expect_counting_down<std::int32_t, 1>(contents, "int32", {3});
  expect_counting_down<std::uint32_t, 2>(contents, "uint32", {2, 1});
  expect_counting_down<std::int64_t, 1>(contents, "int64", {3});
  expect_counting_down<std::uint64_t, 1>(contents, "uint64", {2});
  expect_quarters<float, 2>(contents, "float32", {2, 3});
  expect_quarters<double, 4>(contents, "float64", {2, 1, 3, 2});
  expect_quarters<float, 1>(contents, "W_q \xc3\xa9 \"\\/\n", {1});
  EXPECT_EQ(contents.value<std::uint64_t>("step"), 12345678901234567890u);
  EXPECT_EQ((contents.tensor<float, 3>("empty", {3, 0, 2}).size()), 0);
}

TEST_F(Safetensors, WidensTheNarrowFloatsExactly) {
  const eh::Safetensors contents = eh::read_safetensors(kReference);
  const auto bits = [&](const char* name) {
    const auto tensor = contents.tensor<float, 1>(name, {8});
    std::vector<std::uint32_t> held;
    for (Index i = 0; i < 8; ++i) held.push_back(std::bit_cast<std::uint32_t>(tensor(i)));
    return held;
  };
  EXPECT_EQ(bits("float16"),
            (std::vector<std::uint32_t>{0x477fe000, 0x38800000, 0x33800000, 0x80000000, 0x3eaaa000,
                                        0x7f800000, 0xff800000, 0x7fc00000}));
  EXPECT_EQ(bits("bfloat16"),
            (std::vector<std::uint32_t>{0x7f7f0000, 0x00800000, 0x00010000, 0x80000000, 0x3eab0000,
                                        0x7f800000, 0xff800000, 0x7fc00000}));
  const auto as_double = [&](const char* name) {
    return refusal_of([&] { (void)contents.tensor<double, 1>(name); }, kReference);
  };
  EXPECT_EQ(as_double("float16"), "tensor \"float16\" is F16 [8]; expected F64 [*]");
  EXPECT_EQ(as_double("bfloat16"), "tensor \"bfloat16\" is BF16 [8]; expected F64 [*]");
  const auto as_bits = [&] { (void)contents.tensor<std::uint16_t, 1>("float16"); };
  EXPECT_EQ(refusal_of(as_bits, kReference), "tensor \"float16\" is F16 [8]; expected U16 [*]");
}

TEST_F(Safetensors, WritesTheReferenceFileAgain) {
  EXPECT_EQ(written(eh::read_safetensors(kReference)), eh::read_file(kReference));
}

// ---- What is asked for and not there ----------------------------------------------------------

TEST_F(Safetensors, RefusesAnotherTypeOrShape) {
  const eh::Safetensors contents = read(kSmall);
  const auto refused = [&]<class T, int Rank>(
                           const eh::Tensor<T, Rank>&, const char* name,
                           const std::array<Index, static_cast<std::size_t>(Rank)>& shape) {
    return refusal_of([&] { (void)contents.tensor<T, Rank>(name, shape); });
  };
  const eh::Tensor<float, 1> f1;
  const eh::Tensor<float, 2> f2;
  const eh::Tensor<double, 2> d2;
  EXPECT_EQ(refused(f2, "W", {2, 2}), kNothing);
  EXPECT_EQ(refused(f2, "W", {eh::any_size, 2}), kNothing);
  EXPECT_EQ(refused(f2, "W", {eh::any_size, 3}), "tensor \"W\" is F32 [2, 2]; expected F32 [*, 3]");
  EXPECT_EQ(refused(f1, "W", {4}), "tensor \"W\" is F32 [2, 2]; expected F32 [4]");
  EXPECT_EQ(refused(d2, "W", {2, 2}), "tensor \"W\" is F32 [2, 2]; expected F64 [2, 2]");
  EXPECT_EQ(refused(f2, "V", {2, 2}), "no tensor \"V\"");
  EXPECT_EQ(refused(f2, "__metadata__", {2, 2}), "no tensor \"__metadata__\"");
  EXPECT_EQ(refusal_of([&] { (void)contents.value<std::int64_t>("step"); }),
            "tensor \"step\" is U64 []; expected I64 []");
  EXPECT_EQ(refusal_of([&] { (void)contents.type("\n" + std::string(100, 'x')); }),
            "no tensor \"?" + std::string(79, 'x') + "...\"");
  EXPECT_EQ(refusal_of([&] { (void)contents.shape("V"); }), "no tensor \"V\"");
  EXPECT_EQ(refusal_of([&] { (void)small().shape("V"); }, "(not from a file)"), "no tensor \"V\"");
}

TEST_F(Safetensors, RefusesWhatNoFileCanHold) {
  eh::Safetensors contents = small();
  const eh::Tensor<float, 1> one(1);
  EXPECT_THROW(contents.add("W", one), std::invalid_argument);
  EXPECT_THROW(contents.add("step", 1), std::invalid_argument);
  EXPECT_THROW(contents.add("__metadata__", one), std::invalid_argument);
  EXPECT_THROW(contents.add("\xff", one), std::invalid_argument);
  EXPECT_THROW(contents.add("\xed\xa0\x80", one), std::invalid_argument);  // half a pair
  EXPECT_THROW(contents.add("null", eh::TensorView<float, 1>(nullptr, {3})), std::invalid_argument);
  EXPECT_THROW(contents.add("minus", eh::TensorView<float, 1>(nullptr, {-3})),
               std::invalid_argument);
  EXPECT_THROW(contents.set_metadata("epoch", "\x80"), std::invalid_argument);
  EXPECT_THROW(contents.set_metadata("\xc3", "3"), std::invalid_argument);
  EXPECT_EQ(written(contents), kSmall);
}

TEST_F(Safetensors, KeepsAnyTextThatIsUtf8) {
  std::string text = "\xc3\xa9\xe2\x82\xac\xf0\x9f\x8d\xb0 \x7f\xef\xbf\xbd";
  for (char c = 0; c < 0x7f; ++c) text += c;
  eh::Safetensors contents;
  contents.add(text, 1);
  contents.add("", 2);
  contents.set_metadata(text, text);
  contents.set_metadata("", "");
  contents.set_metadata("__metadata__", "dtype");
  const std::string file = written(contents);
  const eh::Safetensors loaded = eh::read_safetensors(path_);
  EXPECT_EQ(loaded.names(), (std::vector<std::string>{text, ""}));
  EXPECT_EQ(loaded.metadata(), contents.metadata());
  EXPECT_EQ(written(loaded), file);
}

TEST_F(Safetensors, TakesEveryKindOfTensor) {
  eh::Tensor<float, 2> W(2, 2);
  W.setValues({{1.5f, -2.0f}, {0.25f, 3.0f}});
  eh::Safetensors contents;
  contents.add("view", eh::TensorView<float, 2>(W));
  contents.add("span", eh::TensorSpan<float, 2>(W));
  contents.add("map", Eigen::TensorMap<const eh::Tensor<float, 2>>(W.data(), 2, 2));
  contents.add("nothing", eh::TensorView<float, 2>(nullptr, {0, 3}));
  W.setZero();  // it was copied
  (void)written(contents);
  const eh::Safetensors loaded = eh::read_safetensors(path_);
  for (const char* name : {"view", "span", "map"})
    EXPECT_EQ(file_bytes_of(loaded.tensor<float, 2>(name)), kSmallData.substr(0, 16));
  EXPECT_EQ(loaded.shape("nothing"), (std::vector<Index>{0, 3}));
}

TEST_F(Safetensors, KeepsTensorsOfTypesThatItCannotRead) {
  struct Case {
    std::string dtype, shape, data;
  };
  for (const auto& [dtype, shape, data] :
       {Case{"F8_E4M3", "[2, 3]", "123456"}, Case{"F8_E5M2", "[1]", "1"},
        Case{"F8_E4M3FNUZ", "[1]", "1"}, Case{"F8_E5M2FNUZ", "[1]", "1"},
        Case{"F8_E8M0", "[0]", ""}, Case{"F6_E2M3", "[4]", "123"},
        Case{"F6_E3M2", "[2, 4]", "123456"}, Case{"F4", "[2, 1]", "1"},
        Case{"C64", "[2]", "1234567890123456"}, Case{"C128", "[]", "1234567890123456"},
        Case{"u8", "[1]", "1"}, Case{"float32", "[1]", "1234"}, Case{"", "[0]", ""},
        Case{"unsupported", "[1]", "1"}}) {
    const std::string size = std::to_string(data.size()), last = std::to_string(data.size() + 1);
    const std::string file =
        file_of("{" + entry('"' + dtype + '"', shape, "[0," + size + "]") +
                    R"(,"b":{"dtype":"U8","shape":[],"data_offsets":[)" + size + "," + last + "]}}",
                data + "\7");
    const eh::Safetensors contents = read(file);
    EXPECT_EQ(contents.names(), (std::vector<std::string>{"x", "b"}));
    EXPECT_EQ(contents.value<std::uint8_t>("b"), 7);
    EXPECT_EQ(contents.type("x"), SafetensorsType::unsupported);
    EXPECT_EQ(contents.type_name("x"), dtype);
    EXPECT_EQ(contents.type_name("b"), "U8");
    EXPECT_EQ(eh::detail::shape_text(contents.shape("x")), shape);
    const auto asked = [&] { (void)contents.tensor<std::uint8_t, 1>("x"); };
    EXPECT_EQ(refusal_of(asked), "tensor \"x\" is " + dtype + " " + shape +
                                     ", a type that is not supported; expected U8 [*]");

    const std::string again = written(contents);
    EXPECT_TRUE(again.ends_with(data + "\7"));
    EXPECT_EQ(eh::read_safetensors(path_).type_name("x"), dtype);
    EXPECT_EQ(written(eh::read_safetensors(path_)), again);
  }
}

TEST_F(Safetensors, ChecksTheOffsetsOfTypesThatItCannotRead) {
  const auto refused = [&](const char* dtype, const std::string& shape, std::size_t size) {
    return header_refusal(
        "{" + entry('"' + std::string(dtype) + '"', shape, "[0," + std::to_string(size) + "]") +
            "}",
        std::string(size, '1'));
  };
  const auto misfit = [](std::size_t size, const std::string& takes) {
    return "tensor \"x\": data_offsets [0, " + std::to_string(size) + "] do not fit " + takes;
  };
  EXPECT_EQ(refused("F8_E5M2", "[3]", 2), misfit(2, "F8_E5M2 [3], which takes 3 bytes"));
  EXPECT_EQ(refused("C64", "[2]", 8), misfit(8, "C64 [2], which takes 16 bytes"));
  EXPECT_EQ(refused("C64", "[]", 8), kNothing);
  EXPECT_EQ(refused("F4", "[2]", 2), misfit(2, "F4 [2], which takes 1 bytes"));
  EXPECT_EQ(refused("F4", "[18]", 9), kNothing);
  const std::string not_whole = " bytes, the last of them not whole";
  EXPECT_EQ(refused("F4", "[3]", 2), misfit(2, "F4 [3], which takes 2" + not_whole));
  EXPECT_EQ(refused("F4", "[3]", 1), misfit(1, "F4 [3], which takes 2" + not_whole));
  EXPECT_EQ(refused("F6_E2M3", "[3]", 3), misfit(3, "F6_E2M3 [3], which takes 3" + not_whole));
  EXPECT_EQ(refused("F6_E2M3", "[12]", 9), kNothing);
  constexpr Index most = std::numeric_limits<Index>::max() / 4 * 4;  // of 6 bits
  const std::string shape = "[" + std::to_string(most) + "]";
  EXPECT_EQ(refused("F6_E3M2", shape, 1), misfit(1, "F6_E3M2 " + shape + ", which takes " +
                                                        std::to_string(most / 4 * 3) + " bytes"));
  const std::string large = "tensor \"x\": its shape is more than memory can hold";
  EXPECT_EQ(refused("F4", "[9223372036854775808]", 0), large);
  EXPECT_EQ(refused("C64", "[1152921504606846976]", 0), large);
  EXPECT_EQ(refused("U1", "[9223372036854775808]", 0), large);
  // Of a type that nobody has told of yet: at least a bit an element.
  EXPECT_EQ(refused("U1", "[16]", 2), kNothing);
  EXPECT_EQ(refused("U1", "[17]", 2), misfit(2, "U1 [17], which takes at least 3 bytes"));
  EXPECT_EQ(refused("U1", "[0]", 1), misfit(1, "U1 [0], which takes 0 bytes"));
  EXPECT_EQ(header_refusal("{" + entry("\"U1\"", "[]", "[2,1]") + "}", "12"),
            "tensor \"x\": data_offsets [2, 1] do not fit U1 [], which takes at least 1 bytes");
  EXPECT_EQ(header_refusal("{" + entry("\"\\n\"", "[1]", "[0,0]") + "}"),
            "tensor \"x\": data_offsets [0, 0] do not fit ? [1], which takes at least 1 bytes");
}

// With a search through all names for each, this would take an hour.
TEST_F(Safetensors, FindsEachOfManyTensors) {
  constexpr int count = 300'000;
  const auto name = [](int i) { return "encoder.layer." + std::to_string(i); };
  eh::Safetensors contents;
  for (int i = 0; i < count; ++i) contents.add(name(i), i);
  EXPECT_THROW(contents.add(name(count / 2), 1), std::invalid_argument);
  eh::write_safetensors(path_, contents);
  eh::Safetensors loaded = eh::read_safetensors(path_);
  ASSERT_EQ(loaded.names().size(), static_cast<std::size_t>(count));
  int wrong = 0;
  for (int i = 0; i < count; ++i) wrong += loaded.value<int>(name(i)) == i ? 0 : 1;
  EXPECT_EQ(wrong, 0);
  EXPECT_FALSE(loaded.contains(name(count)));
  loaded.add(name(count), count);
  EXPECT_EQ(loaded.value<int>(name(count)), count);
}

// ---- Files that are refused -------------------------------------------------------------------

TEST_F(Safetensors, RefusesWhatIsNoSafetensorsFile) {
  EXPECT_EQ(refusal(""), "0 bytes are too few for a safetensors file");
  EXPECT_EQ(refusal("1234567"), "7 bytes are too few for a safetensors file");
  EXPECT_EQ(refusal(std::string(8, '\0')),
            "not a safetensors file: its header does not begin with '{'");
  EXPECT_EQ(refusal(length_bytes(3) + "{}"),
            "the header should have 3 bytes from byte 8 on; there are 2");
  EXPECT_EQ(refusal(length_bytes(100'000'000) + "{}"),
            "the header should have 100000000 bytes from byte 8 on; there are 2");
  EXPECT_EQ(refusal(length_bytes(100'000'001) + "{}"),
            "the header should have 100000001 bytes; at most 100000000 are allowed");
  EXPECT_EQ(refusal(length_bytes(~std::uint64_t{0}) + "{}"),
            "the header should have 18446744073709551615 bytes; at most 100000000 are allowed");
  EXPECT_EQ(refusal("\x93NUMPY\1\0v\0{"s).substr(0, 22), "the header should have");
  const fs::path missing = folder_ / "missing";
  EXPECT_EQ(refusal_of([&] { (void)eh::read_safetensors(missing); }, missing),
            "No such file or directory");
  EXPECT_EQ(refusal_of([&] { (void)eh::read_safetensors(folder_); }, folder_), "Is a directory");
}

TEST_F(Safetensors, RefusesAnyHeaderLengthButItsOwn) {
  for (const std::uint64_t length :
       {std::uint64_t{0}, std::uint64_t{1}, std::uint64_t{kSmallHeader.size() - 1},
        std::uint64_t{kSmallHeader.size() + 1}, std::uint64_t{kSmall.size() - 7},
        std::uint64_t{kSmall.size()}, std::uint64_t{100'000'000}, std::uint64_t{100'000'001},
        std::uint64_t{1} << 32, std::uint64_t{1} << 63, ~std::uint64_t{0}}) {
    const std::string file = length_bytes(length) + kSmall.substr(8);
    eh::write_file(path_, file);
    largest_request = 0;
    EXPECT_NE(refusal_of([&] { (void)eh::read_safetensors(path_); }), kNothing) << length;
    EXPECT_LT(largest_request, file.size() + 4096) << length;
  }
}

TEST_F(Safetensors, RefusesTextThatIsNotUtf8) {
  const auto at = [](int byte) {
    return "at byte " + std::to_string(byte) + ": not well-formed JSON";
  };
  EXPECT_EQ(header_refusal("{\"\xed\xa0\x80\":{}}"), at(11));  // half a surrogate pair
  EXPECT_EQ(header_refusal("{\"\xc0\x80\":{}}"), at(10));      // a zero byte in two
  EXPECT_EQ(header_refusal("{\"__metadata__\":{\"a\":\"\xff\"}}"), at(30));
  EXPECT_EQ(header_refusal("{" + entry("\"\xff\"", "[]", "[0,1]") + "}", "1"), at(23));
  // A zero byte that is escaped is one of the name.
  const eh::Safetensors contents =
      read(file_of(R"({"a\u0000b":{"dtype":"U8","shape":[],"data_offsets":[0,1]}})", "\5"));
  EXPECT_EQ(contents.value<std::uint8_t>("a\0b"s), 5);
  EXPECT_FALSE(contents.contains("a"));
}

TEST_F(Safetensors, RefusesWhatIsNoJsonObject) {
  const std::string begin = "not a safetensors file: its header does not begin with '{'";
  const std::string more = "the header is more, or less, than one JSON object and spaces after it";
  for (const char* header : {" {}", "\n{}", "[]", "null", "\"\"", "\xef\xbb\xbf{}", "}"})
    EXPECT_EQ(header_refusal(header), begin);
  for (const std::string& header :
       {"{"s, "{}\n"s, "{}\t"s, "{} x"s, "{}\0"s, "{}\0}"s, "{}\0 "s, "{\0}"s, "{},"s, "{}//"s})
    EXPECT_EQ(header_refusal(header), more);
  const auto at = [](int byte) {
    return "at byte " + std::to_string(byte) + ": not well-formed JSON";
  };
  EXPECT_EQ(header_refusal("{}}"), at(10));
  EXPECT_EQ(header_refusal("{}{}"), at(10));
  EXPECT_EQ(header_refusal("{} {}"), at(11));
  EXPECT_EQ(header_refusal("{,}"), at(9));
  EXPECT_EQ(header_refusal("{x}"), at(9));
  EXPECT_EQ(header_refusal("{'x':{}}"), at(9));
  EXPECT_EQ(header_refusal("{/**/}"), at(9));
  EXPECT_EQ(header_refusal("{\"x}"), at(12));
  EXPECT_EQ(header_refusal("{\"\xff\":{}}"), at(10));
  EXPECT_EQ(header_refusal("{\"\\ud800\":{}}"), at(16));
  EXPECT_EQ(header_refusal("{\"\n\":{}}"), at(10));
  EXPECT_EQ(header_refusal("{\"__metadata__\":{},}"), at(27));
  for (const char* shape : {"[01]", "[+1]", "[1,]", "[NaN]", "[0x1]", "[1 2]", "[1e999]", "[}"})
    EXPECT_TRUE(header_refusal("{" + entry("\"U8\"", shape, "[0,1]") + "}", "1")
                    .ends_with("not well-formed JSON"))
        << shape;
}

TEST_F(Safetensors, SurvivesAnyNesting) {
  for (const std::string& bracket : {"["s, "{\"a\":"s}) {
    std::string nested;
    for (int i = 0; i < 1'000'000; ++i) nested += bracket;
    EXPECT_NE(header_refusal("{\"x\":" + nested + "}"), kNothing);
    EXPECT_NE(header_refusal("{\"__metadata__\":" + nested + "}"), kNothing);
    EXPECT_NE(header_refusal("{" + entry("\"U8\"", nested, "[0,1]") + "}"), kNothing);
    EXPECT_NE(header_refusal(nested + "}"), kNothing);
  }
}

TEST_F(Safetensors, RefusesSecondKeys) {
  const std::string x = entry("\"U8\"", "[]", "[0,1]");
  EXPECT_EQ(header_refusal("{" + x + "}", "1"), kNothing);
  EXPECT_EQ(header_refusal("{" + x + "," + x + "}", "1"), "second key \"x\"");
  EXPECT_EQ(
      header_refusal(R"({"\u0078":{"dtype":"U8","shape":[],"data_offsets":[0,1]},)" + x + "}", "1"),
      "second key \"x\"");
  EXPECT_EQ(header_refusal("{\"__metadata__\":{},\"__metadata__\":{}}"),
            "second key \"__metadata__\"");
  EXPECT_EQ(header_refusal("{\"__metadata__\":{\"a\":\"1\",\"a\":\"1\"}}"),
            "second key \"a\" in metadata");
  EXPECT_EQ(header_refusal(R"({"x":{"dtype":"U8","dtype":"U8","shape":[],"data_offsets":[0,1]}})"),
            "tensor \"x\": second key \"dtype\"");
  EXPECT_EQ(header_refusal(R"({"x":{"dtype":"U8","shape":[],"shape":[],"data_offsets":[0,1]}})"),
            "tensor \"x\": second key \"shape\"");
}

TEST_F(Safetensors, RefusesMetadataThatIsNoText) {
  const auto refused = [&](const std::string& metadata) {
    return header_refusal("{\"__metadata__\":" + metadata + "}");
  };
  EXPECT_EQ(refused("{\"a\":\"1\"}"), kNothing);
  const std::string expected = "metadata \"a\": expected a string, found ";
  EXPECT_EQ(refused("{\"a\":1}"), expected + "the number 1");
  EXPECT_EQ(refused("{\"a\":-1}"), expected + "a negative number");
  EXPECT_EQ(refused("{\"a\":1.5}"), expected + "the number \"1.5\"");
  EXPECT_EQ(refused("{\"a\":true}"), expected + "a truth value");
  EXPECT_EQ(refused("{\"a\":null}"), expected + "null");
  EXPECT_EQ(refused("{\"a\":[]}"), expected + "an array");
  EXPECT_EQ(refused("{\"a\":{}}"), expected + "an object");
  EXPECT_EQ(refused("null"), kNothing);  // as for the format's own library
  EXPECT_EQ(header_refusal("{\"__metadata__\":null,\"__metadata__\":null}"),
            "second key \"__metadata__\"");
  EXPECT_EQ(header_refusal("{\"x\":null}"), "\"x\": expected an object, found null");
  for (const char* metadata : {"[]", "\"a\"", "1"})
    EXPECT_TRUE(refused(metadata).starts_with("\"__metadata__\": expected an object, found "));
}

TEST_F(Safetensors, RefusesIncompleteAndForeignEntries) {
  EXPECT_EQ(header_refusal("{\"x\":{}}"), "tensor \"x\": no key \"dtype\"");
  EXPECT_EQ(header_refusal("{\"x\":{\"dtype\":\"U8\"}}"), "tensor \"x\": no key \"shape\"");
  EXPECT_EQ(header_refusal("{\"x\":{\"dtype\":\"U8\",\"shape\":[]}}"),
            "tensor \"x\": no key \"data_offsets\"");
  EXPECT_EQ(header_refusal("{\"x\":{\"strides\":[1]}}"), "tensor \"x\": unknown key \"strides\"");
  EXPECT_EQ(header_refusal("{\"x\":[]}"), "\"x\": expected an object, found an array");
  EXPECT_EQ(header_refusal("{\"x\":\"y\"}"), "\"x\": expected an object, found the string \"y\"");
  const auto dtype = [&](const std::string& text) {
    return header_refusal("{" + entry(text, "[]", "[0,1]") + "}", "1");
  };
  EXPECT_EQ(dtype("\"U8\""), kNothing);
  EXPECT_EQ(dtype("8"), "tensor \"x\": dtype: expected a string, found the number 8");
  EXPECT_EQ(dtype("[\"U8\"]"), "tensor \"x\": dtype: expected a string, found an array");
  EXPECT_EQ(dtype("{}"), "tensor \"x\": dtype: expected a string, found an object");
}

TEST_F(Safetensors, RefusesShapes) {
  const auto shape = [&](const std::string& text, const std::string& offsets = "[0,0]") {
    return header_refusal("{" + entry("\"F32\"", text, offsets) + "}");
  };
  EXPECT_EQ(shape("[0]"), kNothing);
  const std::string whole = "tensor \"x\": shape: expected whole numbers below 2^64, found ";
  EXPECT_EQ(shape("[-1]"), whole + "a negative number");
  EXPECT_EQ(shape("[-0]"), whole + "a negative number");
  EXPECT_EQ(shape("[0.0]"), whole + "the number \"0.0\"");
  EXPECT_EQ(shape("[1e2]"), whole + "the number \"1e2\"");
  EXPECT_EQ(shape("[18446744073709551616]"), whole + "the number \"18446744073709551616\"");
  EXPECT_EQ(shape("[\"1\"]"), whole + "the string \"1\"");
  EXPECT_EQ(shape("[null]"), whole + "null");
  EXPECT_EQ(shape("[true]"), whole + "a truth value");
  EXPECT_EQ(shape("[[1]]"), whole + "an array");
  EXPECT_EQ(shape("[{}]"), whole + "an object");
  EXPECT_EQ(shape("1"), "tensor \"x\": shape: expected an array, found the number 1");
  EXPECT_EQ(shape("null"), "tensor \"x\": shape: expected an array, found null");

  const std::string large = "tensor \"x\": its shape is more than memory can hold";
  EXPECT_EQ(shape("[2305843009213693952]"), large);  // 2^61, of 4 bytes
  EXPECT_EQ(shape("[18446744073709551615]"), large);
  EXPECT_EQ(shape("[0,18446744073709551615]"), large);
  EXPECT_EQ(shape("[4294967296,4294967296]"), large);  // 2^64 wraps to 0
  EXPECT_EQ(shape("[4294967296,4294967296,0]"), large);
  constexpr Index most = std::numeric_limits<Index>::max() / 4;
  EXPECT_EQ(shape("[" + std::to_string(most) + ",0]"), kNothing);
  EXPECT_EQ(shape("[" + std::to_string(most) + "]"),
            "tensor \"x\": data_offsets [0, 0] do not fit F32 [" + std::to_string(most) +
                "], which takes " + std::to_string(most * 4) + " bytes");
  // F16 is read as float, which must fit as well.
  EXPECT_EQ(header_refusal("{" + entry("\"F16\"", "[2305843009213693952,0]", "[0,0]") + "}"),
            large);
  // A message is short, whatever the file says.
  std::string ones = "[1";
  for (int i = 0; i < 999; ++i) ones += ",1";
  EXPECT_EQ(
      shape(ones + "]"),
      "tensor \"x\": data_offsets [0, 0] do not fit F32 of 1000 dimensions, which takes 4 bytes");
}

TEST_F(Safetensors, RefusesOffsets) {
  const auto offsets = [&](const std::string& text) {
    return header_refusal("{" + entry("\"U8\"", "[2]", text) + "}", "12");
  };
  const std::string start = "tensor \"x\": data_offsets";
  const std::string fit = " do not fit U8 [2], which takes 2 bytes";
  EXPECT_EQ(offsets("[0,2]"), kNothing);
  EXPECT_EQ(offsets("[]"), start + ": expected two numbers, found 0");
  EXPECT_EQ(offsets("[0]"), start + ": expected two numbers, found 1");
  EXPECT_EQ(offsets("[0,2,2]"), start + ": expected two numbers, found 3");
  EXPECT_EQ(offsets("[0,1]"), start + " [0, 1]" + fit);
  EXPECT_EQ(offsets("[0,3]"), start + " [0, 3]" + fit);
  EXPECT_EQ(offsets("[2,0]"), start + " [2, 0]" + fit);
  EXPECT_EQ(offsets("[18446744073709551615,1]"), start + " [18446744073709551615, 1]" + fit);
  EXPECT_EQ(offsets("[0,-2]"),
            start + ": expected whole numbers below 2^64, found a negative number");
  EXPECT_EQ(
      offsets("[1,3]"),
      "tensor \"x\": its data begins at byte 1 and the data before it ends at byte 0: a hole");
  EXPECT_EQ(offsets("[18446744073709551613,18446744073709551615]").substr(0, 56),
            "tensor \"x\": its data begins at byte 18446744073709551613");
}

TEST_F(Safetensors, RefusesHolesAndOverlaps) {
  const auto two = [&](const std::string& first, const std::string& second,
                       const std::string& data = "12345") {
    return header_refusal(R"({"a":{"dtype":"U8","shape":[2],"data_offsets":)" + first +
                              R"(},"b":{"dtype":"I8","shape":[3],"data_offsets":)" + second + "}}",
                          data);
  };
  EXPECT_EQ(two("[0,2]", "[2,5]"), kNothing);
  EXPECT_EQ(two("[3,5]", "[0,3]"), kNothing);
  EXPECT_EQ(
      two("[0,2]", "[3,6]", "123456"),
      "tensor \"b\": its data begins at byte 3 and the data before it ends at byte 2: a hole");
  EXPECT_EQ(
      two("[0,2]", "[1,4]"),
      "tensor \"b\": its data begins at byte 1 and the data before it ends at byte 2: an overlap");
  EXPECT_EQ(
      two("[0,2]", "[0,3]"),
      "tensor \"b\": its data begins at byte 0 and the data before it ends at byte 2: an overlap");
  EXPECT_EQ(
      two("[1,3]", "[3,6]", "123456"),
      "tensor \"a\": its data begins at byte 1 and the data before it ends at byte 0: a hole");
  EXPECT_EQ(two("[0,2]", "[2,5]", "1234"),
            "cut short: 2 tensors take 5 bytes after the header; there are 4");
  EXPECT_EQ(two("[0,2]", "[2,5]", "123456"),
            "longer than its data: 2 tensors take 5 bytes after the header; there are 6");
  EXPECT_EQ(header_refusal("{}", "1"),
            "longer than its data: 0 tensors take 0 bytes after the header; there are 1");
  // An empty tensor lies between others, and not within one.
  EXPECT_NE(header_refusal("{" + entry("\"U8\"", "[0]", "[1,1]") +
                               R"(,"a":{"dtype":"U8","shape":[2],"data_offsets":[0,2]}})",
                           "12"),
            kNothing);
}

TEST_F(Safetensors, RefusesABoolThatIsNone) {
  const std::string header = "{" + entry("\"BOOL\"", "[3]", "[0,3]") + "}";
  EXPECT_EQ(header_refusal(header, "\0\1\1"s), kNothing);
  EXPECT_EQ(header_refusal(header, "\0\1\xff"s),
            "tensor \"x\": byte 2 is 255, and a bool is 0 or 1");
}

// ---- Damage -----------------------------------------------------------------------------------

TEST_F(Safetensors, RefusesATruncatedFile) {
  for (const std::string& file : {kSmall, eh::read_file(kReference)}) {
    EXPECT_EQ(refusal(file), kNothing);
    for (std::size_t size = 0; size < file.size(); ++size)
      EXPECT_NE(refusal(file.substr(0, size)), kNothing) << size;
    EXPECT_NE(refusal(file + '\0'), kNothing);
    EXPECT_NE(refusal(file + file), kNothing);
  }
}

// Whatever is read is as well-formed as what we write: it can be written and read again.
void expect_consistent(const eh::Safetensors& contents, const fs::path& path) {
  std::size_t total = 0;
  bool is_known = true;
  for (const std::string& name : contents.names()) {
    is_known = is_known && contents.type(name) != SafetensorsType::unsupported;
    Index size = eh::detail::facts_of(contents.type(name)).bytes;
    for (const Index n : contents.shape(name)) size *= n;
    total += static_cast<std::size_t>(size);
  }
  if (is_known) {
    EXPECT_EQ(total, kSmallData.size());
  }
  eh::write_safetensors(path, contents);
  const eh::Safetensors again = eh::read_safetensors(path);
  EXPECT_EQ(again.names(), contents.names());
  EXPECT_EQ(again.metadata(), contents.metadata());
  EXPECT_TRUE(eh::read_file(path).ends_with(kSmallData));
}

TEST_F(Safetensors, SurvivesEveryChangedByteOfTheHeader) {
  const auto values = [](char now) {
    std::string others = "\0 \n019-+.eE,:[]{}\"\\/tx\x80\xff"s;
    for (int bit = 0; bit < 8; ++bit) others += static_cast<char>(now ^ 1 << bit);
    return others;
  };
  int accepted = 0;
  for (std::size_t i = 0; i < kSmall.size() - kSmallData.size(); ++i)
    for (const char c : values(kSmall[i])) {
      std::string changed = kSmall;
      changed[i] = c;
      if (changed == kSmall || refusal(changed) != kNothing) continue;
      ++accepted;
      expect_consistent(eh::read_safetensors(path_), path_);
    }
  EXPECT_GT(accepted, 0);  // another letter in a name
}

TEST_F(Safetensors, SurvivesRandomChanges) {
  std::mt19937 random(7);
  const std::string pieces = " \n019-+.eE,:[]{}\"\\u/tfn\xff\xc3\0"s;
  for (int round = 0; round < 5000; ++round) {
    std::string header = kSmallHeader;
    for (int changes = 1 + round % 4; changes > 0; --changes) {
      const std::size_t where = random() % header.size();
      const char c = pieces[random() % pieces.size()];
      if (random() % 3 == 0)
        header.insert(where, 1, c);
      else if (random() % 2 == 0)
        header.erase(where, 1 + random() % 8);
      else
        header[where] = c;
    }
    if (refusal(file_of(header, kSmallData)) == kNothing)
      expect_consistent(eh::read_safetensors(path_), path_);
  }
}

// ---- From memory ------------------------------------------------------------------------------

TEST_F(Safetensors, ReadsTheSameFromMemory) {
  for (const std::string& bytes : {kSmall, eh::read_file(kReference), file_of("{}")}) {
    const eh::Safetensors contents = eh::parse_safetensors(bytes, "the file in memory");
    EXPECT_EQ(contents.names(), read(bytes).names());
    EXPECT_EQ(contents.metadata(), read(bytes).metadata());
    EXPECT_EQ(written(contents), written(read(bytes)));
  }
  // The bytes need live no longer than the call, and may be a part of others.
  const std::string around = "before" + kSmall + "after";
  const eh::Safetensors contents =
      eh::parse_safetensors(std::string_view(around).substr(6, kSmall.size()), "a part");
  EXPECT_EQ(file_bytes_of(contents.tensor<float, 2>("W")), kSmallData.substr(0, 16));
  EXPECT_EQ(refusal_of([&] { (void)contents.type("V"); }, "a part"), "no tensor \"V\"");
}

TEST_F(Safetensors, RefusesTheSameFromMemory) {
  const auto in_memory = [&](const std::string& bytes) {
    return refusal_of([&] { (void)eh::parse_safetensors(bytes, "some bytes"); }, "some bytes");
  };
  EXPECT_EQ(in_memory(kSmall), kNothing);
  EXPECT_EQ(in_memory(""), "0 bytes are too few for a safetensors file");
  for (std::size_t size = 0; size < kSmall.size(); ++size)
    EXPECT_EQ(in_memory(kSmall.substr(0, size)), refusal(kSmall.substr(0, size))) << size;
  for (const std::string& bytes : {kSmall + '\0', kSmall + kSmall, file_of("{\0}"s),
                                   file_of("{" + entry("\"BOOL\"", "[1]", "[0,1]") + "}", "\2")}) {
    EXPECT_NE(in_memory(bytes), kNothing);
    EXPECT_EQ(in_memory(bytes), refusal(bytes));
  }
}

// ---- Writing that fails -----------------------------------------------------------------------

TEST_F(Safetensors, LeavesNothingHalfWritten) {
  const fs::path missing = folder_ / "missing" / "a.safetensors";
  EXPECT_EQ(refusal_of([&] { eh::write_safetensors(missing, small()); }, missing),
            "No such file or directory");
  EXPECT_EQ(refusal_of([&] { eh::write_safetensors(folder_, small()); }, folder_),
            "Is a directory");
  EXPECT_EQ(names(), std::set<std::string>{});
}

TEST_F(Safetensors, RefusesToWriteAHeaderThatNobodyReads) {
  eh::Safetensors contents = small();
  EXPECT_EQ(written(contents), kSmall);
  contents.set_metadata("long", std::string(17'000'000, '\1'));  // of 6 bytes each
  EXPECT_EQ(refusal_of([&] { eh::write_safetensors(path_, contents); }).substr(0, 23),
            "the header would have 1");
  EXPECT_EQ(eh::read_file(path_), kSmall);
  EXPECT_EQ(names(), std::set<std::string>{"a.safetensors"});
}

#if __has_include(<unistd.h>)

TEST_F(Safetensors, IsTheOldFileWhereNoNewOneIsAllowed) {
  EXPECT_EQ(written(small()), kSmall);
  fs::permissions(path_, fs::perms::all);
  fs::permissions(folder_, fs::perms(0555));
  const bool is_root = geteuid() == 0;  // whom permissions do not bind
  if (is_root && seteuid(65534) != 0) GTEST_SKIP() << "root, and cannot become another user";
  const std::string refused = refusal_of([&] { eh::write_safetensors(path_, eh::Safetensors()); });
  if (is_root) {
    ASSERT_EQ(seteuid(0), 0);
  }
  EXPECT_EQ(refused, "Permission denied");
  EXPECT_EQ(eh::read_file(path_), kSmall);
  EXPECT_EQ(names(), std::set<std::string>{"a.safetensors"});
}

TEST_F(Safetensors, IsTheOldFileWhenTheNewOneDoesNotFit) {
  EXPECT_EQ(written(small()), kSmall);
  eh::Safetensors large = small();
  large.add("large", eh::Tensor<float, 1>(1'000'000).setZero());
  const auto ignored_before = signal(SIGXFSZ, SIG_IGN);
  rlimit before{};
  ASSERT_EQ(getrlimit(RLIMIT_FSIZE, &before), 0);
  rlimit little = before;
  little.rlim_cur = 100'000;
  ASSERT_EQ(setrlimit(RLIMIT_FSIZE, &little), 0);
  const std::string refused = refusal_of([&] { eh::write_safetensors(path_, large); });
  ASSERT_EQ(setrlimit(RLIMIT_FSIZE, &before), 0);
  signal(SIGXFSZ, ignored_before);
  EXPECT_EQ(refused, "File too large");
  EXPECT_EQ(eh::read_file(path_), kSmall);
  EXPECT_EQ(names(), std::set<std::string>{"a.safetensors"});
}

#endif

}  // namespace
