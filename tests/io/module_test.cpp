// SPDX-License-Identifier: MIT
#include <array>
#include <bit>
#include <cstdint>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <set>
#include <stdexcept>
#include <string>
#include <type_traits>
#include <utility>

#include <eigenheads/io/module.hpp>
#include <eigenheads/linear.hpp>

#include "../support.hpp"
#include "io/support.hpp"

namespace {

using namespace support;
using eh::Linear, eh::Safetensors;

template <class T>
class ModuleFile : public UniqueFolder {
 protected:
  [[nodiscard]] std::filesystem::path path() const { return folder_ / "module.safetensors"; }
  // What loading the file is refused with; the module must stay as it was.
  template <class Module>
  [[nodiscard]] std::string refused(Module& module) const {
    Safetensors before, after;
    eh::add_parameters(before, module);
    const std::string sentence = file_refusal(path(), [&] { eh::load_parameters(path(), module); });
    eh::add_parameters(after, module);
    eh::write_safetensors(folder_ / "before", before);
    eh::write_safetensors(folder_ / "after", after);
    EXPECT_EQ(content("before"), content("after"));
    return sentence;
  }
  [[nodiscard]] std::string content(const char* name) const {
    const auto file = folder_ / name;
    std::string bytes(static_cast<std::size_t>(std::filesystem::file_size(file)), '\0');
    eh::detail::File(file, "rb").read(bytes.data(), bytes.size());
    return bytes;
  }
};
TYPED_TEST_SUITE(ModuleFile, Scalars, ScalarNames);

template <class T>
[[nodiscard]] Linear<T> linear(Index in, Index out, std::uint64_t seed) {
  Linear<T> made({.in_features = in, .out_features = out, .bias = true}, seed);
  made.set_bias(random_tensor<T>(seed + 100, out));
  return made;
}

// Two layers, as a module of a user's is made of layers.
template <class T>
struct Pair {
  Linear<T> up, down;

  template <class Visitor>
  void for_each_parameter(Visitor&& visit, std::string_view prefix = "") {
    up.for_each_parameter(visit, std::string(prefix) + "up.");
    down.for_each_parameter(visit, std::string(prefix) + "down.");
  }
  template <class Visitor>
  void for_each_parameter(Visitor&& visit, std::string_view prefix = "") const {
    up.for_each_parameter(visit, std::string(prefix) + "up.");
    down.for_each_parameter(visit, std::string(prefix) + "down.");
  }
};

// One that names its parameters twice where they are to be set.
template <class T>
struct Twins {
  Linear<T> one;

