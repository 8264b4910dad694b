// SPDX-License-Identifier: MIT
#pragma once
// The ways to write a date, or something that is none, and which of them are for training.
//   Of the date, after strftime:
//     %d 5     %D 05    %o 5th, in the language's manner
//     %n 3     %N 03    %B March    %b Mar    %p Mar., but May
//     %y 99    %Y 1999  %A Friday   %a Fri
//   Of anything else:
//     %1 %2 %3 %5 a number of up to 1, of up to 2, of 3 and of 5 digits    %0 two digits    %% %
//     %t 12:30    %w a word    %s a surname    %c a city
// Rules that every template keeps: between numbers '/' is month-first, '.' and '-' are day-first,
// all unless a four-digit year comes first; two-digit years are 1950 to 2049.
#include <string_view>
#include <vector>

#include "dice.hpp"       // item
#include "languages.hpp"  // Locale

namespace dates {

enum class Split { train, test };

// Dates, valid or impossible; dates that lack a year, a month or a day; and no dates at all.
enum class Kind { date, incomplete, other };

struct Template {
  Split split;
  Kind kind;
  Locale locale;
  std::string_view pattern;
};

namespace detail {

struct TemplateGroup {
  Kind kind;
  Locale locale;
  std::string_view train, test;  // with '|' between the patterns
};

// The test patterns are new as wholes, and so is each text that they make, before noise: no pattern
// for training makes the same but for the digits and the names, of whatever language. Their fields
// and words occur in training in the same language, their punctuation in some language.
inline constexpr TemplateGroup kTemplateGroups[] = {
    {Kind::date, Locale::any,
     "%d.%n.%y|%D.%N.%Y|%D.%N.%y|%d.%n.%Y|%d. %n. %Y|%d.%n.'%y|%n/%d/%y|%N/%D/%Y|%N/%D/%y|%n/%d/%Y|"
     "%n / %d / %Y|%Y-%N-%D|%Y/%N/%D|%Y-%n-%d|%Y%N%D|%D-%N-%Y|%d-%n-%Y|%d - %n - %Y|%d. %n. '%y|"
     "%n / %d / '%y|%d - %n - %y|%Y - %N - %D",
     "%d. %n. %y|%d-%n-%y|%D-%N-%y|%d - %n - '%y|%n/%d/'%y|%n / %d / %y|%Y.%N.%D|%Y / %N / %D"},
    {Kind::date, Locale::english,
     "%B %d, %Y|%B %o, %Y|%b %d, %Y|%b %d %y|%p %o, '%y|%B the %o, %Y|%d %b %y|%d %B %Y|%d %B '%y|"
     "%o %B %Y|%o of %B %Y|the %o of %B %Y|the %o of %b '%y|%o of %b, %y|%a, %o of %b %Y|"
     "%A, %B %d, %Y|%A %o %B %Y|%A the %o of %B, %Y|%A - %d %B %Y|%a %d %b %Y|%a, %d %b %Y|"
     "%a. %p %d, %y|%d %b %Y, %a|%B %d, %Y (%A)|%Y, %B %d|%Y %b %d|%D-%b-%Y|%d-%b-%y|%d/%b/%y|"
     "%b-%d-%Y|%D%b%Y|%Y-%b-%D|%a %n/%d/%y|%a, %D.%N.%Y|%A %Y-%N-%D",
     "%B %o %y|%p %d, '%y|%a %b %o, %Y|%A, the %o of %B %Y|%o %b '%y|%d %B, %Y|%A %n/%d/%Y|"
     "%Y %B %o|%b the %o, '%y|%o of %b, %y (%a)|%D %b %Y - %A|%b-%d-%y|%d/%b/%Y|%a. %Y-%N-%D"},
    {Kind::date, Locale::german,
     "%d. %B %Y|%d. %p %y|%d. %b %Y|%d %B %Y|%d.%B %y|%a., %d. %p %y|%A, %d. %B %Y|"
     "%A, den %d. %B %Y|den %d. %B '%y|am %d. %B %Y|am %A, %D.%N.%Y|%a %d.%n.%y|%a., %D.%N.%Y",
     "%a., den %d. %B %y|%a. %d. %b '%y|%A, den %D.%N.%y|am %A, %d. %p %Y|%d. %B %Y (%A)"},
    {Kind::date, Locale::french,
     "le %o %B %Y|%o %B %Y|%d %p %y|%A %o %B %Y|%a. %d %b %Y|le %A %d %B %Y|%A, %d %B '%y",
     "le %a. %o %b %y|%A, le %d %B %Y|le %o %B '%y"},
    {Kind::date, Locale::spanish,
     "%d de %B de %Y|%d de %b de %y|%o de %B de %Y|%A, %d de %B de %Y|el %d de %B de %Y|%d %p %Y|"
     "%a. %d %B %Y|%d de %B del %Y|%d-%b-%y",
     "el %A %d de %B de %Y|%a., %d de %p de %Y|%d de %B, %Y|%A %o de %B del %Y"},
    {Kind::date, Locale::italian,
     "%d %B %Y|%o %b %y|%A %d %B %Y|il %o %B %Y|%a. %d %p %Y|%d %b '%y|%A, il %d %B %Y",
     "il %d %b '%y|%A %o %b '%y|%a %d %B %y"},
    {Kind::date, Locale::dutch,
     "%d %B %Y|%d %p %y|%A %d %B %Y|%a. %d %b %Y|op %d %B %Y|%o %B '%y|%a %d-%n-%Y",
     "op %A %d %B %Y|%a. %d %p '%y|%A %d-%n-%y"},
    {Kind::date, Locale::portuguese,
     "%d de %B de %Y|%o de %b. de %y|%A, %d de %B de %Y|%a, %d %b %Y|em %d de %B de %Y|%d de %B %Y|"
     "%o %B %Y",
     "em %o de %B de %y|%A %d de %B, %Y|%a, %o de %b '%y"},

    {Kind::incomplete, Locale::any,
     "%D.%N.|%d.%n.|%d - %n|%n/%d|%n / %d|%N/%Y|%N-%Y|%N / %Y|%N. %Y|%Y-%N|%Y.%N|in %Y|year %Y|"
     "%Y/%Y|%Y-%Y",
     "%d. %n.|%N.%Y|%Y/%N|%Y - %Y"},
    {Kind::incomplete, Locale::english,
     "%B %Y|%d %B|%B %o|%a %d %b|%A, %B %d|the %o of %B|%b '%y|%b %Y|summer %Y|%A %Y|%A the %o|"
     "%d of %Y|the %o",
     "%B the %o|%B, %Y|%a, %b %o|%Y %B|%A, %d %b|the %o, %A"},
    {Kind::incomplete, Locale::german, "%d. %B|%B %Y|am %d. %p|%A, %d. %B|im %B '%y",
     "den %d. %B|im %B %Y|%a., %d. %b"},
    {Kind::incomplete, Locale::french, "le %o %B|%B %Y|%A %d %B|en %B %Y", "le %A %d %b|en %B '%y"},
    {Kind::incomplete, Locale::spanish, "%d de %B|%B de %Y|%A, %d de %b|%B del %Y",
     "el %d de %B|%A %d de %B"},
    {Kind::incomplete, Locale::italian, "%d %B|%B %Y|%A %o %b", "il %o %B|%A, il %d %B"},
    {Kind::incomplete, Locale::dutch, "%d %B|%B %Y|%A %o %b", "op %d %B|op %A %d %b"},
    {Kind::incomplete, Locale::portuguese, "%d de %B|%B de %Y|%A, %o de %b",
     "em %d de %B|em %B de %Y"},

    {Kind::other, Locale::english,
     "%w %w|%w %w %w|%w %w %w %w|%w: %w, %w|we may %w|we march on, %w|%w in %B|1%1:30|%t h|"
     "%w at %t|%t %w|%t - %t|from %t to %t|see you on %A|next %A|%A at %t|%A, %t|%s, %c|Dr. %s|"
     "%s and %s|call %s at %t|%w in %c|+%2 %3 %3 %3|tel. %3-%3-%3|%3 %3 %3|%3/%5|call %5%5|"
     "EUR %2.%0|$%2.%0|%3,%0 EUR|%3.%0 USD|v%1.%1.%1|version %1.%2|release %2.%1.%1|build %5|"
     "chapter %1.%1|%3.%3.%1.%3|room %2|gate %1|page %2 of %3|%1/%1 cup|%2-%1 points|%2 people|"
     "no. %2/%3|%2%% of %w|%2.%1 kg|%2 x %2 cm|order %5|order no. %5-%1|#%5|%w #%2|%w no. %2",
     "%w, %w %w|%w and %w|%s in %c|%t to %t|next %A at %t|%w on %A|we may call %s|tel. +%2 %3 %3|"
     "%3 %5|%2.%0 EUR|$%3.%0|version %1.%1.%1|%w v%1.%2|room %2 at %t|%w page %2|%2 - %1 points|"
     "%2%%|%2.%1 cm|order #%5|build %5-%1|%w %2 people"},
};

}  // namespace detail

// All of them; a template's place is its template_id.
[[nodiscard]] inline const std::vector<Template>& templates() {
  static const std::vector<Template> all = [] {
    std::vector<Template> result;
    for (const detail::TemplateGroup& group : detail::kTemplateGroups)
      for (const Split split : {Split::train, Split::test}) {
        const std::string_view list = split == Split::train ? group.train : group.test;
        for (int i = 0; i < count_items(list, '|'); ++i)
          result.push_back({split, group.kind, group.locale, item(list, '|', i)});
      }
    return result;
  }();
  return all;
}

}  // namespace dates
