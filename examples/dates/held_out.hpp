// SPDX-License-Identifier: MIT
#pragma once
// Dates as programs, letters and invoices write them, that training never meets: neither these
// patterns nor others that make the same texts. Each says whether it holds a date, which is then to
// be read to the day, or not enough for one, and then nothing may be read. The fields are those of
// templates.hpp. Nothing is added to a text, and a text of more than kMaxLength characters is none.
#include <array>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "calendar.hpp"   // Date, days_in_month
#include "dice.hpp"       // Dice
#include "languages.hpp"  // Locale
#include "noise.hpp"      // kMaxLength
#include "phrases.hpp"    // Phrase, Kind
#include "render.hpp"     // render

namespace dates {

struct HeldOutFormat {
  std::string_view name;
  Locale locale;
  bool holds_date;
  std::string_view patterns;  // with '|' between them
};

inline constexpr std::array<HeldOutFormat, 26> kHeldOutFormats{{
    {"RFC 5322, mail", Locale::english, true,
     "%k, %d %i %Y %T %z|%k, %D %i %Y %T %z|%d %i %Y %T %z|Date: %k, %d %i %Y %T %z|"
     "%k, %D %i %Y %T GMT"},
    {"RFC 3339, UTC", Locale::english, true, "%Y-%N-%DT%TZ|%Y-%N-%DT%T.%0Z|%Y-%N-%Dt%Tz"},
    {"RFC 3339, offset", Locale::english, true, "%Y-%N-%DT%T%Z|%Y-%N-%DT%T.%3%Z|%Y-%N-%D %T%Z"},
    {"ISO 8601, basic", Locale::english, true,
     "%Y%N%DT%h%m%mZ|%Y%N%DT%h%m|%Y%N%DT%h%m%m%z|%Y%N%DT%h%m%m"},
    {"ISO 8601, ordinal", Locale::english, false, "%Y-%j|%Y%j|%Y-%jT%TZ|%Y-%jT%h:%m"},
    {"ISO 8601, week", Locale::english, false, "%Y-W%W-%u|%YW%W%u|%Y-W%W|%Y-W%W-%uT%h:%m"},
    {"syslog, RFC 3164", Locale::english, false,
     "%i %e %T %s sshd[%4]:|%i %e %T web1 su:|<%2>%i %e %T mymachine|%i %e %T localhost kernel:"},
    {"syslog, RFC 5424", Locale::english, true,
     "<%2>1 %Y-%N-%DT%T.%3Z host|<%2>1 %Y-%N-%DT%T%Z|%Y-%N-%DT%T.%3%Z host su"},
    {"Apache, access log", Locale::english, true,
     "[%D/%i/%Y:%T %z]|%D/%i/%Y:%T %z|- - [%D/%i/%Y:%T %z]|::1 - - [%D/%i/%Y:%T %z]"},
    {"Apache, error log", Locale::english, true,
     "[%k %i %D %T %Y]|[%k %i %D %T.%3%3 %Y]|[%k %i %D %T %Y] [error]"},
    {"git log", Locale::english, true,
     "Date:   %k %i %d %T %Y %z|%k %i %d %T %Y %z|Date: %k %i %d %T %Y %z"},
    {"git log --date=iso", Locale::english, true, "Date:   %Y-%N-%D %T %z|%Y-%N-%D %T %z"},

    {"letters, English", Locale::english, true,
     "Bristol, %B %d, %Y|Leeds, %d %B %Y|Chicago, %A, %B %d, %Y|York, %o %B %Y|Oxford, the %o of "
     "%B "
     "%Y"},
    {"letters, German", Locale::german, true,
     "Hamburg, den %d. %B %Y|Muenchen, %D.%N.%Y|Koeln, den %D.%N.%Y|Bonn, am %d. %B %Y|"
     "Zuerich, %d. %B %Y"},
    {"letters, French", Locale::french, true,
     "Nantes, le %o %B %Y|Toulouse, le %D/%N/%Y|Lille, %d %B %Y|Geneve, le %D.%N.%Y|"
     "Dijon, le %A %o %B %Y"},
    {"letters, Spanish", Locale::spanish, true,
     "Sevilla, %d de %B de %Y|Bilbao, a %d de %B de %Y|Toledo, %D/%N/%Y|Lima, el %d de %B de %Y"},
    {"letters, Italian", Locale::italian, true,
     "Torino, %d %B %Y|Napoli, li %d %B %Y|Genova, %D/%N/%Y|Bologna, il %o %B %Y"},
    {"letters, Dutch", Locale::dutch, true,
     "Rotterdam, %d %B %Y|Delft, %D-%N-%Y|Leiden, %A %d %B %Y|Gent, %d-%n-%Y"},
    {"letters, Portuguese", Locale::portuguese, true,
     "Coimbra, %d de %B de %Y|Braga, %D/%N/%Y|Faro, em %d de %B de %Y|Recife, %D de %B de %Y"},

    {"invoices, English", Locale::english, true,
     "Invoice no. %4 of %d %B %Y|Invoice date: %d %B %Y|Invoice %4/%2, %B %d, %Y|"
     "Payable by %B %d, %Y|Invoice date %Y-%N-%D"},
    {"invoices, German", Locale::german, true,
     "Rechnung Nr. %4 vom %d. %B %Y|Rechnungsdatum: %D.%N.%Y|Rechnung %4/%2 vom %D.%N.%Y|"
     "Zahlbar bis %D.%N.%Y|Rechnungsdatum %d. %B %Y"},
    {"invoices, French", Locale::french, true,
     "Facture no %4 du %d %B %Y|Date de facture : %D/%N/%Y|Facture no %4 du %D/%N/%Y|"
     "A payer avant le %d %B %Y|Date d'echeance : %D/%N/%Y"},
    {"invoices, Spanish", Locale::spanish, true,
     "Factura n. %4 de %d de %B de %Y|Fecha de factura: %D/%N/%Y|Factura %4/%2 del %D/%N/%Y|"
     "A pagar antes del %d de %B de %Y"},
    {"invoices, Italian", Locale::italian, true,
     "Fattura n. %4 del %D/%N/%Y|Data fattura: %D/%N/%Y|Fattura n. %4 del %d %B %Y|"
     "Da pagare entro il %d %B %Y|Scadenza fattura: %D/%N/%Y"},
    {"invoices, Dutch", Locale::dutch, true,
     "Factuur nr. %4 van %d %B %Y|Factuurdatum: %D-%N-%Y|Factuur %4/%2 van %d-%n-%Y|"
     "Te betalen voor %d %B %Y|Factuurdatum %d %B %Y"},
    {"invoices, Portuguese", Locale::portuguese, true,
     "Fatura n. %4 de %d de %B de %Y|Data da fatura: %D/%N/%Y|Fatura %4/%2 de %D/%N/%Y|"
     "A pagar ate %d de %B de %Y|Data de emissao: %D/%N/%Y"},
}};

// The years go through the centuries, and are those of training as well as those of the test.
[[nodiscard]] inline Phrase held_out_phrase(const HeldOutFormat& format, std::uint64_t index) {
  constexpr std::uint64_t seed = 3, centuries = (kLastYear + 1 - kFirstYear) / 100;
  constexpr std::uint32_t stream = 0xF0;
  const auto place = static_cast<std::uint32_t>(&format - kHeldOutFormats.data());
  Dice dice(seed, stream + place, index);
  const int year = kFirstYear + 100 * static_cast<int>(index % centuries) + dice.below(100);
  const int month = dice.between(1, 12);
  const Date date{year, month, dice.between(1, days_in_month(year, month))};
  std::string text;
  do text = render(dice.one_of(format.patterns, '|'), format.locale, date, dice);
  while (text.size() > kMaxLength);
  return {text, format.holds_date ? std::optional(date) : std::nullopt, -1,
          format.holds_date ? Kind::date : Kind::code};
}

}  // namespace dates
