// SPDX-License-Identifier: MIT
// pages FOLDER: writes the pages that check.py opens. It knows the same weights.
#include <filesystem>
#include <iostream>
#include <limits>
#include <string>
#include <vector>

#include <eigenheads/plot/attention_view.hpp>

namespace {

namespace eh = eigenheads;
using Layers = std::vector<eh::AttentionViewLayer<float>>;

// check.py: weight(h, q, k, K)
float weight(eh::Index h, eh::Index q, eh::Index k, eh::Index K) {
  return static_cast<float>((h * 131 + (q * K + k) * 37) % 1009) / 1009.0f;
}

eh::Tensor<float, 3> weights(eh::Index H, eh::Index Q, eh::Index K) {
  eh::Tensor<float, 3> tensor(H, Q, K);
  for (eh::Index h = 0; h < H; ++h)
    for (eh::Index q = 0; q < Q; ++q)
      for (eh::Index k = 0; k < K; ++k) tensor(h, q, k) = weight(h, q, k, K);
  return tensor;
}

Layers known() {
  const float inf = std::numeric_limits<float>::infinity();
  Layers layers(2);
  layers[0] = {.name = "encoder 1",
               .weights = weights(5, 4, 6),
               .query_labels = {"the", "cat", "sat", "down"},
               .key_labels = {"le", "chat", "s'est", "assis", "par", "terre"}};
  layers[1] = {
      .name = "decoder 1", .weights = weights(3, 3, 3), .head_names = {"first", "second", "third"}};
  layers[1].weights.data()[9] = std::numeric_limits<float>::quiet_NaN();
  layers[1].weights.data()[10] = inf;
  layers[1].weights.data()[11] = -inf;
  return layers;
}

Layers hostile() {
  const std::string script = "</script><script>window.hit = 1</script>";
  const std::string image = "<img src=x onerror='window.hit = 2'>";
  return {{.name = script,
           .weights = weights(1, 2, 2),
           .query_labels = {script, image},
           .key_labels = {"\xFF\n\x1B[2J", "\"'&lt;"},
           .head_names = {image}}};
}

}  // namespace

int main(int argc, char** argv) {
  if (argc != 2) {
    std::cerr << "usage: pages FOLDER\n";
    return 2;
  }
  const std::filesystem::path folder = argv[1];
  eh::write_attention_view(folder / "known.html", known(), {.title = "Known weights"});
  eh::write_attention_view(folder / "hostile.html", hostile(),
                           {.title = "<script>hit = 3</script>"});
  eh::write_attention_view(folder / "large.html", Layers{{.weights = weights(3, 512, 512)}},
                           {.colormap = eh::Colormap::viridis, .maximum = 1});
  eh::write_attention_view(folder / "empty.html", Layers{});
  eh::write_attention_view(folder / "hollow.html",
                           Layers{{.weights = weights(0, 3, 3)}, {.weights = weights(2, 0, 3)}});
}
