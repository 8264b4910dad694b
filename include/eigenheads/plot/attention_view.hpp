// SPDX-License-Identifier: MIT
#pragma once
// A stack of attention layers as one interactive HTML page: a grid of all heads, the matrix of one
// with its tokens and values, and its lines from query to key, as in BertViz's head view (Vig, "A
// Multiscale Visualization of Attention in the Transformer Model", ACL 2019, section 3.1).
//   The page needs a browser and nothing else: it fetches nothing, and its own policy (CSP) forbids
//   it to. "#layer=0&head=3" behind its address opens that head. The same input gives the same
//   bytes.
//   Weights are embedded as binary32; those of a layer of double that holds a number outside its
//   normal range, as binary64. A cell of the page is a weight rounded to four digits.
#include <algorithm>
#include <cstddef>
#include <filesystem>
#include <optional>
#include <string>
#include <string_view>
#include <type_traits>
#include <vector>

#include <eigenheads/detail/macros_off.inl>
#include <eigenheads/io/file.hpp>                   // write_file
#include <eigenheads/plot/attention_view_data.hpp>  // append_json, packed_rows, is_float_sized
#include <eigenheads/plot/attention_view_page.hpp>  // view_head, view_scripts, ...
#include <eigenheads/plot/colormap.hpp>             // Colormap, palette_of
#include <eigenheads/plot/heatmap_layout.hpp>       // require_count
#include <eigenheads/plot/png.hpp>                  // base64
#include <eigenheads/plot/scale.hpp>                // scale_of, sample_of
#include <eigenheads/plot/svg.hpp>                  // escaped
#include <eigenheads/plot/text.hpp>                 // isolated
#include <eigenheads/shape.hpp>                     // require_shape, refuse
#include <eigenheads/tensor.hpp>                    // Tensor, TensorView

namespace eigenheads::inline EIGENHEADS_ABI {

// The weights of one sequence in one layer. Layers of a stack may differ in H, Q, K and labels.
// Strings are UTF-8; control characters in them are shown as their pictures.
template <Scalar T>
struct AttentionViewLayer {
  std::string name = {};                       // empty: "Layer 1", "Layer 2", ...
  Tensor<T, 3> weights = {};                   // [H, Q, K]; any of the three may be 0
  std::vector<std::string> query_labels = {};  // Q tokens; empty: the positions 0, 1, 2, ...
  std::vector<std::string> key_labels = {};    // K tokens; empty: the positions
  std::vector<std::string> head_names = {};    // H names; empty: "Head 1", "Head 2", ...
};

struct AttentionViewOptions {
  std::string title = "Attention";
  Colormap colormap = Colormap::reds;
  // The ends of the scale of all heads; none: the least and the greatest weight, and 0. The page
  // begins with this scale if an end is given, else with one for each head.
  std::optional<double> minimum = {};
  std::optional<double> maximum = {};
};

namespace detail::plot {

template <Scalar T>
class AttentionViewPage {
 public:
  AttentionViewPage(const std::vector<AttentionViewLayer<T>>& layers,
                    const AttentionViewOptions& options)
      : layers_(layers), options_(options) {
    Index total = 0;
    double ends[] = {0, 0};  // of the scale, if the options do not say
    for (std::size_t l = 0; l < layers.size(); ++l) {
      const std::string name = "layers[" + std::to_string(l) + "]";
      const TensorView<T, 3> weights(layers[l].weights);
      require_shape(name + ".weights", weights, "[H, Q, K]", {any_size, any_size, any_size});
      require_count(name + ".query_labels", layers[l].query_labels, "Q", weights.dimension(1));
      require_count(name + ".key_labels", layers[l].key_labels, "K", weights.dimension(2));
      require_count(name + ".head_names", layers[l].head_names, "H", weights.dimension(0));
      if (weights.size() > most_view_weights - total)
        refuse({"layers hold ", total + weights.size(), " weights up to ", name, "; expected ",
                most_view_weights, " at most, or no browser opens the page"});
      total += weights.size();
      const T* const data = weights.data();
      const bool is_small = std::all_of(data, data + weights.size(), is_float_sized<T>);
      bytes_.push_back(std::is_same_v<T, float> || is_small ? 4 : 8);
    }
    for (const AttentionViewLayer<T>& layer : layers)
      for (Index i = 0; i < layer.weights.size(); ++i) {
        const Sample sample = sample_of(layer.weights.data()[i]);
        if (sample.is_nan || sample.is_infinite) continue;
        ends[0] = (std::min)(ends[0], sample.value);
        ends[1] = (std::max)(ends[1], sample.value);
      }
    scale_ = scale_of(TensorView<double, 4>(ends, {1, 1, 1, 2}), options.minimum, options.maximum);
  }

