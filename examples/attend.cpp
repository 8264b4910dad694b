// SPDX-License-Identifier: MIT
// A multi-head attention layer that PyTorch trained, on tensors of your own: from files to files.
#include <algorithm>
#include <array>
#include <cmath>
#include <cstddef>
#include <filesystem>
#include <iostream>
#include <limits>
#include <sstream>
#include <stdexcept>
#include <string>
#include <string_view>
#include <vector>

#include <eigenheads/eigenheads.hpp>
#include <eigenheads/io/npy.hpp>
#include <eigenheads/io/torch_weights.hpp>
#include <eigenheads/plot/heatmap.hpp>

#include "command_line.hpp"
#include "writable.hpp"

namespace {

namespace eh = eigenheads;
using command_line::CommandLine, command_line::Takes, command_line::UsageError;
using eh::Index;
using std::filesystem::path;

constexpr const char* kUsage =
    "Usage: attend --queries FILE --weights PATH... --num-heads N --output FILE [OPTION...]\n"
    "Runs a multi-head attention layer that PyTorch trained on tensors from .npy files: in "
    "float64\n"
    "if any of the files is, else in float32.\n\n";
constexpr const char* kStatus =
    "\nExit status: 0, or 1 if --expect finds a difference, or 2 for an error.\n";

constexpr std::array<command_line::Option, 16> kOptions{{
    {"--queries", "FILE", "[B, Q, E]", Takes::value, true},
    {"--keys", "FILE", "[B, K, kdim]; without it, the queries"},
    {"--values", "FILE", "[B, K, vdim]; without it, the keys"},
    {"--weights", "PATH...",
     "the parameters of a torch.nn.MultiheadAttention, named by its state_dict:\n"
     "a folder of .npy files, or the files",
     Takes::values, true},
    {"--num-heads", "N", "of that layer; a divisor of E", Takes::value, true},
    {"--valid-lens", "FILE", "[B] or [B, Q], int32 or int64: how many keys count, from the first"},
    {"--causal", "",
     "query q sees keys 0 to q + K - Q: bottom-right aligned, the last query\n"
     "stands beside the last key, whatever --valid-lens says",
     Takes::nothing},
    {"--output", "FILE", "where to write the output, [B, Q, E]", Takes::value, true},
    {"--attention", "FILE", "where to write the attention weights, [B, H, Q, K]"},
    {"--heatmap", "FILE", "where to draw them, as SVG: a row a sequence, a column a head"},
    {"--sequence", "N", "draw only the N-th sequence of the batch, from 1 on"},
    {"--query-labels", "FILE", "what to call the queries in the drawing: Q lines"},
    {"--key-labels", "FILE", "what to call the keys: K lines"},
    {"--threads", "N", "1 to 1024; without it, 1. The results do not depend on it"},
    {"--expect", "FILE",
     "compares the output: it may differ by 1e-11 of max(1, largest magnitude)\n"
     "if both are float64, else by 1e-5"},
    {"--help", "", "prints this", Takes::nothing},
}};

[[noreturn]] void refuse(const path& file, const std::string& what) {
  throw eh::FileError(file.string() + ": " + what);
}

// ---- Reading ------------------------------------------------------------------------------------

bool is_float64(const path& file) {
  const eh::NpyType type = eh::read_npy_header(file).type;
  if (type != eh::NpyType::float32 && type != eh::NpyType::float64)
    refuse(file,
           std::string("holds ") + eh::name_of(type) + " values; expected float32 or float64");
  return type == eh::NpyType::float64;
}

eh::ValidLens load_valid_lens(const path& file) {
  const eh::NpyHeader header = eh::read_npy_header(file);
  if (header.type != eh::NpyType::int32 && header.type != eh::NpyType::int64)
    refuse(file,
           std::string("holds ") + eh::name_of(header.type) + " values; expected int32 or int64");
  if (header.shape.size() == 1) return eh::load_npy<Index, 1>(file);
  if (header.shape.size() == 2) return eh::load_npy<Index, 2>(file);
  refuse(file, "has " + std::to_string(header.shape.size()) + " axes; expected [B] or [B, Q]");
}

// One label a line.
std::vector<std::string> load_labels(const path& file, Index expected, const char* what) {
  std::istringstream lines(eh::read_file(file));
  std::vector<std::string> labels;
  for (std::string line; std::getline(lines, line); labels.push_back(line))
    if (line.ends_with('\r')) line.pop_back();
  if (static_cast<Index>(labels.size()) != expected)
    refuse(file, "has " + std::to_string(labels.size()) + " lines; expected " +
                     std::to_string(expected) + ", one for each " + what);
  return labels;
}

// ---- Computing ----------------------------------------------------------------------------------

template <class T>
std::string draw(const CommandLine& line, const eh::Tensor<T, 4>& weights) {
  eh::HeatmapOptions options;
  for (Index head = 1; head <= weights.dimension(1); ++head)
    options.titles.push_back("Head " + std::to_string(head));
  if (line.has("--query-labels"))
    options.query_labels = load_labels(line.value("--query-labels"), weights.dimension(2), "query");
  if (line.has("--key-labels"))
    options.key_labels = load_labels(line.value("--key-labels"), weights.dimension(3), "key");
  const auto [B, H, Q, K] = eh::TensorView(weights).dimensions();
  if (!line.has("--sequence")) return eh::heatmaps_svg(weights, options);
  const Index sequence = line.count("--sequence", static_cast<int>(B)) - 1;
  return eh::heatmaps_svg(eh::TensorView<T, 4>(weights.data() + sequence * H * Q * K, {1, H, Q, K}),
                          options);
}

// Whether the output is what the file says. Neither may hold a NaN or an infinity.
template <class T>
bool compare(const eh::Tensor<T, 3>& output, const path& file) {
  const double allowed = is_float64(file) && sizeof(T) == 8 ? 1e-11 : 1e-5;
  const auto expected = eh::load_npy<double, 3>(file);
  eh::require_shape<double, 3>(file.string(), expected, "[B, Q, E]",
                               eh::TensorView(output).dimensions());
  double difference = 0, magnitude = 1;
  bool is_finite = true;
  for (Index i = 0; i < output.size(); ++i) {
    const double y = output.data()[i], wanted = expected.data()[i];
    difference = std::max(difference, std::abs(y - wanted));
    magnitude = std::max(magnitude, std::abs(wanted));
    is_finite = is_finite && std::isfinite(y) && std::isfinite(wanted);
  }
  if (!is_finite) difference = std::numeric_limits<double>::infinity();
  const bool fits = difference / magnitude <= allowed;
  std::cout << "differs from " << file.string() << " by " << difference / magnitude
            << " of max(1, largest magnitude), " << (fits ? "within" : "more than") << " the "
            << allowed << " allowed\n";
  return fits;
}

// What the command line asks for, of what has more forms than one.
struct Job {
  const CommandLine& line;
  path queries, keys, values;
  int num_heads, threads;
};

template <class T>
int attend(const Job& job, const eh::TorchWeights& weights) {
  const CommandLine& line = job.line;
  const auto layer = weights.load<T>(job.num_heads);
  const auto queries = eh::load_npy<T, 3>(job.queries), keys = eh::load_npy<T, 3>(job.keys),
             values = eh::load_npy<T, 3>(job.values);
  eh::Mask mask;
  if (line.has("--valid-lens")) mask.valid_lens = load_valid_lens(line.value("--valid-lens"));
  if (line.has("--causal")) mask.causal = eh::Causal::bottom_right;

  eh::Context context(job.threads);
  eh::AttentionOutput<T> result;
  if (line.has("--attention") || line.has("--heatmap"))
    result = layer.with_weights(queries, keys, values, mask, context);
  else
    result.output = layer(queries, keys, values, mask, context);
  const std::string drawing = line.has("--heatmap") ? draw(line, result.weights) : "";
  std::cout << layer << "\nqueries " << queries.dimensions() << ", keys " << keys.dimensions()
            << ", values " << values.dimensions() << ", all in "
            << (sizeof(T) == 8 ? "float64\n" : "float32\n");
  const bool fits = !line.has("--expect") || compare(result.output, line.value("--expect"));

  // Nothing is written before all of it is there.
  eh::save_npy(line.value("--output"), result.output);
  std::cout << "wrote " << line.value("--output") << ": the output " << result.output.dimensions()
            << '\n';
  if (line.has("--attention")) {
    eh::save_npy(line.value("--attention"), result.weights);
    std::cout << "wrote " << line.value("--attention") << ": the attention weights "
              << result.weights.dimensions() << '\n';
  }
  if (line.has("--heatmap")) {
    eh::write_file(line.value("--heatmap"), drawing);
    std::cout << "wrote " << line.value("--heatmap") << ": a drawing of them\n";
  }
  return fits ? 0 : 1;
}

void require_options(const CommandLine& line) {
  require_outputs(line, {"--output", "--attention", "--heatmap"});
  for (const char* name : {"--sequence", "--query-labels", "--key-labels"})
    if (line.has(name) && !line.has("--heatmap"))
      throw UsageError(name + std::string(" needs --heatmap"));
}

int run(const std::vector<std::string>& words) {
  if (words == std::vector<std::string>{"--help"}) {
    std::cout << kUsage;
    command_line::print_options(std::cout, kOptions);
    std::cout << kStatus;
    return 0;
  }
  const CommandLine line(kOptions, words);
  const std::string& queries = line.value("--queries");
  const std::string& keys = line.value("--keys", queries);
  const Job job{line,
                queries,
                keys,
                line.value("--values", keys),
                line.count("--num-heads", std::numeric_limits<int>::max()),
                line.has("--threads") ? line.count("--threads", 1024) : 1};
  require_options(line);

  const auto& files = line.values("--weights");
  const eh::TorchWeights weights(std::vector<path>(files.begin(), files.end()));
  const bool any_float64 = weights.is_float64() || is_float64(job.queries) ||
                           is_float64(job.keys) || is_float64(job.values);
  return any_float64 ? attend<double>(job, weights) : attend<float>(job, weights);
}

}  // namespace

int main(int argc, char** argv) { return command_line::run_program("attend", argc, argv, run); }
