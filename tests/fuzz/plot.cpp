// SPDX-License-Identifier: MIT
// Heat maps and pages of any labels and any numbers: the SVG is well-formed XML, what the page embeds
// stays where it is, and neither holds a number that is none.
#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <nlohmann/json.hpp>
#include <optional>
#include <set>
#include <stdexcept>
#include <string>
#include <string_view>
#include <vector>

#include <eigenheads/plot/attention_view.hpp>
#include <eigenheads/plot/heatmap.hpp>

#include "input.hpp"
#include "well_formed.hpp"

namespace {

namespace eh = eigenheads;
using eh::Index, eh::Tensor;

std::string label(fuzz::Input& input) {
  constexpr const char* hostile[] = {"</script><script>alert(1)</script>",
                                     "]]>",
                                     "<!--",
                                     "-->",
                                     "&amp;&#0;",
                                     "\"'><svg onload=\"x\">",
                                     "\xE2\x80\xAE right to left",
                                     "\xE2\x81\xA6\xE2\x81\xA6",
                                     "\xED\xA0\x80",
                                     "\xEF\xBF\xBE",
                                     "\xF4\x90\x80\x80",
                                     "a\xCC\x81\xCC\x81\xCC\x81",
                                     "\xD7\xA9\xD7\x9C\xD7\x95\xD7\x9D",
                                     "\\u003c\\",
                                     "${a}`"};
  const Index which = input.between(0, 31);
  if (which < std::ssize(hostile)) return hostile[which];
  return input.text(static_cast<std::size_t>(which == 31 ? 250 : which - 15));
}
std::vector<std::string> labels(fuzz::Input& input, Index count) {
  std::vector<std::string> all;
  if (input.flag()) return all;
  const Index wrong = input.between(0, 31) == 31 ? 1 : 0;
  for (Index i = 0; i < count + wrong; ++i) all.push_back(label(input));
  return all;
}
std::optional<double> end_of_scale(fuzz::Input& input) {
  if (input.between(0, 3) < 3) return {};
  return input.flag() ? input.raw<double>() : static_cast<double>(input.between(-4, 4)) / 4;
}

template <class T, int Rank>
void fill(fuzz::Input& input, Tensor<T, Rank>& x) {
  const bool is_any = input.flag();
  for (Index i = 0; i < x.size(); ++i)
    x.data()[i] = is_any ? input.raw<T>() : static_cast<T>(input.byte()) / T(255);
}

template <class T>
void draw(fuzz::Input& input) {
  const Index rows = input.between(0, 2), columns = input.between(0, 3), Q = input.between(0, 5),
              K = input.between(0, 5);
  eh::HeatmapOptions options{.title = label(input)};
  options.titles = labels(input, columns);
  options.xlabel = label(input);
  options.ylabel = label(input);
  options.key_labels = labels(input, K);
  options.query_labels = labels(input, Q);
  options.colormap = input.flag() ? eh::Colormap::reds : eh::Colormap::viridis;
  options.minimum = end_of_scale(input);
  options.maximum = end_of_scale(input);
  if (input.between(0, 3) == 3)
    options.panel_size = input.flag() ? input.raw<double>() : double{input.byte() / 8.0};
  options.max_cells = input.one_of<Index>({20'000, 0, -1, 10});
  Tensor<T, 4> matrices(rows, columns, Q, K);
  fill(input, matrices);
  std::string svg;
  if (!fuzz::succeeds<std::invalid_argument>([&] { svg = eh::heatmaps_svg(matrices, options); }))
    return;
  fuzz::require(svg.size() < 4'000'000, "a drawing that is far too large");
  fuzz::require_well_formed_xml(svg);
}

template <class T>
void show(fuzz::Input& input) {
  std::vector<eh::AttentionViewLayer<T>> layers(static_cast<std::size_t>(input.between(0, 2)));
  std::size_t strings = 0;
  for (auto& layer : layers) {
    const Index H = input.between(0, 3), Q = input.between(0, 4), K = input.between(0, 4);
    layer.name = input.flag() ? label(input) : "";
    layer.weights = Tensor<T, 3>(H, Q, K);
    layer.query_labels = labels(input, Q);
    layer.key_labels = labels(input, K);
    layer.head_names = labels(input, H);
    strings += layer.query_labels.size();
    fill(input, layer.weights);
  }
  const eh::AttentionViewOptions options{
      .title = label(input),
      .colormap = input.flag() ? eh::Colormap::reds : eh::Colormap::viridis,
      .minimum = end_of_scale(input),
      .maximum = end_of_scale(input)};
  std::string html;
  if (!fuzz::succeeds<std::invalid_argument>(
          [&] { html = eh::attention_view_html(layers, options); }))
    return;
  const nlohmann::json model = fuzz::require_whole_page(html);
  fuzz::require(model.at("layers").size() == layers.size(), "another number of layers");
  for (const auto& layer : model.at("layers")) strings -= layer.at("queryLabels").size();
  fuzz::require(strings == 0, "another number of labels");
  fuzz::require(model.at("minimum").get<double>() < model.at("maximum").get<double>(),
                "a scale without a middle");
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* bytes, std::size_t size) {
  fuzz::Input input(bytes, size);
  switch (input.between(0, 3)) {
    case 0:
      return draw<float>(input), 0;
    case 1:
      return draw<double>(input), 0;
    case 2:
      return show<float>(input), 0;
    default:
      return show<double>(input), 0;
  }
}
