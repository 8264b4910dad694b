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
  std::string symbols;       // ten of kSymbols
  double confidence = 1;     // the probability of exactly these, by the model's own account
  bool is_in_doubt = false;  // see read

  // The eight digits of a date, whether there is such a day or not.
  [[nodiscard]] bool is_written() const {
    for (std::size_t i = 0; i < symbols.size(); ++i)
      if (is_digit(symbols[i]) == (i == 4 || i == 7)) return false;
    return true;
  }
  // None where nothing is read, where there is no such day, and where the reading is in doubt.
  [[nodiscard]] std::optional<Date> date() const {
    return is_in_doubt ? std::nullopt : from_iso(symbols);
  }
};

// A check of what the model has read, which reads nothing itself: whether numbers of the text are
// the year and the day of `symbols`, a date that is written. A year is a number of four digits, or
// of two from 1950 to 2049; a day is one of one or two; and eight digits are both.
[[nodiscard]] inline bool stands_in(const std::string& text, const std::string& symbols) {
  const std::string year = symbols.substr(0, 4), day = symbols.substr(8);
  const bool is_short =
      year >= std::to_string(kFirstShortYear) && year <= std::to_string(kLastShortYear);
  bool has_year = false, has_day = false;
  for (std::size_t i = 0; i < text.size(); ++i) {
    std::string number;
    while (i < text.size() && is_digit(text[i])) number += text[i++];
    if (number.size() == 8 && number.starts_with(year) && number.ends_with(day)) return true;
    has_year |= number == year || (is_short && number.size() == 2 && year.ends_with(number));
    has_day |= number == day || (number.size() == 1 && day == '0' + number);
  }
  return has_year && has_day;
}

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

// Below it something else is likelier by the model's own account.
inline constexpr double kLeastConfidence = 0.5;

// texts: 1 to kMaxLength ASCII characters each. In doubt is what the model is not sure of, and what
// cannot be: a year or a day that does not stand in the text.
template <Scalar T>
[[nodiscard]] std::vector<Reading> read(const Model<T>& model,
                                        const std::vector<std::string>& texts, Context& context) {
  typename Model<T>::Activations saved;
  std::vector<Reading> result = readings(model.forward(make_batch(texts), saved, context));
  for (std::size_t i = 0; i < texts.size(); ++i)
    result[i].is_in_doubt = result[i].confidence < kLeastConfidence ||
                            (result[i].is_written() && !stands_in(texts[i], result[i].symbols));
  return result;
}

struct Score {
  Index dates = 0, exact = 0;      // phrases that hold a date; read to the day
  Index false_rejects = 0;         // read as no date
  Index others = 0;                // phrases without one
  Index false_accepts = 0;         // read as a date
  Index impossible = 0, seen = 0;  // of the others: days that are none; seen as what is written

  [[nodiscard]] Index misread() const { return dates - exact - false_rejects; }

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

// Calls visit(phrase, reading) for the first `count` phrases of what phrases(i) gives.
template <Scalar T, class Source, class Visit>
void read_each(const Model<T>& model, const Source& phrases, Index count, const Visit& visit,
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

template <Scalar T, class Source>
[[nodiscard]] Score evaluate(const Model<T>& model, const Source& phrases, Index count,
                             Context& context) {
  Score score;
  read_each(
      model, phrases, count,
      [&](const Phrase& phrase, const Reading& reading) { score.add(phrase, reading); }, context);
  return score;
}

}  // namespace dates
