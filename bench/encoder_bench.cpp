// SPDX-License-Identifier: MIT
// Measures an encoder of sentences: 6 layers, E=384, 12 heads, 1536 between the projections of the
// feed-forward network; and a layer in training. Peers measure the same by peers/encoder_*.py, with
// weights and outputs that this program writes.
//   encoder_bench [--tsv=FILE] [--threads=1,2] [--rows=REGEX] [--benchmark_repetitions=7]
//                 [--benchmark_min_time=0.05] | --export=DIRECTORY
#include <algorithm>
#include <exception>
#include <filesystem>
#include <fstream>
#include <functional>
#include <iostream>
#include <memory>
#include <regex>
#include <stdexcept>
#include <string>
#include <vector>

#include <eigenheads/context.hpp>                       // Context
#include <eigenheads/io/npy.hpp>                        // save_npy
#include <eigenheads/nn/feed_forward.hpp>               // FeedForward
#include <eigenheads/nn/transformer_encoder_layer.hpp>  // TransformerEncoderLayer
#include <eigenheads/sequences.hpp>                     // Sequences

#include "encoder_cases.hpp"
#include "options.hpp"
#include "peak.hpp"
#include "results.hpp"
#include "work.hpp"  // filled

namespace bench {
namespace {

namespace eh = eigenheads;
using Layer = eh::TransformerEncoderLayer<float>;
using Rows = eh::Tensor<float, 2>;

[[nodiscard]] Layer layer_of(const EncoderCase& c, eh::Activation activation, Index number) {
  return Layer({.num_hiddens = c.E,
                .num_heads = c.H,
                .feed_forward_size = c.hidden,
                .activation = activation},
               static_cast<std::uint64_t>(number));
}

// ---- What is measured --------------------------------------------------------------------------

class Encoder {
 public:
  explicit Encoder(const EncoderCase& c) {
    for (Index i = 0; i < c.layers; ++i) {
      layers_.push_back(layer_of(c, eh::Activation::gelu, i));
      // The same network without its activation.
      plain_.emplace_back(eh::FeedForwardOptions{
          .size = c.E, .hidden_size = c.hidden, .activation = eh::Activation::identity});
      plain_.back().up = layers_.back().feed_forward.up;
      plain_.back().down = layers_.back().feed_forward.down;
    }
    Index first = 0;
    for (const std::vector<Index>& lens : c.batches) {
      batches_.push_back({eh::Sequences(lens), Rows(0, 0), Rows(0, 0), Rows(0, 0)});
      Batch& batch = batches_.back();
      batch.x.resize(batch.sequences.rows(), c.E);
      for (Index i = 0; i < batch.x.size(); ++i)
        batch.x.data()[i] = number<float>(Stream::queries, first + i);
      first += batch.x.size();
      batch.y = batch.attended = batch.x;
    }
  }

  void run(eh::Context& context) {
    for (Batch& batch : batches_) {
      layers_[0].forward_into(batch.y, batch.x, batch.sequences, {}, context);
      for (std::size_t i = 1; i < layers_.size(); ++i)
        layers_[i].forward_into(batch.y, batch.y, batch.sequences, {}, context);
    }
  }
  // Without activations, residuals and norms.
  void run_products(eh::Context& context) {
    for (Batch& batch : batches_)
      for (std::size_t i = 0; i < layers_.size(); ++i) {
        layers_[i].self_attention.forward_into(batch.attended, i == 0 ? batch.x : batch.y,
                                               batch.sequences, eh::Mask{}, context);
        plain_[i].forward_into(batch.y, batch.attended, context);
      }
  }

  void write(const std::filesystem::path& directory, const std::string& name) {
    run(eh::default_context());
    const auto joined = [&](Rows Batch::*part) {
      std::vector<float> all;
      for (const Batch& batch : batches_)
        all.insert(all.end(), (batch.*part).data(), (batch.*part).data() + (batch.*part).size());
      return all;
    };
    save(directory / (name + "_x.npy"), joined(&Batch::x));
    save(directory / (name + "_y.npy"), joined(&Batch::y));
  }
  static void save(const std::filesystem::path& path, const std::vector<float>& numbers) {
    eh::save_npy(path, eh::TensorView<float, 1>(numbers.data(), {std::ssize(numbers)}));
  }

 private:
  struct Batch {
    eh::Sequences sequences;
    Rows x, y, attended;
  };
  std::vector<Layer> layers_;
  std::vector<eh::FeedForward<float>> plain_;
  std::vector<Batch> batches_;
};

// One layer forward and backward, over sequences of one length.
class TrainedLayer {
 public:
  explicit TrainedLayer(const EncoderCase& c)
      : layer_(layer_of(c, eh::Activation::gelu, 0)),
        x_(std::ssize(c.batches[0]), c.batches[0][0], c.E),
        grad_(x_) {
    for (Index i = 0; i < x_.size(); ++i) {
      x_.data()[i] = number<float>(Stream::queries, i);
      grad_.data()[i] = number<float>(Stream::grad_output, i);
    }
  }
  void run(eh::Context& context) {
    y_ = layer_.forward(x_, {}, saved_, context);
    layer_.backward_into(gradients_, grad_, saved_, false, context);
  }
  void write(const std::filesystem::path& directory, const std::string& name) {
    run(eh::default_context());
    const auto save = [&](const char* what, const eh::Tensor<float, 3>& x) {
      Encoder::save(directory / (name + what), std::vector<float>(x.data(), x.data() + x.size()));
    };
    save("_x.npy", x_);
    save("_y.npy", y_);
    save("_grad.npy", grad_);
    save("_grad_x.npy", gradients_.x);
  }

