// SPDX-License-Identifier: MIT
// The phrases of examples/dates: the calendar against known days; then every phrase against a
// reader that was written apart, with regular expressions and its own names of the months.
#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <gtest/gtest.h>
#include <map>
#include <optional>
#include <regex>
#include <set>
#include <string>
#include <string_view>
#include <unordered_map>
#include <utility>
#include <vector>

#include "dates/alphabet.hpp"
#include "dates/calendar.hpp"
#include "dates/held_out.hpp"
#include "dates/overlap.hpp"
#include "dates/phrases.hpp"

namespace {

using namespace dates;

constexpr std::array kSplits{Split::train, Split::test};

// ---- The calendar -------------------------------------------------------------------------------

TEST(DatesCalendar, KnowsItsYearsMonthsAndDays) {
  static_assert(is_leap(2000) && is_leap(1952) && !is_leap(1900) && !is_leap(2026));
  static_assert(days_in_month(2024, 2) == 29 && days_in_month(2023, 2) == 28);
  static_assert(valid_date({2000, 2, 29}) && !valid_date({1999, 2, 29}));
  static_assert(valid_date({1600, 2, 29}) && !valid_date({1500, 2, 29}));
  static_assert(!valid_date({1999, 13, 1}) && !valid_date({1999, 0, 1}));
  static_assert(!valid_date({1999, 4, 31}) && !valid_date({1999, 4, 0}) && !valid_date({0, 4, 1}));
  int days = 0;
  for (int month = 1; month <= 12; ++month) days += days_in_month(2026, month);
  EXPECT_EQ(days, 365);
}

// Gregorian reform, Unix epoch, moon landing, fall of the wall, and the issue's own example.
TEST(DatesCalendar, KnowsWeekdays) {
  static_assert(weekday({1582, 10, 15}) == 4);
  static_assert(weekday({1970, 1, 1}) == 3);
  static_assert(weekday({1969, 7, 20}) == 6);
  static_assert(weekday({1989, 11, 9}) == 3);
  static_assert(weekday({2000, 2, 29}) == 1);
  static_assert(weekday({2026, 11, 21}) == 5);
  int expected = weekday({kFirstYear, 1, 1});
  for (int year = kFirstYear; year <= kLastYear; ++year)
    for (int month = 1; month <= 12; ++month)
      for (int day = 1; day <= days_in_month(year, month); ++day, expected = (expected + 1) % 7)
        ASSERT_EQ(weekday({year, month, day}), expected) << year << ' ' << month << ' ' << day;
}

TEST(DatesCalendar, WritesAndReadsIso) {
  EXPECT_EQ(to_iso({2026, 11, 21}), "2026-11-21");
  EXPECT_EQ(to_iso({7, 3, 5}), "0007-03-05");
  EXPECT_EQ(from_iso("1999-03-05"), (Date{1999, 3, 5}));
  for (const char* text : {"", "1999-3-5", "1999-03-05 ", "1999/03/05", "1999-02-29", "1999-13-01",
                           "1999-00-10", "0000-01-01", "-999-01-01", "19990-3-05", "1999-03-0x"})
    EXPECT_FALSE(from_iso(text)) << text;
}

// ---- The alphabet -------------------------------------------------------------------------------

TEST(DatesAlphabet, TokensAndCharactersAreInverse) {
  EXPECT_EQ(std::set<char>(kCharacters.begin(), kCharacters.end()).size(), kCharacters.size());
  for (const char c : kCharacters) {
    EXPECT_GT(token(c), kUnknown);
    EXPECT_LT(token(c), kTokens);
    EXPECT_EQ(character(token(c)), c);
    EXPECT_EQ(token(upper(c)), token(c));
  }
  EXPECT_EQ(token('\0'), kUnknown);
  EXPECT_EQ(token('~'), kUnknown);
  EXPECT_EQ(tokens("Ab"), tokens("aB"));
}

TEST(DatesAlphabet, FoldsWhatPeopleTypeToAscii) {
  EXPECT_EQ(fold("Do., 5. März 1999"), "Do., 5. Maerz 1999");
  EXPECT_EQ(fold("5. Ma\u0308rz 1999"), "5. Maerz 1999");
  EXPECT_EQ(fold("1er février, août, décembre"), "1er fevrier, aout, decembre");
  EXPECT_EQ(fold("miércoles, sábado, lunedì, terça-feira, março"),
            "miercoles, sabado, lunedi, terca-feira, marco");
  EXPECT_EQ(fold("1º\u00A0de\tmaio – ’99 …"), "1o de maio - '99 ...");
  EXPECT_EQ(fold("\uFEFFplain"), "plain");
  const std::string strange = fold("5 三月 \xFF\xC3 \xE2\x82");
  EXPECT_EQ(strange.size(), 10u);
  EXPECT_EQ(std::ranges::count(tokens(strange), kUnknown), 6);
}

// ---- A reader of its own ------------------------------------------------------------------------

const std::vector<std::vector<std::string>>& month_names() {
  static const std::vector<std::vector<std::string>> names{
      {"january", "jan", "januar", "jänner", "janvier", "janv", "enero", "ene", "gennaio", "gen",
       "januari", "janeiro"},
      {"february", "feb", "februar", "février", "fév", "févr", "febrero", "febbraio", "februari",
       "fevereiro"},
      {"march", "mar", "märz", "marz", "mrz", "mär", "mars", "marzo", "maart", "mrt", "março"},
      {"april", "apr", "avril", "avr", "abril", "abr", "aprile"},
      {"may", "mai", "mayo", "maggio", "mag", "mei", "maio"},
      {"june", "jun", "juni", "juin", "junio", "giugno", "giu", "junho"},
      {"july", "jul", "juli", "juillet", "juil", "julio", "luglio", "lug", "julho"},
      {"august", "aug", "août", "agosto", "ago", "augustus"},
      {"september", "sep", "sept", "septembre", "septiembre", "setiembre", "settembre", "set",
       "sett", "setembro"},
      {"october", "oct", "oktober", "okt", "octobre", "octubre", "ottobre", "ott", "outubro",
       "out"},
      {"november", "nov", "novembre", "noviembre", "novembro"},
      {"december", "dec", "dezember", "dez", "décembre", "diciembre", "dic", "dicembre",
       "dezembro"}};
  return names;
}

// The valid dates that a text can be read as, by the rules of templates.hpp.
class Reader {
 public:
  Reader() {
    std::vector<std::string> names;
    for (int month = 1; month <= 12; ++month)
      for (const std::string& name : month_names()[static_cast<std::size_t>(month - 1)]) {
        months_[fold(name)] = month;
        names.push_back(fold(name));
      }
    std::ranges::sort(names, {}, [](const std::string& name) { return -int(name.size()); });
    std::string any;
    for (const std::string& name : names) any += (any.empty() ? "" : "|") + name;
    const std::string month = "(" + any + ")(?![a-z])", start = "(?:^|[^0-9])",
                      end = "(?![0-9]|:[0-9])", year = "'?([0-9]{4}|[0-9]{2})" + end,
                      ordinal = "(?:st|nd|rd|th|er|o|e|\\.)?";
    day_first_ = start + "([0-9]{1,2})" + ordinal + "[ /-]*(?:of *|de *)?" + month +
                 "[ .,/-]*(?:de *|del *)?" + year;
    month_first_ =
        "(?:^|[^a-z])" + month + "[ .-]*(?:the *)?([0-9]{1,2})" + ordinal + "[ ,-]+" + year;
    marked_ = "(?:^|[^a-z])" + month + " *([./]) *([0-9]{1,2}) *\\2 *" + year;
    glued_ = "(?:^|[^a-z])" + month + "[ .-]*(?:the *)?([0-9]{1,2})(?:st|nd|rd|th|(?='))" + year;
    year_first_ = start + "([0-9]{4})[ ,/-]*" + month + "[ /-]*([0-9]{1,2})" + end;
    numbers_ = start + "([0-9]{1,2}) *([./-]) *([0-9]{1,2}) *\\2 *" + year;
    iso_ = start + "([0-9]{4}) *([./-]) *([0-9]{1,2}) *\\2 *([0-9]{1,2})" + end;
    run_ = start + "([0-9]{4})([0-9]{2})([0-9]{2})" + end;
    glue_ = "([0-9]{4}|/[0-9]{2}):(?=[0-9])|([0-9])t(?=[0-9])";
    time_ =
        "(?: ?at|[ _@:-])*[0-9]{1,2}:[0-9]{2}(:[0-9]{2})?([.][0-9]+)?"
        "( *[+-][0-9]{2}:?[0-9]{2}|z| *utc)?";
    std::string words =
        "le|du|depuis|commande|livraison|echeance|contrat|el|del|desde|pedido|fecha|entrega|"
        "vencimiento|contrato|il|dal|ordine|data|consegna|scadenza|contratto|op|den|em|de|dia|"
        "encomenda|vencimento|vom|ate|li|date +(?:de|d|limite)";
    for (int locale = 2; locale < 8; ++locale)
      for (const std::string_view list : {language(static_cast<Locale>(locale)).weekdays,
                                          language(static_cast<Locale>(locale)).short_weekdays})
        for (const char c : '|' + std::string(list)) words += c == ' ' || c == '/' ? '|' : lower(c);
    other_language_ = "(?:^|[^a-z])(?:" + words + ")(?![a-z])" +
                      "|(?:^|[^a-z])(?!(?:invoice|(?:mon|tues?|wed(?:nes)?|thu(?:rs?)?|fri|"
                      "sat(?:ur)?|sun)(?:day)?),)[a-z]+, *[0-9]+ */";  // a town
  }

