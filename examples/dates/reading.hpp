// SPDX-License-Identifier: MIT
#pragma once
// What the model makes of texts, and how often that is right.
#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include <eigenheads/context.hpp>  // Context
#include <eigenheads/tensor.hpp>   // Tensor, Scalar

#include "alphabet.hpp"  // is_digit
#include "batch.hpp"     // make_batch, kSymbols
#include "calendar.hpp"  // Date, from_iso, valid_date
#include "model.hpp"     // Model
#include "phrases.hpp"   // Phrases

namespace dates {

struct Reading {
  std::string symbols;    // ten of kSymbols
  double confidence = 0;  // the probability of exactly these, by the model's own account

  // The eight digits of a date, whether there is such a day or not.
  [[nodiscard]] bool is_written() const {
    for (std::size_t i = 0; i < symbols.size(); ++i)
      if (is_digit(symbols[i]) == (i == 4 || i == 7)) return false;
    return true;
  }
  [[nodiscard]] std::optional<Date> date() const { return from_iso(symbols); }
};

// logits: [B, kOutputs, kClasses]
template <Scalar T>
[[nodiscard]] std::vector<Reading> readings(const Tensor<T, 3>& logits) {
  std::vector<Reading> result(static_cast<std::size_t>(logits.dimension(0)));
  for (std::size_t b = 0; b < result.size(); ++b) {
    double probability = 1;
    for (Index i = 0; i < kOutputs; ++i) {
      const Eigen::Map<const Eigen::Array<T, kClasses, 1>> x(&logits(static_cast<Index>(b), i, 0));
      Index best = 0;
      const T largest = x.maxCoeff(&best);
      result[b].symbols += kSymbols[static_cast<std::size_t>(best)];
      double sum = 0;
      for (Index k = 0; k < kClasses; ++k) sum += std::exp(static_cast<double>(x[k] - largest));
      probability /= sum;
    }
    result[b].confidence = probability;
  }
  return result;
}

// texts: 1 to kMaxLength ASCII characters each.
template <Scalar T>
[[nodiscard]] std::vector<Reading> read(const Model<T>& model,
                                        const std::vector<std::string>& texts, Context& context) {
  typename Model<T>::Activations saved;
  return readings(model.forward(make_batch(texts), saved, context));
}

struct Score {
  Index dates = 0, exact = 0;      // phrases that hold a date; read to the day
  Index false_rejects = 0;         // read as no date
  Index others = 0;                // phrases without one
  Index false_accepts = 0;         // read as a date
  Index impossible = 0, seen = 0;  // of the others: days that are none; seen as what is written

  [[nodiscard]] static double share(Index part, Index whole) {
    return whole == 0 ? 0 : static_cast<double>(part) / static_cast<double>(whole);
  }
  [[nodiscard]] double exact_share() const { return share(exact, dates); }
  [[nodiscard]] double false_reject_share() const { return share(false_rejects, dates); }
  [[nodiscard]] double false_accept_share() const { return share(false_accepts, others); }

  void add(const Phrase& phrase, const Reading& reading) {
    const std::optional<Date> date = phrase.date(), read = reading.date();
    if (date) {
      ++dates;
      exact += read == date;
      false_rejects += !read;
    } else {
      ++others;
      false_accepts += read.has_value();
      impossible += phrase.written.has_value();
      seen += phrase.written && reading.symbols == to_iso(*phrase.written);
    }
  }
};

// Calls visit(phrase, reading) for the first `count` phrases.
template <Scalar T, class Visit>
void read_each(const Model<T>& model, const Phrases& phrases, Index count, const Visit& visit,
               Context& context) {
  constexpr Index batch_size = 256;
  for (Index first = 0; first < count; first += batch_size) {
    std::vector<Phrase> some;
    std::vector<std::string> texts;
    for (Index i = first; i < (std::min)(count, first + batch_size); ++i) {
      some.push_back(phrases(static_cast<std::uint64_t>(i)));
      texts.push_back(some.back().text);
    }
    const std::vector<Reading> read_texts = read(model, texts, context);
    for (std::size_t i = 0; i < some.size(); ++i) visit(some[i], read_texts[i]);
  }
}

template <Scalar T>
[[nodiscard]] Score evaluate(const Model<T>& model, const Phrases& phrases, Index count,
                             Context& context) {
  Score score;
  read_each(
      model, phrases, count,
      [&](const Phrase& phrase, const Reading& reading) { score.add(phrase, reading); }, context);
  return score;
}

}  // namespace dates