 private:
  Layer layer_;
  eh::Tensor<float, 3> x_, grad_, y_{0, 0, 0};
  Layer::Activations saved_;
  Layer::Gradients gradients_;
};

// ---- Measuring ---------------------------------------------------------------------------------

void measure(const EncoderCase& c, int threads, const Options& options, Results& results) {
  eh::Context context(threads);
  std::unique_ptr<Encoder> encoder;
  std::unique_ptr<TrainedLayer> trained;
  std::function<void()> run;
  if (c.is_training) {
    trained = std::make_unique<TrainedLayer>(c);
    run = [&] { trained->run(context); };
  } else {
    encoder = std::make_unique<Encoder>(c);
    run = [&] { encoder->run(context); };
  }
  run();
  std::vector<Sample> samples;
  std::vector<double> shares;  // of what lies between the products
  for (int i = 0; i < options.repetitions; ++i) {
    Sample sample{.work = name_of(c),
                  .group = "sentence encoders",
                  .scalar = "float",
                  .implementation = "Eigenheads",
                  .threads = threads,
                  .flops = flops_of(c),
                  .unmasked = flops_of(c),
                  .peak = peak_gflops<float>(threads)};
    sample.milliseconds = milliseconds(run, options.min_time);
    sample.scratch = static_cast<double>(context.scratch_bytes());
    samples.push_back(sample);
    if (encoder) {
      const double products =
          milliseconds([&] { encoder->run_products(context); }, options.min_time);
      shares.push_back(1 - products / sample.milliseconds);
    }
  }
  const Summary s = summary_of(samples);
  std::cout << s.sample.work << ", " << threads << (threads == 1 ? " thread" : " threads") << ": "
            << time_text(s) << " ms, " << rate_text(s) << ", " << share_text(s.share()) << " of "
            << digits(s.sample.peak, 3);
  if (encoder) {
    std::cout << ", "
              << digits(1e3 * static_cast<double>(sentences_of(c)) / s.sample.milliseconds, 4)
              << " sentences/s; activations, residuals and norms take "
              << share_text(median(shares));
    results.notes.push_back(s.sample.work + ", " + std::to_string(threads) +
                            " thread(s): activations, residuals and norms take " +
                            share_text(median(shares)) + " of the library's time");
  }
  std::cout << std::endl;
  results.samples.insert(results.samples.end(), samples.begin(), samples.end());
}

// ---- For the peers -----------------------------------------------------------------------------

void write_all(const std::filesystem::path& directory) {
  std::filesystem::create_directories(directory);
  std::ofstream out(directory / "encoders.json");
  out.precision(17);
  out << '[';
  for (std::size_t i = 0; i < encoder_cases().size(); ++i) {
    const EncoderCase& c = encoder_cases()[i];
    const std::string file = "encoder" + std::to_string(i);
    for (Index number = 0; number < c.layers; ++number)
      layer_of(c, eh::Activation::gelu, number).for_each_parameter([&](const auto& parameter) {
        std::vector<float> values(static_cast<std::size_t>(parameter.size()));
        parameter.copy_to(values);
        Encoder::save(
            directory / (file + '.' + std::to_string(number) + '.' + parameter.name() + ".npy"),
            values);
      });
    if (c.is_training)
      TrainedLayer(c).write(directory, file);
    else
      Encoder(c).write(directory, file);
    out << (i == 0 ? "\n" : ",\n") << "{\"name\": \"" << name_of(c) << "\", \"file\": \"" << file
        << "\", \"layers\": " << c.layers << ", \"E\": " << c.E << ", \"H\": " << c.H
        << ", \"hidden\": " << c.hidden
        << ", \"is_training\": " << (c.is_training ? "true" : "false")
        << ", \"flops\": " << flops_of(c) << ", \"batches\": [";
    for (std::size_t b = 0; b < c.batches.size(); ++b) {
      out << (b == 0 ? "[" : ", [");
      for (std::size_t k = 0; k < c.batches[b].size(); ++k)
        out << (k == 0 ? "" : ", ") << c.batches[b][k];
      out << ']';
    }
    out << "]}";
  }
  out << "\n]\n";
  if (!out.flush()) throw std::runtime_error("cannot write " + directory.string());
}

int run(int argc, char** argv) {
  const Options options = parse(argc, argv);
  if (!options.directory.empty()) {
    write_all(options.directory);
    return 0;
  }
  const std::regex rows(options.rows);
  Results results;
  for (const int threads : options.threads)
    for (const EncoderCase& c : encoder_cases())
      if (std::regex_search(name_of(c), rows)) measure(c, threads, options, results);
  write(options.tsv, results);
  return 0;
}

}  // namespace
}  // namespace bench

int main(int argc, char** argv) {
  try {
    return bench::run(argc, argv);
  } catch (const std::exception& error) {
    std::cerr << argv[0] << ": " << error.what() << '\n';
    return 1;
  }
}
