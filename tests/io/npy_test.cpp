// SPDX-License-Identifier: MIT
#include <algorithm>
#include <array>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <gtest/gtest.h>
#include <limits>
#include <new>
#include <random>
#include <stdexcept>
#include <string>
#include <string_view>
#include <type_traits>
#include <vector>

#include <eigenheads/io/npy.hpp>

#include "io/largest_request.hpp"
#include "io/support.hpp"

namespace {

namespace eh = eigenheads;
namespace fs = std::filesystem;
using eh::Index;
using eh::NpyType;
using support::bytes_of, support::file_bytes_of, support::little_endian;
using namespace std::string_literals;

const std::string kMagic = "\x93NUMPY";

// A header that is not padded, before `data`.
std::string npy(const std::string& dictionary, const std::string& data = "", int major = 1) {
  const std::string header = dictionary + "\n";
  return kMagic + static_cast<char>(major) + '\0' +
         little_endian(header.size(), major == 1 ? 2 : 4) + header + data;
}
std::string dictionary(const std::string& descr, const std::string& shape,
                       const std::string& fortran_order = "False") {
  return "{'descr': " + descr + ", 'fortran_order': " + fortran_order + ", 'shape': " + shape +
         ", }";
}
// A well-formed file but for its shape, or its type, without data.
std::string with_shape(const std::string& shape) { return npy(dictionary("'<f4'", shape)); }
std::string with_descr(const std::string& descr) { return npy(dictionary(descr, "(0,)")); }

class Npy : public support::UniqueFolder {
 protected:
  void SetUp() override {
    support::UniqueFolder::SetUp();
    path_ = folder_ / "a.npy";
  }

  template <class T, int Rank>
  eh::Tensor<T, Rank> load(const std::string& bytes) {
    put(bytes);
    return eh::load_npy<T, Rank>(path_);
  }
  eh::NpyHeader header(const std::string& bytes) {
    put(bytes);
    return eh::read_npy_header(path_);
  }
  std::string saved(const auto& tensor) {
    eh::save_npy(path_, tensor);
    return eh::read_file(path_);
  }

  template <class T, int Rank>
  std::string refusal(const std::string& bytes) {
    return support::file_refusal(path_, [&] { (void)load<T, Rank>(bytes); });
  }
  std::string refusal(const std::string& bytes) { return refusal<float, 1>(bytes); }

  template <class T, int Rank>
  void expect_round_trip(const std::array<Index, Rank>& shape) {
    auto tensor = eh::detail::make_tensor<T>("tensor", shape);
    for (Index i = 0; i < tensor.size(); ++i)
      if constexpr (std::is_same_v<T, bool>)
        tensor.data()[i] = i % 3 == 0;
      else
        tensor.data()[i] = static_cast<T>(i * i - 7);
    const std::string file = saved(tensor);
    const auto loaded = eh::load_npy<T, Rank>(path_);
    EXPECT_TRUE(std::ranges::equal(loaded.dimensions(), tensor.dimensions()));
    EXPECT_EQ(bytes_of(loaded), bytes_of(tensor));
    EXPECT_EQ(saved(loaded), file);
    const eh::NpyHeader header = eh::read_npy_header(path_);
    EXPECT_EQ(header.type, eh::detail::npy_type_of<T>);
    EXPECT_FALSE(header.fortran_order);
    EXPECT_TRUE(std::ranges::equal(header.shape, shape));
    EXPECT_EQ(header.data_offset % 64, 0u);
    EXPECT_EQ(file.size(), header.data_offset + bytes_of(tensor).size());
  }

  fs::path path_;