  template <class Visitor>
  void for_each_parameter(Visitor&& visit, std::string_view prefix = "") {
    for (int i = 0; i < 2; ++i) one.for_each_parameter(visit, prefix);
  }
  template <class Visitor>
  void for_each_parameter(Visitor&& visit, std::string_view prefix = "") const {
    one.for_each_parameter(visit, prefix);
  }
};

TYPED_TEST(ModuleFile, IsReadAsItWasWritten) {
  using T = TypeParam;
  const Pair<T> saved{linear<T>(5, 33, 1), linear<T>(33, 5, 2)};
  eh::save_parameters(this->path(), saved);
  const Safetensors file = eh::read_safetensors(this->path());
  EXPECT_EQ(file.names(),
            (std::vector<std::string>{"up.weight", "up.bias", "down.weight", "down.bias"}));
  EXPECT_TRUE(same_bits(file.tensor<T, 2>("up.weight"), saved.up.weight()));
  Pair<T> loaded{linear<T>(5, 33, 3), linear<T>(33, 5, 4)};
  eh::load_parameters(this->path(), loaded);
  EXPECT_TRUE(same_bits(loaded.up.weight(), saved.up.weight()));
  EXPECT_TRUE(same_bits(loaded.down.weight(), saved.down.weight()));
  EXPECT_TRUE(same_bits(loaded.up.bias(), saved.up.bias()));
  EXPECT_TRUE(same_bits(loaded.down.bias(), saved.down.bias()));
}

TYPED_TEST(ModuleFile, IsRefusedUnlessItIsThatModule) {
  using T = TypeParam;
  using Other = std::conditional_t<std::is_same_v<T, float>, double, float>;
  const std::string type = std::is_same_v<T, float> ? "F32" : "F64",
                    other = std::is_same_v<T, float> ? "F64" : "F32";
  Pair<T> module{linear<T>(5, 7, 1), linear<T>(7, 5, 2)};
  const auto write = [&](const auto& add) {
    Safetensors file;
    add(file);
    eh::write_safetensors(this->path(), file);
    return this->refused(module);
  };
  const Tensor<T, 2> weight = module.down.weight();
  const Tensor<T, 1> bias = module.down.bias();
  EXPECT_EQ(write([&](Safetensors& file) { eh::add_parameters(file, module.up, "up."); }),
            "no tensor \"down.weight\"");
  EXPECT_EQ(write([&](Safetensors& file) {
              eh::add_parameters(file, module);
              file.add("step", std::int64_t{7});
            }),
            "tensor \"step\" is none of the module's parameters");
  EXPECT_EQ(write([&](Safetensors& file) {
              eh::add_parameters(file, module.up, "up.");
              file.add("down.weight", Tensor<T, 2>(weight.shuffle(std::array{1, 0})));
              file.add("down.bias", bias);
            }),
            "tensor \"down.weight\" is " + type + " [7, 5]; expected " + type + " [5, 7]");
  EXPECT_EQ(write([&](Safetensors& file) {
              eh::add_parameters(file, module.up, "up.");
              file.add("down.weight", weight);
              file.add("down.bias", TensorView<T, 2>(bias.data(), {1, 5}));
            }),
            "tensor \"down.bias\" is " + type + " [1, 5]; expected " + type + " [5]");
  EXPECT_EQ(write([&](Safetensors& file) {
              eh::add_parameters(file, module.up, "up.");
              file.add("down.weight", weight);
              file.add("down.bias", Tensor<Other, 1>(bias.template cast<Other>()));
            }),
            "tensor \"down.bias\" is " + other + " [5]; expected " + type + " [5]");
  Twins<T> twins{linear<T>(5, 7, 1)};
  Safetensors file;
  eh::add_parameters(file, twins);
  EXPECT_EQ(refusal([&] { eh::set_parameters(twins, file); }),
            "eigenheads: set_parameters: two parameters are named weight");
  std::filesystem::remove(this->path());
  EXPECT_EQ(this->refused(module), "No such file or directory");
}

TYPED_TEST(ModuleFile, CutAnywhereIsRefusedAndTheModuleStays) {
  using T = TypeParam;
  const Pair<T> saved{linear<T>(2, 3, 1), linear<T>(3, 2, 2)};
  eh::save_parameters(this->path(), saved);
  const std::string whole = eh::read_file(this->path());
  Pair<T> module{linear<T>(2, 3, 3), linear<T>(3, 2, 4)};
  const Pair<T> kept = module;
  for (std::size_t size = 0; size < whole.size(); ++size) {
    std::ofstream(this->path(), std::ios::binary) << whole.substr(0, size);
    EXPECT_NE(file_refusal(this->path(), [&] { eh::load_parameters(this->path(), module); }),
              kNothing)
        << size;
    for (const auto& [linear, before] :
         {std::pair{&module.up, &kept.up}, {&module.down, &kept.down}})
      EXPECT_TRUE(same_bits(linear->weight(), before->weight()) &&
                  same_bits(linear->bias(), before->bias()))
          << size;
  }
}

// Signalling and quiet, both signs, with a payload.
TYPED_TEST(ModuleFile, KeepsThePayloadOfNaNs) {
  using T = TypeParam;
  using Bits = std::conditional_t<sizeof(T) == 4, std::uint32_t, std::uint64_t>;
  const Bits infinity = std::bit_cast<Bits>(kInf<T>), minus = std::bit_cast<Bits>(-kInf<T>),
             quiet = Bits{1} << (Limits<T>::digits - 2);
  const std::array<Bits, 4> numbers{infinity + 0x12345, minus + 0x12345, infinity + quiet + 0x54321,
                                    ~Bits{0}};
  Tensor<T, 2> weight(2, 2);
  std::memcpy(weight.data(), numbers.data(), sizeof numbers);
  Linear<T> saved({.in_features = 2, .out_features = 2}), loaded = saved;
  saved.set_weight(weight);
  eh::save_parameters(this->path(), saved);
  const std::string bytes = eh::read_file(this->path());
  EXPECT_TRUE(bytes.ends_with(file_bytes_of(weight)));
  eh::load_parameters(this->path(), loaded);
  eh::save_parameters(this->path(), loaded);
  EXPECT_EQ(eh::read_file(this->path()), bytes);
}

TYPED_TEST(ModuleFile, APrefixTellsModulesOfOneFileApart) {
  using T = TypeParam;
  const Linear<T> first = linear<T>(3, 4, 1), second = linear<T>(3, 4, 2);
  Safetensors file;
  eh::add_parameters(file, first, "first.");
  eh::add_parameters(file, second, "second.");
  file.add("step", std::int64_t{7});
  Linear<T> read = linear<T>(3, 4, 3);
  eh::set_parameters(read, file, "second.");
  EXPECT_TRUE(same_bits(read.weight(), second.weight()));
  EXPECT_EQ(refusal([&] { eh::add_parameters(file, first, "first."); }),
            "eigenheads: tensor \"first.weight\": the name is taken");
  file.add("second.scale", T(1));
  EXPECT_EQ(file_refusal("(not from a file)", [&] { eh::set_parameters(read, file, "second."); }),
            "tensor \"second.scale\" is none of the module's parameters");
}

TYPED_TEST(ModuleFile, ALazyModuleHasNoParametersYet) {
  using T = TypeParam;
  Linear<T> lazy({.out_features = 4});
  EXPECT_NE(refusal<std::logic_error>([&] { eh::save_parameters(this->path(), lazy); }),
            "not refused");
  EXPECT_TRUE(this->names().empty());
}

}  // namespace