  std::set<Date> operator()(const std::string& text) const {
    std::set<Date> dates;
    const std::string line =
        std::regex_replace(std::regex_replace(lower(text), glue_, "$1$2 "), time_, " ");
    const bool is_english = !std::regex_search(line, other_language_);
    const auto find = [&](const std::regex& form, auto&& read) {
      for (std::sregex_iterator at(line.begin(), line.end(), form), end; at != end; ++at)
        if (const Date date = read(*at);
            valid_date(date) && date.year >= kFirstYear && date.year <= kLastYear)
          dates.insert(date);
    };
    using Match = std::smatch;
    const auto number = [](const Match& m, std::size_t i) { return std::stoi(m[i].str()); };
    const auto full = [&](const Match& m, std::size_t i) {
      const int year = number(m, i);
      return m[i].length() == 4 ? year : year < 50 ? 2000 + year : 1900 + year;
    };
    const auto named = [&](const Match& m, std::size_t i) { return months_.at(m[i].str()); };
    const auto by_month = [&](const Match& m) {
      return Date{full(m, 3), named(m, 1), number(m, 2)};
    };
    find(day_first_, [&](const Match& m) { return Date{full(m, 3), named(m, 2), number(m, 1)}; });
    find(month_first_, by_month);
    find(glued_, by_month);
    find(marked_, [&](const Match& m) { return Date{full(m, 4), named(m, 1), number(m, 3)}; });
    find(year_first_,
         [&](const Match& m) { return Date{number(m, 1), named(m, 2), number(m, 3)}; });
    find(numbers_, [&](const Match& m) {
      const int a = number(m, 1), b = number(m, 3);
      return m[2].str() == "/" && is_english ? Date{full(m, 4), a, b} : Date{full(m, 4), b, a};
    });
    find(iso_, [&](const Match& m) { return Date{number(m, 1), number(m, 3), number(m, 4)}; });
    find(run_, [&](const Match& m) { return Date{number(m, 1), number(m, 2), number(m, 3)}; });
    return dates;
  }