  [[nodiscard]] std::string write() && {
    const std::string title = escaped(isolated(options_.title));
    html_.append(view_head).append("<title>").append(title).append("</title>\n<style>");
    html_.append(view_style).append("</style>\n</head>\n<body>\n<header>\n<div>\n<h1><bdi>");
    html_.append(title).append("</bdi></h1>").append(view_body);
    for (std::size_t l = 0; l < layers_.size(); ++l) write_weights(l);
    html_ += "<script type=\"application/json\" id=\"model\">\n";
    write_model();
    html_ += "\n</script>\n<script type=\"module\">";
    for (const std::string_view script : view_scripts) html_ += script;
    html_ += "\nstart();\n</script>\n</body>\n</html>\n";
    return std::move(html_);
  }

 private:
  void write_weights(std::size_t l) {
    const Tensor<T, 3>& weights = layers_[l].weights;
    const Index queries = weights.dimension(1), keys = weights.dimension(2);
    for (Index h = 0; h < weights.dimension(0); ++h) {
      const T* head = weights.data() + h * queries * keys;
      html_.append("<script type=\"text/plain\" id=\"weights-").append(std::to_string(l));
      html_.append("-").append(std::to_string(h)).append("\">");
      html_ += base64(bytes_[l] == 4 ? packed_rows<float>(head, queries, keys)
                                     : packed_rows<double>(head, queries, keys));
      html_ += "</script>\n";
    }
  }

  void write_model() {
    const auto field = [&](std::string_view name, const auto& value) {
      html_.append("\"").append(name).append("\":");
      append_json(html_, value);
      html_ += ',';
    };
    const auto close = [&](char bracket) {  // and what was last has no comma
      if (html_.back() == ',') html_.pop_back();
      html_ += bracket;
    };
    html_ += "{\"layers\":[";
    for (std::size_t l = 0; l < layers_.size(); ++l) {
      const AttentionViewLayer<T>& layer = layers_[l];
      html_ += "\n{";
      field("name", layer.name.empty() ? "Layer " + std::to_string(l + 1) : layer.name);
      field("queries", layer.weights.dimension(1));
      field("keys", layer.weights.dimension(2));
      field("bytes", bytes_[l]);
      field("heads", head_names(layer));
      field("queryLabels", layer.query_labels);
      field("keyLabels", layer.key_labels);
      close('}');
      html_ += ',';
    }
    close(']');
    html_ += ",\n";
    field("minimum", scale_.minimum);
    field("maximum", scale_.maximum);
    field("shared", Index{options_.minimum || options_.maximum});
    field("palettes", std::vector{base64(palette_of(options_.colormap)),
                                  base64(dark_palette_of(options_.colormap))});
    // The levels whose colours lines have on a light and on a dark page.
    const bool is_reds = options_.colormap == Colormap::reds;
    field("lightLine", Index{is_reds ? 190 : 95});
    field("darkLine", Index{is_reds ? 160 : 190});
    close('}');
  }

  [[nodiscard]] static std::vector<std::string> head_names(const AttentionViewLayer<T>& layer) {
    std::vector<std::string> names = layer.head_names;
    for (auto h = static_cast<Index>(names.size()); h < layer.weights.dimension(0); ++h)
      names.push_back("Head " + std::to_string(h + 1));
    return names;
  }

  const std::vector<AttentionViewLayer<T>>& layers_;
  const AttentionViewOptions& options_;
  std::vector<Index> bytes_;  // that a weight of each layer takes
  Scale scale_;
  std::string html_;
};

}  // namespace detail::plot

// The text of an HTML file. A stack without layers gives a page that says so. Throws
// std::invalid_argument if a list of strings is not as long as its axis, for a scale that cannot
// be, and for more than 67,108,864 weights.
template <Scalar T>
[[nodiscard]] std::string attention_view_html(const std::vector<AttentionViewLayer<T>>& layers,
                                              const AttentionViewOptions& options = {}) {
  return detail::plot::AttentionViewPage<T>(layers, options).write();
}

// Writes attention_view_html to a file; by custom its name ends in ".html". Throws FileError if it
// cannot be written, and then leaves what was there.
template <Scalar T>
void write_attention_view(const std::filesystem::path& path,
                          const std::vector<AttentionViewLayer<T>>& layers,
                          const AttentionViewOptions& options = {}) {
  write_file(path, attention_view_html(layers, options));
}

}  // namespace eigenheads::inline EIGENHEADS_ABI

#include <eigenheads/detail/macros_on.inl>