 private:
  void put(const std::string& bytes) { eh::write_file(path_, bytes); }
};

template <class T>
class NpyOf : public Npy {};
using Elements = testing::Types<float, double, Index, std::int32_t, bool>;
TYPED_TEST_SUITE(NpyOf, Elements);

TYPED_TEST(NpyOf, LoadsWhatItSaved) {
  this->template expect_round_trip<TypeParam, 0>({});
  this->template expect_round_trip<TypeParam, 1>({1});
  this->template expect_round_trip<TypeParam, 1>({7});
  this->template expect_round_trip<TypeParam, 2>({3, 5});
  this->template expect_round_trip<TypeParam, 3>({2, 3, 5});
  this->template expect_round_trip<TypeParam, 4>({7, 2, 3, 5});
  this->template expect_round_trip<TypeParam, 5>({2, 3, 1, 5, 7});
}

TYPED_TEST(NpyOf, LoadsWhatItSavedOfNothing) {
  this->template expect_round_trip<TypeParam, 1>({0});
  this->template expect_round_trip<TypeParam, 2>({0, 5});
  this->template expect_round_trip<TypeParam, 3>({3, 0, 5});
  this->template expect_round_trip<TypeParam, 3>({0, 0, std::numeric_limits<Index>::max() / 16});
}

// ---- What np.save of NumPy 1.24 wrote
// ------------------------------------------------------------

std::string numpy_header(const std::string& dictionary) {
  return kMagic + "\x01\0v\0"s + dictionary + std::string(117 - dictionary.size(), ' ') + '\n';
}
// np.array([[1.5, -2, 0.25], [3, 4, 5]], '<f4')
const std::string kMatrix =
    numpy_header("{'descr': '<f4', 'fortran_order': False, 'shape': (2, 3), }") +
    "\0\0\xc0\x3f\0\0\0\xc0\0\0\x80\x3e\0\0\x40\x40\0\0\x80\x40\0\0\xa0\x40"s;
// np.asfortranarray(np.arange(6, dtype='<i4').reshape(2, 3))
const std::string kFortranMatrix =
    numpy_header("{'descr': '<i4', 'fortran_order': True, 'shape': (2, 3), }") +
    "\0\0\0\0\3\0\0\0\1\0\0\0\4\0\0\0\2\0\0\0\5\0\0\0"s;

TEST_F(Npy, WritesTheBytesThatNumpyWrites) {
  eh::Tensor<float, 2> matrix(2, 3);
  matrix.setValues({{1.5f, -2.0f, 0.25f}, {3.0f, 4.0f, 5.0f}});
  EXPECT_EQ(saved(matrix), kMatrix);

  eh::Tensor<Index, 0> number;
  number() = -2;
  EXPECT_EQ(saved(number), numpy_header("{'descr': '<i8', 'fortran_order': False, 'shape': (), }") +
                               "\xfe\xff\xff\xff\xff\xff\xff\xff"s);

  eh::Tensor<bool, 1> flags(2);
  flags.setValues({true, false});
  EXPECT_EQ(saved(flags),
            numpy_header("{'descr': '|b1', 'fortran_order': False, 'shape': (2,), }") + "\1\0"s);

  EXPECT_EQ(saved(eh::Tensor<double, 2>(0, 3)),
            numpy_header("{'descr': '<f8', 'fortran_order': False, 'shape': (0, 3), }"));

  // From 15 dimensions of length 1 on, np.save writes another 64 bytes.
  eh::Tensor<bool, 14> deep(1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1);
  deep.setConstant(true);
  EXPECT_EQ(saved(deep).size(), 128u + 1);
  eh::Tensor<bool, 15> deeper(1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1);
  deeper.setConstant(true);
  EXPECT_EQ(saved(deeper).size(), 192u + 1);
}

TEST_F(Npy, LoadsTheBytesThatNumpyWrites) {
  const auto matrix = load<float, 2>(kMatrix);
  EXPECT_EQ(matrix.dimension(0), 2);
  EXPECT_EQ(matrix.dimension(1), 3);
  EXPECT_EQ(matrix(0, 0), 1.5f);
  EXPECT_EQ(matrix(0, 1), -2.0f);
  EXPECT_EQ(matrix(0, 2), 0.25f);
  EXPECT_EQ(matrix(1, 2), 5.0f);

  const auto fortran = load<std::int32_t, 2>(kFortranMatrix);
  for (std::int32_t i = 0; i < 6; ++i) EXPECT_EQ(fortran.data()[i], i);
}

TEST_F(Npy, TellsWhatAFileHolds) {
  const eh::NpyHeader matrix = header(kFortranMatrix);
  EXPECT_EQ(matrix.type, NpyType::int32);
  EXPECT_TRUE(matrix.fortran_order);
  EXPECT_EQ(matrix.shape, (std::vector<Index>{2, 3}));
  EXPECT_EQ(matrix.data_offset, 128u);
}

TEST_F(Npy, LoadsEveryVersion) {
  for (const int major : {1, 2, 3}) {
    const auto tensor = load<std::int32_t, 1>(npy(dictionary("'<i4'", "(1,)"), "\5\0\0\0"s, major));
    EXPECT_EQ(tensor(0), 5);
  }
  // A header that version 1.0 has no room for.
  const std::string spaces(70'000, ' ');
  EXPECT_EQ((load<std::int32_t, 0>(npy(dictionary("'<i4'", "()") + spaces, "\5\0\0\0"s, 2))()), 5);
}

TEST_F(Npy, LoadsWhatOlderAndOtherWritersWrite) {
  const std::string data = "\1\0\0\0\2\0\0\0"s;
  for (const std::string& header : {
           "{'descr': '<i4', 'fortran_order': False, 'shape': (2L,), }"s,       // Python 2
           "{'descr': '<i4', 'fortran_order': False, 'shape': (2,), }      "s,  // 16-byte padding
           "{'descr': '<i4', 'fortran_order': False, 'shape': (2,)}"s,
           "{\"shape\":(2,),\"fortran_order\":False,\"descr\":\"<i4\"}"s,
           " { 'shape' : ( 2 , ) , 'descr' : '<i4' , 'fortran_order' : True } "s,
       }) {
    const auto tensor = load<std::int32_t, 1>(npy(header, data));
    EXPECT_EQ(tensor(1), 2) << header;
  }
  EXPECT_EQ((load<std::int32_t, 2>(npy(dictionary("'<i4'", "(2L, 1L)"), data))(1, 0)), 2);
  EXPECT_EQ((load<std::int32_t, 2>(npy(dictionary("'<i4'", "(2,1,)"), data))(1, 0)), 2);
  EXPECT_TRUE((load<bool, 0>(npy(dictionary("'<b1'", "()"), "\1"))()));
}

TEST_F(Npy, TransposesFortranOrder) {
  // Element (a, b, c, d) of shape [2, 3, 4, 5] has the value 1000 a + 100 b + 10 c + d.
  std::string data;
  for (int d = 0; d < 5; ++d)
    for (int c = 0; c < 4; ++c)
      for (int b = 0; b < 3; ++b)
        for (int a = 0; a < 2; ++a)
          data += little_endian(static_cast<std::uint64_t>(1000 * a + 100 * b + 10 * c + d), 4);
  const std::string file = npy(dictionary("'<i4'", "(2, 3, 4, 5)", "True"), data);
  const auto exact = load<std::int32_t, 4>(file);
  const auto converted = load<Index, 4>(file);
  for (int a = 0; a < 2; ++a)
    for (int b = 0; b < 3; ++b)
      for (int c = 0; c < 4; ++c)
        for (int d = 0; d < 5; ++d) {
          EXPECT_EQ(exact(a, b, c, d), 1000 * a + 100 * b + 10 * c + d);
          EXPECT_EQ(converted(a, b, c, d), 1000 * a + 100 * b + 10 * c + d);
        }

  EXPECT_EQ((load<float, 0>(npy(dictionary("'<f4'", "()", "True"), "\0\0\xc0\x3f"s))()), 1.5f);
  EXPECT_EQ((load<bool, 2>(npy(dictionary("'|b1'", "(2, 2)", "True"), "\0\1\0\0"s))(1, 0)), true);
  const auto empty = load<double, 3>(npy(dictionary("'<f4'", "(2, 0, 3)", "True")));
  EXPECT_EQ(empty.dimension(0), 2);
  EXPECT_EQ(empty.dimension(2), 3);
}

// ---- Types
// ---------------------------------------------------------------------------------------

TEST_F(Npy, ConvertsWhereNoValueChanges) {
  const auto floats = load<double, 2>(kMatrix);
  EXPECT_EQ(floats(0, 1), -2.0);
  EXPECT_EQ(floats(1, 2), 5.0);
  const std::string lowest = npy(dictionary("'<i4'", "(1,)"), "\0\0\0\x80"s);
  EXPECT_EQ((load<Index, 1>(lowest)(0)), -2147483648LL);
}

TEST_F(Npy, RefusesConversionsThatMayChangeAValue) {
  const auto of = [](const std::string& descr, std::size_t bytes) {
    return npy(dictionary(descr, "(1,)"), std::string(bytes, '\0'));
  };
  EXPECT_EQ(refusal(of("'<f8'", 8)), "holds float64 values; load it as double, not float");
  EXPECT_EQ((refusal<std::int32_t, 1>(of("'<i8'", 8))),
            "holds int64 values; load it as eigenheads::Index, not std::int32_t");
  EXPECT_EQ((refusal<double, 1>(of("'<i4'", 4))),
            "holds int32 values; load it as std::int32_t, not double");
  EXPECT_EQ((refusal<Index, 1>(of("'<f4'", 4))),
            "holds float32 values; load it as float, not eigenheads::Index");
  EXPECT_EQ((refusal<Index, 1>(of("'|b1'", 1))),
            "holds bool values; load it as bool, not eigenheads::Index");
  EXPECT_EQ((refusal<bool, 1>(of("'<i4'", 4))),
            "holds int32 values; load it as std::int32_t, not bool");
}

TEST_F(Npy, RefusesAnotherNumberOfDimensions) {
  EXPECT_EQ((refusal<float, 3>(kMatrix)), "has shape [2, 3]; 3 dimensions were asked for");
  EXPECT_EQ((refusal<float, 0>(kMatrix)), "has shape [2, 3]; 0 dimensions were asked for");
  EXPECT_EQ((refusal<float, 1>(npy(dictionary("'<f4'", "()"), "\0\0\0\0"s))),
            "has shape []; 1 dimensions were asked for");
}

TEST_F(Npy, RefusesTypesByName) {
  const std::string at = "header, at byte 20: ";
  const std::string other = " is not supported; float32, float64, int32, int64 and bool are";
  for (const std::string descr : {"<f2", "<f16", "|i1", "<i2", "|u1", "<u8", "<c8", "<U5", "|S3",
                                  "<M8[ns]", "|V4", "=f4", "|f4", "f4", "f", "float32", "", "<"})
    EXPECT_EQ(refusal(with_descr("'" + descr + "'")), at + "dtype \"" + descr + '"' + other);
  EXPECT_EQ(refusal(with_descr("'>f4'")), at + "dtype \">f4\" is big-endian; save it as \"<f4\"");
  for (const std::string descr : {"|O", "O", "|O8"})
    EXPECT_EQ(refusal(with_descr("'" + descr + "'")),
              at + "dtype \"" + descr +
                  "\" is Python objects, and unpickling would run what the file says");
  for (const std::string descr :
       {"[('a', '<f4'), ('b', '<i4')]", "[('\xc3\xa9', '<f4')]", "('<f4', (2,))"})
    EXPECT_EQ(refusal(with_descr(descr)), at + "records (a structured dtype) are not supported");
  EXPECT_EQ(refusal(npy(dictionary("'" + std::string(100'000, 'x') + "'", "(0,)"), "", 2)),
            "header, at byte 22: dtype \"" + std::string(24, 'x') + '"' + other);
}

TEST_F(Npy, RefusesABoolThatIsNeitherTrueNorFalse) {
  for (const std::string fortran_order : {"False", "True"}) {
    const std::string before = npy(dictionary("'|b1'", "(2, 2)", fortran_order));
    EXPECT_EQ((refusal<bool, 2>(before + "\0\1\xff\2"s)),
              "byte " + std::to_string(before.size() + 2) + " is 255, and a bool is 0 or 1");
  }
}

TEST_F(Npy, KeepsThePayloadOfNaNs) {
  // Signalling and quiet, both signs, with a payload.
  const std::array<std::uint32_t, 4> floats{0x7fa12345u, 0xffa12345u, 0x7fc54321u, 0xffffffffu};
  const std::array<std::uint64_t, 4> doubles{0x7ff4123456789abcu, 0xfff4123456789abcu,
                                             0x7ff8cba987654321u, 0xffffffffffffffffu};
  eh::Tensor<float, 2> single(2, 2);
  eh::Tensor<double, 2> twice(2, 2);
  std::memcpy(single.data(), floats.data(), sizeof(floats));
  std::memcpy(twice.data(), doubles.data(), sizeof(doubles));
  eh::save_npy(path_, single);
  EXPECT_EQ(bytes_of(eh::load_npy<float, 2>(path_)), bytes_of(single));
  eh::save_npy(path_, twice);
  EXPECT_EQ(bytes_of(eh::load_npy<double, 2>(path_)), bytes_of(twice));

  const auto transposed =
      load<double, 2>(npy(dictionary("'<f8'", "(2, 2)", "True"), file_bytes_of(twice)));
  EXPECT_EQ(std::memcmp(&transposed(1, 0), &doubles[1], 8), 0);
  EXPECT_EQ(std::memcmp(&transposed(0, 1), &doubles[2], 8), 0);
}

TEST_F(Npy, TurnsBytesRoundForBigEndianMachines) {
  std::string bytes = "abcdefgh";
  eh::detail::reverse_each(bytes.data(), bytes.size(), 4);
  EXPECT_EQ(bytes, "dcbahgfe");
  eh::detail::reverse_each(bytes.data(), bytes.size(), 8);
  EXPECT_EQ(bytes, "efghabcd");
  eh::detail::reverse_each(bytes.data(), bytes.size(), 1);
  EXPECT_EQ(bytes, "efghabcd");
  eh::detail::reverse_each(bytes.data(), 0, 8);
}

// ---- Damaged and hostile files
// -------------------------------------------------------------------

TEST_F(Npy, RefusesWhatIsNoNpyFile) {
  EXPECT_EQ(refusal(""), "0 bytes are too few for a .npy file");
  EXPECT_EQ(refusal(kMatrix.substr(0, 7)), "7 bytes are too few for a .npy file");
  EXPECT_EQ(refusal("\x93NUMPX\1\0      "s),
            "not a .npy file: it does not begin with \"\\x93NUMPY\"");
  EXPECT_EQ(refusal("PK\3\4 and so on"s),
            "a .npz archive; unzip it and load the .npy files that are in it");
  EXPECT_EQ(refusal("\x80\4\x95 and so on"s),
            "a pickle, and unpickling would run what the file says");
  for (const std::string& version : {"\0\0"s, "\1\1"s, "\4\0"s, "\xff\xff"s}) {
    std::string file = kMatrix;
    file.replace(6, 2, version);
    EXPECT_EQ(refusal(file), "version " + std::to_string(static_cast<unsigned char>(version[0])) +
                                 "." + std::to_string(static_cast<unsigned char>(version[1])) +
                                 " of the .npy format; 1.0, 2.0 and 3.0 are supported");
  }
}

TEST_F(Npy, RefusesEveryCut) {
  for (std::size_t size = 0; size < kMatrix.size(); ++size)
    EXPECT_NE((refusal<float, 2>(kMatrix.substr(0, size))), "nothing is refused") << size;
  EXPECT_EQ((refusal<float, 2>(kMatrix.substr(0, 100))),
            "the header should have 118 bytes from byte 10 on; there are 90");
  EXPECT_EQ((refusal<float, 2>(kMatrix.substr(0, 151))),
            "cut short: shape [2, 3] of float32 takes 24 bytes from byte 128 on; there are 23");
}

TEST_F(Npy, RefusesTrailingBytes) {
  EXPECT_EQ((refusal<float, 2>(kMatrix + '\0')),
            "longer than its data: shape [2, 3] of float32 takes 24 bytes from byte 128 on; there "
            "are 25");
  EXPECT_NE((refusal<float, 1>(with_shape("(0,)") + "x")), "nothing is refused");
}

TEST_F(Npy, RefusesAnyHeaderLengthButItsOwn) {
  for (const std::uint32_t length :
       {0u, 1u, 20u, 117u, 119u, 141u, 65'535u, 0x7fffffffu, 0x80000000u, 0xfffffff0u, 0xffffffffu})
    for (const int major : {1, 2, 3}) {
      std::string file = kMatrix;
      file.replace(6, 4,
                   static_cast<char>(major) + "\0"s + little_endian(length, major == 1 ? 2 : 4));
      largest_request = 0;
      EXPECT_NE((refusal<float, 2>(file)), "nothing is refused") << length;
      EXPECT_LT(largest_request, file.size() + 4096);
    }
}

TEST_F(Npy, AllocatesNoMoreThanTheFileIsLong) {
  std::string zeros = "(";
  for (int i = 0; i < 100'000; ++i) zeros += "0,";
  for (const std::string& file :
       {npy(dictionary("'<f4'", "(1000000000000,)")), npy(dictionary("'<f4'", zeros + ")"), "", 2),
        npy(std::string(200'000, '{'), "", 2), npy(std::string(200'000, ' '), "", 2),
        npy("{'" + std::string(200'000, 'k') + "': 1}", "", 2)}) {
    largest_request = 0;
    EXPECT_NE(refusal(file), "nothing is refused");
    EXPECT_LT(largest_request, file.size() + 4096);
  }
}

TEST_F(Npy, RefusesShapesThatNoMemoryHolds) {
  const std::string too_much = " of float32 is more than memory can hold";
  EXPECT_EQ(refusal(with_shape("(1099511627776, 1099511627776)")),
            "shape [1099511627776, 1099511627776]" + too_much);
  // 2^64 and 2^66 bytes are 0 in 64 bits.
  EXPECT_EQ(refusal(with_shape("(4294967296, 1073741824)")),
            "shape [4294967296, 1073741824]" + too_much);
  EXPECT_EQ(refusal(with_shape("(4294967296, 4294967296)")),
            "shape [4294967296, 4294967296]" + too_much);
  EXPECT_EQ(refusal(with_shape("(4294967296, 4294967296, 0)")),
            "shape [4294967296, 4294967296, 0]" + too_much);
  EXPECT_EQ(refusal(with_shape("(9223372036854775807,)")),
            "shape [9223372036854775807]" + too_much);
  EXPECT_EQ(refusal(with_shape("(9223372036854775808,)")),
            "header, at byte 61: a dimension longer than memory can hold");
  EXPECT_EQ(refusal(with_shape("(" + std::string(1000, '9') + ",)")),
            "header, at byte 61: a dimension longer than memory can hold");
  EXPECT_EQ(refusal(with_shape("(-1,)")), "header, at byte 61: a negative dimension");
  EXPECT_EQ(refusal(with_shape("(2, -9223372036854775808)")),
            "header, at byte 64: a negative dimension");
}

TEST_F(Npy, RefusesMoreDimensionsThanNumpyHas) {
  std::string ones;
  for (int i = 0; i < 64; ++i) ones += "1,";
  EXPECT_EQ(refusal(npy(dictionary("'<f4'", "(" + ones + ")"), "\0\0\0\0"s)).substr(0, 14),
            "has shape [1, ");
  EXPECT_EQ(refusal(npy(dictionary("'<f4'", "(" + ones + "1)"), "\0\0\0\0"s)),
            "header, at byte 189: more than 64 dimensions");
}

TEST_F(Npy, RefusesWhatIsNoTupleOfIntegers) {
  const auto refused = [&](const std::string& shape) {
    return refusal(with_shape(shape)).substr(std::string("header, at byte ").size());
  };
  EXPECT_EQ(refused("(3)"), "62: expected ',', as in (3,), found \"), }?\"");
  EXPECT_EQ(refused("3"), "60: expected '(', found \"3, }?\"");
  EXPECT_EQ(refused("[3]"), "60: expected '(', found \"[3], }?\"");
  EXPECT_EQ(refused("(,)"), "61: expected a whole number, found \",), }?\"");
  EXPECT_EQ(refused("(3,,)"), "63: expected a whole number, found \",), }?\"");
  EXPECT_EQ(refused("(3, 4"), "67: expected a whole number, found \"}?\"");
  EXPECT_EQ(refused("(3 4)"), "63: expected ',', as in (3,), found \"4), }?\"");
  EXPECT_EQ(refused("(3, 4 5)"), "66: expected ')', found \"5), }?\"");
  EXPECT_EQ(refused("(3., 4)"), "62: expected ',', as in (3,), found \"., 4), }?\"");
  EXPECT_EQ(refused("(3e2, 4)"), "62: expected ',', as in (3,), found \"e2, 4), }?\"");
  EXPECT_EQ(refused("(0x3, 4)"), "62: expected ',', as in (3,), found \"x3, 4), }?\"");
  EXPECT_EQ(refused("(1_0, 4)"), "62: expected ',', as in (3,), found \"_0, 4), }?\"");
  EXPECT_EQ(refused("(3LL, 4)"), "63: expected ',', as in (3,), found \"L, 4), }?\"");
  EXPECT_EQ(refused("(3, 4l)"), "65: expected ')', found \"l), }?\"");
  EXPECT_EQ(refused("(03, 4)"), "61: a number that begins with 0");
  EXPECT_EQ(refused("(+3, 4)"), "61: expected a whole number, found \"+3, 4), }?\"");
  EXPECT_EQ(refused("(True, 4)"), "61: expected a whole number, found \"True, 4), }?\"");
  EXPECT_EQ(refused("('3', 4)"), "61: expected a whole number, found \"'3', 4), }?\"");
  EXPECT_EQ(refused("((3,), 4)"), "61: expected a whole number, found \"(3,), 4), }?\"");
  EXPECT_EQ(refused("(2*3, 4)"), "62: expected ',', as in (3,), found \"*3, 4), }?\"");
  EXPECT_EQ(refused("((lambda: 3)(), 4)"),
            "61: expected a whole number, found \"(lambda: 3)(), 4), }?\"");
  EXPECT_EQ(refused("tuple([3])"), "60: expected '(', found \"tuple([3]), }?\"");
  // Only Python 2 wrote that, and no version 3.0.
  EXPECT_EQ(refusal(npy(dictionary("'<f4'", "(0L,)"), "", 3)),
            "header, at byte 64: expected ',', as in (3,), found \"L,), }?\"");
}

TEST_F(Npy, RefusesWhatIsNoLiteralDictionary) {
  const auto refused = [&](const std::string& header) {
    return refusal(npy(header)).substr(std::string("header, at byte ").size());
  };
  const std::string descr = "'descr': '<f4'", order = "'fortran_order': False",
                    shape = "'shape': (0,)";
  const std::string good = "{" + descr + ", " + order + ", " + shape + "}";
  EXPECT_EQ(refusal(npy(good)), "nothing is refused");

  EXPECT_EQ(refused(" "), "11: expected '{', found \"?\"");
  EXPECT_EQ(refused("{}"), "12: no key \"descr\"");
  EXPECT_EQ(refused("{,}"), "11: expected a string, found \",}?\"");
  EXPECT_EQ(refused("{" + order + ", " + shape + "}"), "49: no key \"descr\"");
  EXPECT_EQ(refused("{" + descr + ", " + shape + "}"), "41: no key \"fortran_order\"");
  EXPECT_EQ(refused("{" + descr + ", " + order + "}"), "50: no key \"shape\"");
  EXPECT_EQ(refused("{" + descr + ", " + descr + ", " + order + ", " + shape + "}"),
            "27: second key \"descr\"");
  EXPECT_EQ(refused("{'dtype': '<f4', " + good.substr(1)), "11: unknown key \"dtype\"");
  EXPECT_EQ(refused("{'': '<f4', " + good.substr(1)), "11: unknown key \"\"");
  EXPECT_EQ(refused("{descr: '<f4'}"), "11: expected a string, found \"descr: '<f4'}?\"");
  EXPECT_EQ(refused("{u" + good.substr(1)).substr(0, 22), "11: expected a string,");
  EXPECT_EQ(refused("{" + descr + " " + order + "}").substr(0, 16), "26: expected '}'");
  EXPECT_EQ(refused("{'descr' '<f4'}"), "19: expected ':', found \"'<f4'}?\"");
  EXPECT_EQ(refused("dict(" + good + ")").substr(0, 16), "10: expected '{'");
  EXPECT_EQ(refused("[" + good + "]").substr(0, 16), "10: expected '{'");
  EXPECT_EQ(refused(good.substr(0, good.size() - 1)), "64: expected '}', found \"?\"");
  EXPECT_EQ(refused("\xef\xbb\xbf" + good).substr(0, 16), "10: expected '{'");
  EXPECT_EQ(refused("\t" + good).substr(0, 16), "10: expected '{'");

  const std::string end = "65: expected spaces and one newline up to the end, found ";
  EXPECT_EQ(refused(good + "x"), end + "\"x?\"");
  EXPECT_EQ(refused(good + "# comment"), end + "\"# comment?\"");
  EXPECT_EQ(refused(good + "\n"), end + "\"??\"");
  EXPECT_EQ(refused(good + "\0"s), end + "\"??\"");
  EXPECT_EQ(refused(good + "." + good).substr(0, end.size()), end);
  std::string without_newline = npy(good);
  without_newline.back() = ' ';
  EXPECT_EQ(refusal(without_newline),
            "header, at byte 66: expected spaces and one newline up to the end, found the end of "
            "the header");

  const auto with = [&](const std::string& from, const std::string& to) {
    std::string header = good;
    return refused(header.replace(header.find(from), from.size(), to));
  };
  EXPECT_EQ(with("'<f4'", "float"), "20: expected a string, found \"float, 'fortran_order': \"");
  EXPECT_EQ(with("'<f4'", "numpy.float64"),
            "20: expected a string, found \"numpy.float64, 'fortran_\"");
  EXPECT_EQ(with("'<f4'", "__import__('os').abort()"),
            "20: expected a string, found \"__import__('os').abort()\"");
  EXPECT_EQ(with("'<f4'", "'<f' '4'").substr(0, 12), "20: dtype \"<");
  EXPECT_EQ(with("'<f4'", "'<f4' or 1").substr(0, 16), "26: expected '}'");
  EXPECT_EQ(with("'<f4'", "'<\\x664'"),
            "22: expected a string of plain ASCII, found \"\\x664', 'fortran_order':\"");
  EXPECT_EQ(with("'<f4'", "'<f\xb9'"),
            "23: expected a string of plain ASCII, found \"?', 'fortran_order': Fal\"");
  EXPECT_EQ(with("'<f4'", "b'<f4'").substr(0, 22), "20: expected a string,");
  EXPECT_EQ(with("(0,)}", "(0,), 'x"), "68: expected a string of plain ASCII, found \"?\"");
  EXPECT_EQ(with("False", "0"), "44: expected True or False, found \"0, 'shape': (0,)}?\"");
  EXPECT_EQ(with("False", "None").substr(0, 27), "44: expected True or False,");
  EXPECT_EQ(with("False", "'False'").substr(0, 27), "44: expected True or False,");
  EXPECT_EQ(with("False", "Falsehood").substr(0, 16), "49: expected '}'");
  EXPECT_EQ(with("False", "not True").substr(0, 27), "44: expected True or False,");
  // Between v1.0's Latin-1 and v3.0's UTF-8 there is no difference that we need.
  for (const int major : {1, 2, 3})
    EXPECT_NE(refusal(npy("{'\xc3\xa9': 1, " + good.substr(1), "", major)), "nothing is refused");
}

// A changed byte gives another well-formed tensor or a refusal.
TEST_F(Npy, SurvivesEveryChangedByte) {
  int accepted = 0;
  for (const std::string& file : {kMatrix, kFortranMatrix})
    for (std::size_t i = 0; i < 128; ++i)
      for (const char c : "\0 \n019L,(){}'\"-.TF|<>\x80\xff") {
        if (c == file[i]) continue;
        std::string changed = file;
        changed[i] = c;
        const bool as_float = (refusal<float, 2>(changed)) == "nothing is refused";
        const bool as_integer = (refusal<std::int32_t, 2>(changed)) == "nothing is refused";
        EXPECT_FALSE(as_float && as_integer);
        if (!as_float && !as_integer) continue;
        ++accepted;
        const eh::NpyHeader header = eh::read_npy_header(path_);
        ASSERT_EQ(header.shape, (std::vector<Index>{2, 3}));
      }
  EXPECT_EQ(accepted, 2);  // the comma before the closing brace, left out of each
}

TEST_F(Npy, SurvivesRandomChanges) {
  std::mt19937 random(7);
  const std::string pieces = " \n0129L,(){}':-TFalsetrue<fbi48|\xff\x93";
  for (int round = 0; round < 3000; ++round) {
    std::string file = round % 2 == 0 ? kMatrix : kFortranMatrix;
    for (int changes = 1 + round % 4; changes > 0; --changes) {
      const std::size_t where = random() % 80;
      const char c = pieces[random() % pieces.size()];
      if (random() % 3 == 0)
        file.insert(where, 1, c);
      else if (random() % 2 == 0)
        file.erase(where, 1);
      else
        file[where] = c;
    }
    (void)refusal<float, 2>(file);
    (void)refusal<std::int32_t, 2>(file);
  }
}

// ---- Saving
// --------------------------------------------------------------------------------------

TEST_F(Npy, SavesViewsAndMaps) {
  eh::Tensor<float, 2> matrix(2, 3);
  matrix.setValues({{1.5f, -2.0f, 0.25f}, {3.0f, 4.0f, 5.0f}});
  EXPECT_EQ(saved(eh::TensorView<float, 2>(matrix)), kMatrix);
  EXPECT_EQ(saved(eh::TensorSpan<float, 2>(matrix)), kMatrix);
  EXPECT_EQ(saved(Eigen::TensorMap<eh::Tensor<float, 2>>(matrix.data(), 2, 3)), kMatrix);
  EXPECT_EQ(saved(Eigen::TensorMap<const eh::Tensor<float, 2>>(matrix.data(), 2, 3)), kMatrix);
  EXPECT_EQ(saved(eh::TensorView<float, 2>(nullptr, {0, 3})).size(), 128u);
}

TEST_F(Npy, RefusesToSaveWhatIsNotThere) {
  EXPECT_THROW(eh::save_npy(path_, eh::TensorView<float, 1>(nullptr, {3})), std::invalid_argument);
  EXPECT_THROW(eh::save_npy(path_, eh::TensorView<float, 1>(nullptr, {-3})), std::invalid_argument);
  EXPECT_FALSE(fs::exists(path_));
}

TEST_F(Npy, IsTheOldFileWhenItCannotSave) {
  const fs::path folder = folder_ / "folder.npy";
  fs::create_directory(folder);
  EXPECT_THROW(eh::save_npy(folder, eh::Tensor<float, 1>(3)), eh::FileError);
  EXPECT_TRUE(fs::is_directory(folder));
  EXPECT_THROW(eh::save_npy(folder_ / "missing" / "a.npy", eh::Tensor<float, 1>(3)), eh::FileError);
  EXPECT_THROW((void)(eh::load_npy<float, 1>(folder)), eh::FileError);
  EXPECT_THROW((void)(eh::load_npy<float, 1>(folder_ / "missing.npy")), eh::FileError);
  EXPECT_THROW((void)eh::read_npy_header(folder), eh::FileError);
  const fs::path cut_short = folder_ / "a.npy\0.npy"s;
  EXPECT_THROW(eh::save_npy(cut_short, eh::Tensor<float, 1>(3)), eh::FileError);
  EXPECT_FALSE(fs::exists(path_));
}

TEST_F(Npy, WritesTheSameInEveryLocale) {
  eh::Tensor<float, 2> matrix(2621, 401);
  matrix.setConstant(1.5f);
  const std::string expected = saved(matrix);
  ASSERT_NE(expected.find("(2621, 401)"), std::string::npos);

  const support::OtherLocale locale;
  const std::string in_locale = saved(matrix);
  const auto loaded = eh::load_npy<float, 2>(path_);
  EXPECT_EQ(in_locale, expected);
  EXPECT_EQ(loaded.dimension(0), 2621);
}

}  // namespace