 private:
  std::map<std::string, int> months_;
  std::regex day_first_, month_first_, glued_, year_first_, numbers_, iso_, run_, marked_, glue_,
      time_, other_language_;
};

TEST(DatesReader, ReadsAsTheRulesSay) {
  const Reader read;
  using Dates = std::set<Date>;
  EXPECT_EQ(read("Sat, 21st of Nov 2026"), Dates({{2026, 11, 21}}));
  EXPECT_EQ(read("3.7.88"), Dates({{1988, 7, 3}}));
  EXPECT_EQ(read("3/7/49"), Dates({{2049, 3, 7}}));
  EXPECT_EQ(read("March 5, 1999"), Dates({{1999, 3, 5}}));
  EXPECT_EQ(read("le 3/7/1849"), Dates({{1849, 7, 3}}));
  EXPECT_EQ(read("3/7/2949, 12:30"), Dates({{2949, 3, 7}}));
  EXPECT_EQ(read("5 March at 12:30:45, 1099"), Dates({{1099, 3, 5}}));
  for (const char* text :
       {"Feb 30, 1999", "29 Feb 1500", "5 March 999", "5 March 19180", "5/3/3000"})
    EXPECT_EQ(read(text), Dates()) << text;
  EXPECT_EQ(read("5 March at 12:30"), Dates());
}

TEST(DatesLanguages, EveryNameOfAMonthIsOneOfItsNames) {
  for (int locale = 0; locale < 8; ++locale) {
    const Language& words = language(static_cast<Locale>(locale));
    for (const std::string_view list : {words.months, words.short_months}) {
      ASSERT_EQ(count_items(list, ' '), 12);
      for (int month = 0; month < 12; ++month) {
        std::set<std::string> known;
        for (const std::string& name : month_names()[static_cast<std::size_t>(month)])
          known.insert(fold(name));
        const std::string_view names = item(list, ' ', month);
        for (int i = 0; i < count_items(names, '/'); ++i)
          EXPECT_TRUE(known.contains(lower(std::string(item(names, '/', i))))) << names;
      }
    }
    for (const std::string_view list : {words.weekdays, words.short_weekdays})
      EXPECT_EQ(count_items(list, ' '), 7);
  }
}

// ---- The phrases --------------------------------------------------------------------------------

TEST(DatesPhrases, APhraseIsAFunctionOfSplitSeedAndIndex) {
  for (const Split split : kSplits) {
    const Phrases once(split, 5), again(split, 5), other(split, 6);
    int same = 0;
    for (std::uint64_t i = 0; i < 1000; ++i) {
      const std::uint64_t index = (999 - i) * 0x100000001;
      const Phrase a = once(index), b = again(index);
      ASSERT_EQ(a.text, b.text);
      ASSERT_EQ(a.written, b.written);
      ASSERT_EQ(a.template_id, b.template_id);
      same += a.text == other(index).text;
    }
    EXPECT_LT(same, 10);
  }
}

// But for numbers that say they are none: the reader does not know their words.
TEST(DatesPhrases, EveryReadingIsTheOneThatIsMeant) {
  const Reader read;
  for (const Split split : kSplits) {
    const Phrases phrases(split, 1);
    for (std::uint64_t i = 0; i < 20000; ++i) {
      const Phrase phrase = phrases(i);
      const auto date = phrase.date();
      if (phrase.kind >= Kind::year && phrase.kind <= Kind::code) {
        ASSERT_FALSE(phrase.written) << phrase.text;
        continue;
      }
      const std::set<Date> expected = date ? std::set<Date>{*date} : std::set<Date>{};
      ASSERT_EQ(read(phrase.text), expected)
          << phrase.text << " from " << templates()[std::size_t(phrase.template_id)].pattern;
    }
  }
}

// What is written of an impossible date is what the text says: its day, and its year's last digits.
TEST(DatesPhrases, ImpossibleDatesAreWrittenAsTheyStand) {
  for (const Split split : kSplits) {
    const Phrases phrases(split, 8);
    int met = 0;
    for (std::uint64_t i = 0; i < 20000; ++i) {
      const Phrase phrase = phrases(i);
      const Template& form = templates()[std::size_t(phrase.template_id)];
      EXPECT_EQ(phrase.written.has_value(),
                phrase.kind == Kind::date || phrase.kind == Kind::impossible);
      EXPECT_TRUE(phrase.kind == form.kind || form.kind == Kind::date) << phrase.text;
      if (!phrase.written || phrase.date()) continue;
      ++met;
      const Date& date = *phrase.written;
      EXPECT_FALSE(valid_date(date)) << phrase.text;
      EXPECT_NE(phrase.text.find(std::to_string(date.day)), std::string::npos) << phrase.text;
      EXPECT_NE(phrase.text.find(padded(date.year % 100, 2)), std::string::npos) << phrase.text;
    }
    EXPECT_GT(met, 900);
  }
}

TEST(DatesPhrases, LengthsCharactersAndSharesAreInRange) {
  for (const Split split : kSplits) {
    const Phrases phrases(split, 2);
    const int n = 200000;
    int negatives = 0;
    std::set<int> ids, years;
    std::set<std::size_t> lengths;
    for (std::uint64_t i = 0; i < n; ++i) {
      const Phrase phrase = phrases(i);
      lengths.insert(phrase.text.size());
      ASSERT_EQ(std::ranges::count(tokens(phrase.text), kUnknown), 0) << phrase.text;
      ids.insert(phrase.template_id);
      negatives += !phrase.date();
      if (!phrase.date()) continue;
      years.insert(phrase.date()->year);
    }
    for (int kind = 0; kind < static_cast<int>(kKindNames.size()); ++kind)
      for (std::uint64_t i = 0; i < 20000; ++i) {
        const Phrase phrase = phrases.of(static_cast<Kind>(kind), i);
        lengths.insert(phrase.text.size());
        ids.insert(phrase.template_id);
        ASSERT_EQ(static_cast<int>(phrase.kind), kind);
      }
    EXPECT_GE(*lengths.begin(), kMinLength);
    EXPECT_EQ(*lengths.rbegin(), kMaxLength);
    EXPECT_NEAR(negatives / double(n), 0.12, 0.005);
    EXPECT_EQ(years.size(), split == Split::test ? 400u : 1600u);
    // Each template is met, and none of the other split.
    for (std::size_t id = 0; id < templates().size(); ++id)
      EXPECT_EQ(ids.contains(static_cast<int>(id)), templates()[id].split == split) << id;
  }
}

// Where a weekday is written in full, it is the date's.
TEST(DatesPhrases, WeekdaysAgree) {
  std::vector<std::map<std::string, int>> tables;
  for (int locale = 1; locale < 8; ++locale) {
    const std::string_view list = language(static_cast<Locale>(locale)).weekdays;
    auto& table = tables.emplace_back();
    for (int day = 0; day < 7; ++day)
      for (int i = 0; i < count_items(item(list, ' ', day), '/'); ++i)
        table[lower(std::string(item(item(list, ' ', day), '/', i)))] = day;
  }
  const std::regex word("[a-z]+");
  int met = 0;
  for (const Split split : kSplits) {
    const Phrases phrases(split, 3);
    for (std::uint64_t i = 0; i < 20000; ++i) {
      const Phrase phrase = phrases(i);
      if (!phrase.date()) continue;
      const std::string line = lower(phrase.text);
      for (std::sregex_iterator at(line.begin(), line.end(), word), end; at != end; ++at)
        for (const auto& table : tables)
          if (const auto found = table.find(at->str()); found != table.end()) {
            ++met;
            ASSERT_EQ(found->second, weekday(*phrase.date())) << phrase.text;
          }
    }
  }
  EXPECT_GT(met, 5000);
}

// Also in the phrases without a date: numbers of four digits that are years, and those of eight.
TEST(DatesSplits, ShareNeitherTemplatesNorYears) {
  const Overlap overlap = count_overlap(Phrases(Split::train, 1), Phrases(Split::test, 2), 200000);
  EXPECT_EQ(overlap.templates, 0u);
  EXPECT_EQ(overlap.years, 0u);
  EXPECT_LT(overlap.texts, 20u);  // all without a date
  const std::regex number("[0-9]+");
  for (const Split split : kSplits) {
    const Phrases phrases(split, 4);
    for (std::uint64_t i = 0; i < 50000; ++i) {
      const Phrase phrase = phrases(i);
      for (std::sregex_iterator at(phrase.text.begin(), phrase.text.end(), number), end; at != end;
           ++at) {
        if (at->length() != 4 && at->length() != 8) continue;
        const int year = std::stoi(at->str().substr(0, 4));
        if (year < kFirstYear || year > kLastYear) continue;
        ASSERT_EQ(is_test_year(year), split == Split::test) << phrase.text;
      }
    }
  }
}

TEST(DatesSplits, EveryDigitOfATestYearOccursInItsPlaceInTraining) {
  std::map<int, int> decades, digits;
  int leap = 0;
  for (int year = kFirstYear; year <= kLastYear; ++year)
    if (is_test_year(year)) ++decades[year / 10], ++digits[year % 10], leap += is_leap(year);
  EXPECT_EQ(decades.size(), 200u);
  EXPECT_EQ(digits.size(), 10u);
  for (const auto& [decade, count] : decades) EXPECT_EQ(count, 2) << decade;
  for (const auto& [digit, count] : digits) EXPECT_EQ(count, 40) << digit;
  EXPECT_EQ(leap, 100);
}

std::set<std::string> parts_of(std::string_view pattern) {
  static const std::regex part("%.|[a-zA-Z]+|[^a-zA-Z%]");
  const std::string text(pattern);
  std::set<std::string> parts;
  for (std::sregex_iterator at(text.begin(), text.end(), part), end; at != end; ++at)
    parts.insert(at->str());
  return parts;
}

// Fields and words of the test's templates are the training's, language by language; but for numbers
// that are no dates, some of which stand beside words that training has not met.
TEST(DatesSplits, TestTemplatesAreMadeOfTrainingParts) {
  std::map<Locale, std::set<std::string>> parts;
  std::set<std::string> marks;
  for (const Template& form : templates())
    if (form.split == Split::train) {
      parts[form.locale].merge(parts_of(form.pattern));
      marks.merge(parts_of(form.pattern));
    }
  for (const Template& form : templates())
    if (form.split == Split::test && form.kind <= Kind::incomplete) {
      for (const std::string& x : parts_of(form.pattern)) {
        const bool is_mark = x.size() == 1 && !is_letter(x[0]);
        EXPECT_TRUE((is_mark ? marks : parts[form.locale]).contains(x)) << form.pattern << ' ' << x;
      }
    }
}

// What is left of the texts of a pattern when every digit is 9 and every name is its initial: a
// month's M or a weekday's W, whether abbreviated or not.
std::set<std::string> shapes_of(const Template& form) {
  const auto field = [&](char c) -> std::vector<std::string> {
    switch (c) {
      case 'e':
        return {" 9", "99"};
      case 'd':
      case 'n':
      case '2':
        return {"9", "99"};
      case 'D':
      case 'N':
      case 'y':
      case '0':
      case 'h':
      case 'm':
      case 'W':
        return {"99"};
      case 'o':
        switch (form.locale) {
          case Locale::english:
            return {"9th", "99th"};
          case Locale::german:
            return {"9.", "99."};
          case Locale::dutch:
            return {"9e", "99e"};
          default:
            return {"9er", "9o", "9", "99"};
        }
      case 'Y':
      case '4':
      case '9':
        return {"9999"};
      case 'b':
      case 'B':
      case 'i':
        return {"M"};
      case 'p':
        return {"M", "M."};
      case 'a':
      case 'A':
      case 'k':
        return {"W"};
      case '1':
      case '7':
      case 'u':
        return {"9"};
      case 'j':
      case '3':
        return {"999"};
      case '5':
        return {"99999"};
      case 't':
        return {"9:99", "99:99"};
      case 'T':
        return {"99:99:99"};
      case 'z':
        return {"+9999", "-9999"};
      case 'Z':
        return {"+99:99", "-99:99"};
      default:
        return {std::string("%") + c};
    }
  };
  std::set<std::string> shapes{""};
  for (std::size_t i = 0; i < form.pattern.size(); ++i) {
    const bool is_field = form.pattern[i] == '%';
    std::set<std::string> longer;
    const auto ends = is_field ? field(form.pattern[++i])
                               : std::vector<std::string>{std::string(1, form.pattern[i])};
    for (const std::string& shape : shapes)
      for (const std::string& end : ends) longer.insert(shape + end);
    shapes = std::move(longer);
  }
  return shapes;
}

// Not even under the name of another pattern, or in another language.
TEST(DatesSplits, NothingThatATestTemplateMakesIsMadeInTraining) {
  std::map<std::string, std::string_view> known;
  for (const Template& form : templates())
    if (form.split == Split::train)
      for (const std::string& shape : shapes_of(form)) known[shape] = form.pattern;
  for (const Template& form : templates())
    if (form.split == Split::test) {
      for (const std::string& shape : shapes_of(form))
        EXPECT_FALSE(known.contains(shape)) << form.pattern << " and " << known.at(shape);
    }
}

// Nor is a held-out format, by its patterns or by what is left of it in a text with noise.
TEST(DatesHeldOut, NoFormatIsMadeInTraining) {
  std::map<std::string, std::string_view> known;
  for (const Template& form : templates())
    for (const std::string& shape : shapes_of(form)) known[shape] = form.pattern;
  for (const HeldOutFormat& format : kHeldOutFormats)
    for (int i = 0; i < count_items(format.patterns, '|'); ++i)
      for (const std::string& shape :
           shapes_of({Split::test, Kind::date, format.locale, item(format.patterns, '|', i)}))
        EXPECT_FALSE(known.contains(shape)) << format.name << ' ' << known.at(shape);

  const std::string time = "[0-9]{2}:[0-9]{2}:[0-9]{2}", day = "[0-9]{4}-[0-9]{2}-[0-9]{2}";
  const std::vector<std::regex> signs{
      std::regex("[0-9]{1,2} [a-z]{3} [0-9]{4} " + time),                  // RFC 5322
      std::regex(day + "(t|  ?)" + time),                                  // RFC 3339, git, syslog
      std::regex("[0-9]{8}t[0-9]{4}"),                                     // ISO 8601, basic
      std::regex("(^|[^0-9])[0-9]{4}-?[0-9]{3}($|[^0-9])"),                // ordinal
      std::regex("[0-9]{4}-?w[0-9]{2}"),                                   // week
      std::regex("^(<[0-9]+>)?[a-z]{3}  ?[0-9]{1,2} " + time + " [a-z]"),  // syslog
      std::regex("[0-9]{2}/[a-z]{3}/[0-9]{4}:"),                           // Apache
      std::regex("[a-z]{3} [a-z]{3} +[0-9]{1,2} " + time +
                 "[.0-9]* ([a-z]{3} )?[0-9]{4}"),                   // Apache, git, ctime
      std::regex("[0-9]{4}/[0-9]{2}/[0-9]{2} " + time + " ?[[$]"),  // nginx, cvs
      std::regex("[0-9]{2}-[a-z]{3}-[0-9]{4} " + time + "( gmt|[.][0-9]{3} info)"),
      std::regex("(^|[^a-z])(dtstart|until=|date:[0-9]{8}|img_|backup|report_|db-)"),
      std::regex("[a-z]{3} {1,2}[0-9]{1,2}  [0-9]{4} notes|<dir>"),
      std::regex("(invoice|rechnung|facture|factura|fattura|factuur|fatura)(sdatum|datum)? "
                 "((n[.]|no[.]?|nr[.]) [0-9]{4} |date|[0-9]{4}/)"),
      std::regex(
          "(^|[^a-z])(credit note|statement no|tax point|receipt #|gutschrift|mahnung|lieferschein|"
          "leistungsdatum|angebot|quittung|valuta|avoir no|devis no|d'emission|regler|recu [0-9]|"
          "releve du|recibo n|albaran|de emision|vence el|presupuesto|ricevuta|bolla [0-9]|di "
          "emissione|pagamento|preventivo|kwitantie|offerte|vervaldatum|betalen|creditnota|betaald|"
          "orcamento|vencimento:|pagar|nota n|pago em)"),
      std::regex(
          "(^|[^a-z])(bristol|leeds|chicago|york|oxford|hamburg|muenchen|koeln|bonn|zuerich|"
          "nantes|toulouse|lille|geneve|dijon|sevilla|bilbao|toledo|lima|torino|napoli|"
          "genova|bologna|rotterdam|delft|leiden|gent|coimbra|braga|faro|recife|manchester|"
          "dublin|exeter|edinburgh|seattle|cardiff|stuttgart|dresden|graz|freiburg|bern|kiel|"
          "marseille|bordeaux|rennes|grenoble|liege|metz|valencia|zaragoza|granada|quito|"
          "murcia|cordoba|firenze|venezia|palermo|verona|trieste|pisa|amsterdam|den haag|"
          "eindhoven|breda|brugge|zwolle|aveiro|evora|funchal|curitiba|setubal|sao paulo)"
          "($|[^a-z])")};
  const Phrases phrases(Split::train, 9);
  for (std::uint64_t i = 0; i < 50000; ++i) {
    const std::string text = lower(phrases(i).text);
    for (std::size_t sign = 0; sign < signs.size(); ++sign)
      ASSERT_FALSE(std::regex_search(text, signs[sign])) << text << " has sign " << sign;
  }
}

TEST(DatesHeldOut, TextsAreEvenByCentury) {
  for (const HeldOutFormat& format : kHeldOutFormats) {
    std::map<int, int> centuries;
    for (std::uint64_t i = 0; i < 200; ++i) {
      const Phrase phrase = held_out_phrase(format, i);
      EXPECT_EQ(phrase.text, held_out_phrase(format, i).text);
      EXPECT_LE(phrase.text.size(), kMaxLength) << phrase.text;
      EXPECT_EQ(std::ranges::count(tokens(phrase.text), kUnknown), 0) << phrase.text;
      EXPECT_EQ(phrase.written.has_value(), format.holds_date) << phrase.text;
      EXPECT_EQ(phrase.date(), phrase.written) << phrase.text;
      if (phrase.written) ++centuries[phrase.written->year / 100];
    }
    for (const auto& [century, count] : centuries) EXPECT_EQ(count, 10) << century;
  }
}

// No text, as the model sees it, means two things: not in one split, and not across them.
TEST(DatesSplits, NoTextHasTwoMeanings) {
  std::unordered_map<std::string, std::optional<Date>> meanings;
  meanings.reserve(1000000);
  for (const Split split : kSplits) {
    const Phrases phrases(split, 7);
    for (std::uint64_t i = 0; i < 500000; ++i) {
      const Phrase phrase = phrases(i);
      const auto [known, is_new] = meanings.try_emplace(lower(phrase.text), phrase.written);
      ASSERT_EQ(known->second, phrase.written) << phrase.text;
    }
  }
}

}  // namespace
