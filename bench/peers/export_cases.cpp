// SPDX-License-Identifier: MIT
// Writes the cases as JSON, and the library's outputs as .npy files beside it, for the peers.
//   bench_cases DIRECTORY
#include <array>
#include <exception>
#include <filesystem>
#include <fstream>
#include <iostream>
#include <stdexcept>
#include <string>
#include <type_traits>
#include <vector>

#include <eigenheads/context.hpp>  // Context
#include <eigenheads/io/npy.hpp>   // save_npy

#include "../cases.hpp"
#include "../make_work.hpp"

namespace {

using bench::Case;
using bench::Index;

std::string json(const std::string& text) { return '"' + text + '"'; }  // plain ASCII here
std::string json(const std::vector<Index>& numbers) {
  std::string text;
  for (const Index n : numbers) text += (text.empty() ? "" : ", ") + std::to_string(n);
  return '[' + text + ']';
}

// The numbers' own text if it is one.
template <class Value>
void field(std::ostream& out, const char* name, const Value& value) {
  out << ", \"" << name << "\": ";
  if constexpr (std::is_arithmetic_v<Value>)
    out << value;
  else
    out << json(value);
}

template <class T>
void write_output(const Case& c, const std::filesystem::path& path) {
  const auto work = bench::make_work<T>(c);
  work->run_library(eigenheads::default_context());
  std::vector<T> output;  // one after another
  for (const auto part : work->library_output())
    output.insert(output.end(), part.begin(), part.end());
  eigenheads::save_npy(
      path, eigenheads::TensorView<T, 1>(output.data(), {static_cast<Index>(output.size())}));
}

}  // namespace

int main(int argc, char** argv) try {
  if (argc != 2) throw std::runtime_error("expected one argument, a directory");
  const std::filesystem::path directory = argv[1];
  std::filesystem::create_directories(directory);
  std::ofstream out(directory / "cases.json");
  out.precision(17);
  out << '[';
  constexpr std::array kinds{"projection", "attention", "layer", "attention_backward", "training"};
  constexpr std::array maskings{"none",           "causal",  "valid_lens", "query_lens",
                                "length_a_query", "allowed", "score_bias", "alibi"};
  for (std::size_t i = 0; i < bench::cases().size(); ++i) {
    const Case& c = bench::cases()[i];
    const bench::Cost cost = bench::cost_of(c);
    out << (i == 0 ? "\n" : ",\n") << "{\"name\": " << json(name_of(c));
    field(out, "group", name_of(c.group));
    field(out, "kind", std::string(kinds[static_cast<std::size_t>(c.kind)]));
    field(out, "masking", std::string(maskings[static_cast<std::size_t>(c.masking)]));
    for (const auto& [name, size] : {std::pair{"B", c.B},
                                     {"H", c.H},
                                     {"G", c.kv_heads()},
                                     {"Q", c.Q},
                                     {"K", c.K},
                                     {"D", c.D},
                                     {"E", c.E()}})
      field(out, name, size);
    field(out, "lens", c.lens);
    field(out, "seen", bench::seen_keys(c));
    field(out, "flops", cost.flops);
    field(out, "unmasked", cost.unmasked);
    field(out, "elements", cost.elements);
    const std::string output = "output" + std::to_string(i);
    write_output<float>(c, directory / (output + "_float.npy"));
    write_output<double>(c, directory / (output + "_double.npy"));
    field(out, "output", output);
    out << '}';
  }
  out << "\n]\n";
  return out.flush() ? 0 : throw std::runtime_error("cannot write " + directory.string());
} catch (const std::exception& error) {
  std::cerr << argv[0] << ": " << error.what() << '\n';
  return 1;
}
